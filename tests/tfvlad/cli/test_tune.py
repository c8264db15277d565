"""A search by the command, and what other commands do with its best model."""

import csv
import json
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tfvlad.cli.commands import assert_one_sentence, tfvlad, write_parts
from tfvlad.cli.tuning_run import _fixed, _with_values

pytestmark = pytest.mark.usefixtures("eagerly")

SMALL = (
    *("--backbone", "resnet18", "--weights", "none", "--image-size", 32, "--frames", 2),
    *("--cached-crops", 1, "--batch-size", 4),
)
SEARCH = ("--max-trials", 2, "--epochs", 1, 1, "--clusters", 3, "--algorithm", "random")


def tune(data, folder, *options):
    # What it switches on cannot be switched off again: it stays out of this process.
    with mock.patch.object(tf.config.experimental, "enable_op_determinism"):
        return tfvlad("tune", data, folder, *SMALL, *options)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_parts(tmp_path_factory.mktemp("videos"), num_train=4, num_test=2)


@pytest.fixture(scope="module")
def searched(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("search") / "new"
    result = tune(data, folder, *SEARCH, "--json")
    assert result.exit_code == 0, result.errors
    return folder, result


class TestTune:
    def test_it_writes_the_search(self, searched):
        folder, result = searched
        best = json.loads((folder / "best.json").read_text())
        assert json.loads(result.output) == best
        assert (best["values"]["num_clusters"], best["values"]["num_frames"]) == (3, 2)  # as given
        with open(folder / "trials.csv") as file:
            rows = list(csv.DictReader(file))
        assert [row["status"] for row in rows] == ["completed"] * 2
        assert float(rows[0]["extraction_seconds"]) > 0
        assert "2 classes, one label a clip: 6 training, 2 validation clips" in result.errors
        assert "Trial 1 (of 2): " in result.errors

    def test_the_best_model_is_a_run(self, data, searched):
        folder, _ = searched
        best = json.loads((folder / "best.json").read_text())
        config = json.loads((folder / "best" / "config.json").read_text())
        values = {**best["values"], **config["model_options"]}
        assert config["model_options"]["num_clusters"] == best["values"]["num_clusters"]
        assert values["alpha"] == best["values"]["alpha"]
        stages = config["training"]["stages"]
        assert stages[0]["learning_rate"] == best["values"]["stage1_learning_rate"]
        assert stages[0]["optimizer"] == best["values"]["optimizer"]
        assert len(stages) == best["metrics"]["stages"]
        tested = tfvlad("evaluate", folder / "best", "--json")
        assert tested.exit_code == 0, tested.errors
        measures = json.loads(tested.output)
        assert measures["num_clips"] == 4
        model = keras.models.load_model(folder / "best" / "model.keras")
        assert model.output_shape == (None, 2)

    def test_the_same_command_goes_on(self, data, searched):
        folder, _ = searched
        before = (folder / "trials.csv").read_text()
        result = tune(data, folder, *SEARCH)
        assert "The search goes on. Trials done: 2." in result.output
        assert (folder / "trials.csv").read_text() == before
        assert (folder / "best" / "evaluation" / "scores.npz").exists()  # of the test above
        changed = tune(data, folder, *SEARCH, "--batch-size", 3)
        assert changed.exit_code == 1
        assert "holds another search and is left as it is (it has another hyper_model)" in (
            changed.errors
        )

    @pytest.mark.current
    def test_litert_latency(self, data, tmp_path):
        limit = ("--max-litert-ms", 1e-3, "--space", "paper", "--clusters", 2, "--units", 3)
        result = tune(data, tmp_path / "search", *limit, "--epochs", 1, 0)
        assert result.exit_code == 1
        assert "No trial has a model; " in result.errors
        assert "is over a limit and was not trained" in result.output
        with open(tmp_path / "search" / "trials.csv") as file:
            row = next(csv.DictReader(file))
        assert float(row["score"]) == pytest.approx(1e-3 / float(row["litert_ms"]) - 1)
        assert not (tmp_path / "search" / "best").exists()


BLOCKS = ("block1", "block2", "block3")


def test_given_options_are_fixed_values():
    options = {
        "units": 3,
        "num_frames": 8,
        "learning_rates": (0.1, 0.01),
        "freed_block": "block2",
        "attend": "last-step",
        "dropout": 0.5,
    }
    given = {"units", "learning_rates", "freed_block", "attend", "data", "epochs"}
    # In this order in every process: several of them share a search.
    assert list(_fixed(options, given, BLOCKS).items()) == [
        ("attend", "last_step"),
        ("units", 3),
        ("stage1_learning_rate", 0.1),
        ("stage2_learning_rate", 0.01),
        ("num_freed_blocks", 2),
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"num_freed_blocks": 0, "units": 3}, {"epochs": (4, 0), "units": 3}),
        (
            {"num_freed_blocks": 3, "stage2_learning_rate": 0.5},
            {"freed_block": "block1", "learning_rates": (0.1, 0.5)},
        ),
        ({"attend": "every_step", "learning_rate": 0.2}, {"attend": "every-step"}),
    ],
)
def test_values_are_options_of_train(values, expected):
    options = {
        "units": 256,
        "epochs": (4, 2),
        "learning_rates": (0.1, 0.01),
        "freed_block": None,
        "attend": "last-step",
        "learning_rate": None,
    }
    chosen = _with_values(options, values, BLOCKS)
    assert {name: chosen[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--split", 1, "--split", 2), "A search has one --split and one --seed. Received: 2 and"),
        (("--test-crops", 5), "--test-crops has no effect on a search. Leave it out."),
        (("--model", "action-vlad", "--space", "paper"), "--space paper is TA-VLAD's. Received: "),
        (
            ("--chief", "localhost:1", "--worker", "localhost:1", "a"),
            "A process is --chief or --worker, not both.",
        ),
        (
            ("--model", "action-vlad", "--units", 3),
            "--units has no effect on --model action-vlad. Leave it out.",
        ),
        (("--model", "attention-lstm"), "--model attention-lstm learns from features: make them"),
    ],
)
def test_refused_options(data, tmp_path, options, sentence):
    assert_one_sentence(tfvlad("tune", data, tmp_path / "new", *options), sentence)
    assert not (tmp_path / "new").exists()


def test_a_folder_of_other_things(data, tmp_path):
    (tmp_path / "best").mkdir()
    sentence = "is not empty and holds no search: it has no search.json, but best. Choose a new"
    assert_one_sentence(tfvlad("tune", data, tmp_path), sentence)
    assert list(tmp_path.iterdir()) == [tmp_path / "best"]


def test_an_address_without_a_port(data, tmp_path):
    result = tfvlad("tune", data, tmp_path / "new", "--chief", "localhost")
    assert result.exit_code == 2
    assert "'localhost' is no HOST:PORT, such as 127.0.0.1:8000." in result.errors


def test_features(tmp_path, data):
    features = tmp_path / "features"
    made = tfvlad(
        *("features", data, features, "--network", "resnet18", "--weights", "none"),
        *("--image-size", 32, "--frame-step", 1),
    )
    assert made.exit_code == 0, made.errors
    with mock.patch.object(tf.config.experimental, "enable_op_determinism"):
        result = tfvlad(
            *("tune", features, tmp_path / "search", "--model", "attention-lstm"),
            *("--max-trials", 2, "--max-epochs", 2, "--units", 4, "--matching-units", 4),
            *("--steps", 2, "--attended-steps", 3, "--chunk-frames", 4, "--json"),
        )
    assert result.exit_code == 0, result.errors
    best = json.loads(result.output)
    config = json.loads((tmp_path / "search" / "best" / "config.json").read_text())
    assert config["model_options"]["units"] == 4
    assert config["num_steps"] == [2, 3]
    assert config["training"]["stage"]["learning_rate"] == best["values"]["learning_rate"]
    tested = tfvlad("evaluate", tmp_path / "search" / "best", "--json")
    assert tested.exit_code == 0, tested.errors
    assert np.isfinite(json.loads(tested.output)["mAP"])
