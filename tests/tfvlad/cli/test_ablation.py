"""Variants of a model over splits and seeds, by the command."""

import csv
import json
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from tests.tfvlad.cli.commands import assert_one_sentence, tfvlad, write_video
from tfvlad.cli.ablation import variant_options
from tfvlad.cli.ablation_report import StudyRow, study_figure

pytestmark = pytest.mark.usefixtures("eagerly")

SMALL = (
    *("--backbone", "resnet18", "--weights", "none", "--image-size", 32, "--frames", 2),
    *("--clusters", 4, "--units", 4, "--epochs", 1, 0, "--cached-crops", 1, "--batch-size", 4),
)
VARIANTS = "average-pooling", "action-vlad:clusters=3"


def ablation(data, folder, *options, variants=VARIANTS):
    chosen = [part for variant in variants for part in ("--variant", variant)]
    # What it switches on cannot be switched off again: it stays out of this process.
    with mock.patch.object(tf.config.experimental, "enable_op_determinism"):
        return tfvlad("ablation", data, folder, *SMALL, *chosen, *options)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Videos and two official splits of them."""
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


@pytest.fixture(scope="module")
def study(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    options = ("--lists", data / "splits", "--split", 1, "--split", 2, "--json")
    result = ablation(data / "videos", folder, *options)
    assert result.exit_code == 0, result.errors
    return folder, options, result


def test_rows(study):
    folder, _, result = study
    rows = json.loads(result.output)["variants"]
    assert [row["variant"] for row in rows] == list(VARIANTS)
    assert rows[0]["difference"] == rows[0]["low"] == rows[0]["high"] == 0
    for row, place in zip(rows, ("average-pooling", "action-vlad-clusters-3"), strict=True):
        top1 = []
        for split in (1, 2):
            with np.load(folder / place / f"split{split}-seed0" / "scores.npz") as scores:
                top1.append(np.mean(scores["logits"].argmax(axis=-1) == scores["labels"]))
        assert row["num_runs"] == 2
        assert row["mean"] == pytest.approx(np.mean(top1))
        assert row["spread"] == pytest.approx(np.std(top1, ddof=1))
    assert rows[1]["difference"] == pytest.approx(rows[1]["mean"] - rows[0]["mean"])
    assert rows[1]["low"] <= rows[1]["difference"] <= rows[1]["high"]


def test_variants_change_the_training(study):
    folder = study[0]
    configs = [
        json.loads((folder / place / "split1-seed0" / "config.json").read_text())
        for place in ("average-pooling", "action-vlad-clusters-3")
    ]
    assert [config["model"] for config in configs] == ["average-pooling", "action-vlad"]
    assert [config["model_options"]["num_clusters"] for config in configs] == [4, 3]


def test_files(study):
    folder, _, result = study
    assert {path.name for path in folder.iterdir()} == {
        *("average-pooling", "action-vlad-clusters-3", "features", "videos.json"),
        *("ablation.csv", "ablation.json", "ablation.png"),
    }
    assert json.loads((folder / "ablation.json").read_text()) == json.loads(result.output)
    with open(folder / "ablation.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["variant"] for row in rows] == list(VARIANTS)
    assert "action-vlad:clusters=3, split 2, seed 0 (4 of 4)" in result.errors


def test_goes_on(data, study):
    """Finished runs are left as they are, and a variant is added."""
    folder, options, _ = study
    marker = folder / "average-pooling" / "split1-seed0" / "state.npz"
    before = marker.stat().st_mtime_ns
    result = ablation(
        data / "videos", folder, *options, variants=[*VARIANTS, "flattened-gru:units=3"]
    )
    assert result.exit_code == 0, result.errors
    assert marker.stat().st_mtime_ns == before
    rows = json.loads(result.output)["variants"]
    assert [row["variant"] for row in rows] == [*VARIANTS, "flattened-gru:units=3"]


def test_other_settings(data, study):
    folder, options, _ = study
    result = ablation(data / "videos", folder, *options, "--dropout", 0.25)
    assert result.exit_code == 1
    assert "dropout: 0.5 there, 0.25 here" in result.errors.splitlines()[-1]


@pytest.mark.parametrize(
    ("variant", "sentence"),
    [
        ("vlad", "'vlad' is none of action-vlad, vlad-gru"),
        ("ta-vlad:depth=3", "'depth=3' is no option=value of `tfvlad train` for one variant"),
        ("ta-vlad:seed=5", "'seed=5' is no option=value"),
        ("ta-vlad:test-crops=5", "'test-crops=5' is no option=value"),
        ("average-pooling:clusters=256", "'clusters=256' has no effect on average-pooling"),
        ("ta-vlad:epochs=15", "2 values are required, but 1 was given"),
        ("ta-vlad:clusters", "'clusters' is no option=value of `tfvlad train`"),
        ("ta-vlad:clusters=0", "0 is not in the range x>=1"),
        ("ta-vlad:alpha=sharp", "'sharp' is neither a positive number"),
    ],
)
def test_unknown_variants(data, tmp_path, variant, sentence):
    result = tfvlad("ablation", data / "videos", tmp_path / "study", "--variant", variant)
    assert result.exit_code == 2
    assert sentence in result.errors.splitlines()[-1]


def test_options_with_two_values():
    options = variant_options("ta-vlad:epochs=15 0,decay-epochs=5 8,learning-rates=1e-3 1e-4")
    assert (options["epochs"], options["decay_epochs"]) == ((15, 0), (5, 8))
    assert options["learning_rates"] == (1e-3, 1e-4)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--no-attention",), "--attention has no effect on an ablation: its variants say it"),
        (("--stack-frames", 3), "--stack-frames has no effect on --stream rgb"),
        (("--variant", "ta-vlad:epochs=1 1"), "All variants must have as many stages"),
        (("--variant", "ta-vlad:recipe=hollywood2"), "--recipe must be ta-vlad or action-vlad"),
    ],
)
def test_options_that_do_not_fit(data, tmp_path, options, sentence):
    assert_one_sentence(ablation(data / "videos", tmp_path / "study", *options), sentence)
    assert not (tmp_path / "study").exists()


def test_other_test_views(data, study):
    """Finished runs are tested again, and not trained again."""
    folder, options, _ = study
    place = folder / "action-vlad-clusters-3" / "split1-seed0"
    state = (place / "state.npz").stat().st_mtime_ns
    with np.load(place / "scores.npz") as scores:
        before = scores["logits"]
    result = ablation(
        data / "videos", folder, *options[:4], "--test-crops", 5, "--one-bag", variants=VARIANTS
    )
    assert result.exit_code == 0, result.errors
    assert (place / "state.npz").stat().st_mtime_ns == state
    with np.load(place / "scores.npz") as scores:
        assert np.abs(scores["logits"] - before).max() > 1e-4


def test_mistakes(data, tmp_path):
    result = tfvlad("ablation", data / "videos", tmp_path / "s", "--split", 1, "--split", 2)
    assert_one_sentence(result, "Several --split need --lists")
    (tmp_path / "thesis.tex").touch()
    result = tfvlad("ablation", data / "videos", tmp_path)
    assert_one_sentence(result, "is not empty and is no run folder")


def test_figure():
    rows = [
        StudyRow("first", 0.5, 0.01, 0.0, 0.0, 0.0, 3, 10.0),
        StudyRow("second", 0.6, 0.02, 0.1, 0.04, 0.17, 3, 10.0),
    ]
    axis = study_figure(rows).axes[0]
    assert [bar.get_width() for bar in axis.patches] == [50, 60]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["first", "second"]
    (errors,) = [c for c in axis.collections if len(c.get_segments()) == 2]
    np.testing.assert_allclose(errors.get_segments()[1][:, 0], [54, 67])
