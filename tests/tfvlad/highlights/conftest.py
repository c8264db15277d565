"""A video and what is known of it."""

import numpy as np
import pytest

from pipelines.video.codec.decoding import check_video
from pipelines.video.codec.encoding import write_video


@pytest.fixture(scope="package")
def long_video(tmp_path_factory):
    """27 frames of noise at 10 a second, bright from frame 14 on."""
    path = tmp_path_factory.mktemp("videos") / "long.mp4"
    noise = np.random.default_rng(0).integers(0, 100, (27, 72, 72, 3)).astype("uint8")
    noise[14:] += 150
    write_video(path, noise, 10)
    return path


@pytest.fixture(scope="package")
def info(long_video):
    return check_video(str(long_video))
