"""Small videos for trainings, and two official splits of them."""

from unittest import mock

import pytest
import tensorflow as tf

from tests.tfvlad_cli.commands import write_video

# Of quick trainings.
SMALL = {
    **{"backbone": "resnet18", "weights": None, "image_size": 32, "num_frames": 2},
    **{"epochs": (1, 0), "num_cached_crops": 1, "batch_size": 4},
}


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for color, name in enumerate(("green", "red")):
        for i in range(6):
            write_video(folder / "videos" / name / f"{name}{i}.mp4", 1 - color, seed=i)
        for split in (1, 2):
            parts = [f"{name}{i}.mp4 {1 + (i % 3 == split)}" for i in range(6)]
            lists = folder / "splits" / f"{name}_test_split{split}.txt"
            lists.parent.mkdir(exist_ok=True)
            lists.write_text("\n".join(parts) + "\n")
    return folder


@pytest.fixture(scope="module", autouse=True)
def not_deterministic():
    """What a training switches on cannot be switched off again: it stays out of this process."""
    with mock.patch.object(tf.config.experimental, "enable_op_determinism"):
        yield
