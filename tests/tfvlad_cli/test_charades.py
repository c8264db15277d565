"""From Charades' lists to its official measure, by the commands."""

import json
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from tests.tfvlad_cli.commands import tfvlad, write_video
from tfvlad.evaluation import ScoreFile, mean_average_precision, write_scores

pytestmark = pytest.mark.usefixtures("eagerly", "small_networks")

SMALL = (
    *("--backbone", "resnet18", "--weights", "none", "--image-size", 32, "--frames", 2),
    *("--clusters", 3, "--epochs", 1, 0, "--cached-crops", 1, "--batch-size", 4),
)
ACTIONS = ("c000 0.00 0.30;c001 0.10 0.50", "c001 0.00 0.40", "c000 0.00 0.40", "")


def write_charades(folder):
    """Two actions; a video of each list has none."""
    (folder / "Charades_v1_classes.txt").write_text("c000 Holding a cup\nc001 Sitting\n")
    for part, count in (("train", 8), ("test", 4)):
        rows = ["id,subject,actions,length"]
        for i in range(count):
            name = f"{part.upper()}{i}"
            write_video(folder / f"{name}.mp4", i % 2, seed=i)
            rows.append(f"{name},P{i},{ACTIONS[i % 4]},0.60")
        (folder / f"Charades_v1_{part}.csv").write_text("\n".join(rows) + "\n")


def test_training(tmp_path):
    (tmp_path / "charades").mkdir()
    write_charades(tmp_path / "charades")
    run = tmp_path / "run"
    with mock.patch.object(tf.config.experimental, "enable_op_determinism"):
        result = tfvlad(
            *("train", tmp_path / "charades", run, "--lists", tmp_path / "charades"),
            *("--model", "action-vlad", *SMALL, "--json"),
        )
    assert result.exit_code == 0, result.errors
    with np.load(run / "scores.npz") as scores:
        logits, labels, clips = scores["logits"], scores["labels"], scores["clips"]
    assert logits.shape == labels.shape == (4, 2)
    np.testing.assert_array_equal(labels, [[1, 1], [0, 1], [1, 0], [0, 0]])

    write_scores(tmp_path / "scores.txt", ScoreFile(logits, clips=tuple(map(str, clips))))
    official = tmp_path / "charades" / "Charades_v1_test.csv"
    result = tfvlad("fuse", tmp_path / "scores.txt", "--labels", official, "--json")
    assert result.exit_code == 0, result.errors
    expected = mean_average_precision(logits, labels, unlabeled_last=True)
    np.testing.assert_allclose(json.loads(result.output)["fused"]["mAP"], expected)
