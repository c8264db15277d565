import csv
import json
import logging
import re
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

import tuning
from pipelines.storage.owned_folder import OwnedFolder
from tests.pipelines.features.test_clips import make_set
from tests.tfvlad_cli.commands import write_parts
from tfvlad import FeatureSettings, VideoSettings
from tuning import settings_search
from tuning.results import report
from tuning.search_plan import fixed_values, with_values

pytestmark = pytest.mark.usefixtures("eagerly", "small_networks")

SMALL = VideoSettings(
    backbone="resnet18",
    weights=None,
    image_size=32,
    num_frames=2,
    num_cached_crops=1,
    batch_size=4,
    epochs=(1, 1),
)
FEATURES = FeatureSettings(
    max_epochs=2, units=4, matching_units=4, num_steps=2, num_attended=3, chunk_frames=4
)
BLOCKS = ("block1", "block2", "block3")


@pytest.fixture(scope="module", autouse=True)
def _in_this_process():
    """What cannot be switched off again stays out; the pictures have tests of their own."""
    with (
        mock.patch.object(tf.config.experimental, "enable_op_determinism"),
        mock.patch.object(report, "_draw", return_value={}),
    ):
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_parts(tmp_path_factory.mktemp("videos"), num_train=4, num_test=2)


def tune(data, folder, settings=SMALL, **changes):
    search = {"algorithm": "random", "max_trials": 2, "num_clusters": 3, "units": 3}
    return tuning.tune(data, folder, settings, **{**search, **changes})


@pytest.fixture(scope="module")
def found(data, tmp_path_factory):
    return tune(data, tmp_path_factory.mktemp("search") / "new")


class TestVideos:
    def test_what_is_given_is_fixed(self, found):
        assert [trial.status for trial in found.trials] == ["completed"] * 2
        for trial in found.trials:
            assert (trial.values["num_clusters"], trial.values["num_frames"]) == (3, 2)
        assert found.trials[0].values["alpha"] != found.trials[1].values["alpha"]

    def test_the_result(self, found):
        best = json.loads((found.folder / "best.json").read_text())
        assert found.to_dict()["best"] == best
        assert found.best.score == max(trial.score for trial in found.trials)
        assert len(found.to_dict()["trials"]) == 2
        assert json.dumps(found.to_dict())
        assert repr(found).startswith(f"SearchResult('{found.folder}': 2 trials, best: Trial(")
        with open(found.folder / "trials.csv") as file:
            rows = list(csv.DictReader(file))
        assert float(rows[0]["extraction_seconds"]) > 0

    def test_the_best_model_is_a_run(self, found):
        settings, values = found.run.settings, found.best.values
        for name in ("num_clusters", "alpha", "optimizer", "bidirectional", "attention"):
            assert getattr(settings, name) == values[name]
        assert settings.learning_rates[0] == values["stage1_learning_rate"]
        assert settings.num_stages == found.best.metrics["stages"]
        assert found.run.model.output_shape == (None, 2)
        assert found.run.evaluate().report.metrics["num_clips"] == 4

    def test_the_same_call_goes_on(self, found, data, caplog):
        caplog.set_level(logging.INFO, "tuning")
        before = (found.folder / "trials.csv").read_text()
        (found.folder / "best" / "mine.txt").touch()
        again = tune(data, found.folder)
        assert again == found
        assert "The search goes on. Trials done: 2." in caplog.text
        assert (found.folder / "trials.csv").read_text() == before
        assert (found.folder / "best" / "mine.txt").exists()

    def test_another_search_is_left_as_it_is(self, found, data):
        message = "holds a search with other settings and is left as it is (hyper_model.batch_size"
        with pytest.raises(ValueError, match=re.escape(message)):
            tune(data, found.folder, batch_size=3)

    def test_another_process_is_kept_out(self, found, data, tmp_path):
        lock = mock.patch.object(OwnedFolder, "locked", side_effect=OSError("in use"))
        with lock, pytest.raises(OSError, match="in use"):
            tune(data, tmp_path / "new")
        assert not (tmp_path / "new").exists()

    @pytest.mark.current
    def test_a_limit_of_latency(self, data, tmp_path):
        folder = tmp_path / "search"
        with pytest.raises(ValueError, match=r"No trial has a model; '.*trials\.csv' says why\."):
            tune(data, folder, max_litert_ms=1e-3, max_trials=1, epochs=(1, 0))
        (trial,) = tuning.read_trials(folder)
        assert trial.score == pytest.approx(1e-3 / trial.metrics["litert_ms"] - 1)
        assert not (folder / "best").exists()


def test_features(tmp_path):
    features = make_set(tmp_path / "features", num_frames=[8] * 12, num_channels=3)
    found = tuning.tune(features, tmp_path / "search", FEATURES, max_trials=1)
    settings = found.run.settings
    assert (settings.units, settings.num_steps, settings.num_attended) == (4, 2, 3)
    assert settings.max_epochs == 2
    for name in ("learning_rate", "attend", "dropout", "optimizer"):
        assert getattr(settings, name) == found.best.values[name]
    assert np.isfinite(found.run.evaluate().report.metrics["top1"])


def test_the_papers_space_is_a_grid(data, tmp_path):
    planned = mock.Mock(side_effect=InterruptedError)
    with mock.patch.object(settings_search, "search", planned), pytest.raises(InterruptedError):
        tuning.tune(data, tmp_path, SMALL, space="paper")
    hyper_model, training, validation, folder = planned.call_args.args
    assert planned.call_args.kwargs["algorithm"] == "grid"
    assert hyper_model.space is tuning.paper_space
    assert (len(training), len(validation), folder) == (6, 2, tmp_path)


def test_values_that_are_fixed():
    settings = VideoSettings(
        units=3, num_frames=8, learning_rates=(0.1, 0.01), freed_block="block2", attention=None
    )
    given = {"units", "learning_rates", "freed_block", "attention", "optimizer", "data", "epochs"}
    # In this order in every process: several of them share a search.
    assert list(fixed_values(settings, given, BLOCKS).items()) == [
        ("attention", True),
        ("units", 3),
        ("stage1_learning_rate", 0.1),
        ("stage2_learning_rate", 0.01),
        ("num_freed_blocks", 2),
    ]


def test_values_of_features_that_are_fixed():
    settings = FeatureSettings(units=3, attend="last_step", learning_rate=0.1, num_steps=5)
    given = {"attend", "learning_rate", "num_steps", "dropout", "max_epochs"}
    assert fixed_values(settings, given, ()) == {
        "attend": "last_step",
        "dropout": 0.5,
        "learning_rate": 0.1,
        "num_steps": 5,
    }


@pytest.mark.parametrize(
    ("settings", "values", "changes"),
    [
        (
            VideoSettings(epochs=(4, 2)),
            {"num_freed_blocks": 0, "units": 3},
            {"epochs": (4, 0), "units": 3},
        ),
        (
            VideoSettings(learning_rates=(0.1, 0.2)),
            {"num_freed_blocks": 3, "stage2_learning_rate": 0.5},
            {"freed_block": "block1", "learning_rates": (0.1, 0.5)},
        ),
        (
            FeatureSettings(),
            {"attend": "last_step", "learning_rate": 0.2},
            {"attend": "last_step", "learning_rate": 0.2},
        ),
    ],
)
def test_settings_that_values_stand_for(settings, values, changes):
    assert with_values(settings, values, BLOCKS) == replace(settings, **changes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"test_crops": 5}, "`test_crops` has no effect on a search. Received: test_crops=5."),
        (
            {"model": "average-pooling"},
            "`model` must be one of ta-vlad, action-vlad, two-stream, attention-lstm in a search. "
            "Received: model='average-pooling'.",
        ),
        (
            {"model": "action-vlad", "units": 3},
            "`units` has no effect on model='action-vlad'. Received: units=3. Leave it out.",
        ),
        (
            {"model": "action-vlad", "space": "paper"},
            "`space` 'paper' is of the model 'ta-vlad'. Received: model='action-vlad'.",
        ),
        ({"space": "small"}, '`space` must be "full", "paper" or a function. Received: space=\''),
        ({"num_cached_crops": None}, "`num_cached_crops` must be a number: the trials of a search"),
        ({"attended": "."}, "`attended` has no effect on model='ta-vlad'. Received: attended='.'."),
        (
            {"algorithm": "annealing"},
            "`algorithm` must be one of random, bayesian, hyperband, grid",
        ),
        ({"max_parameters": 0}, "`max_parameters` must be positive. Received: max_parameters=0."),
        ({"max_litert_ms": -1}, "`max_litert_ms` must be positive. Received: max_litert_ms=-1."),
        ({"cluster": 3}, "`cluster` is no setting of VideoSettings."),
        (
            {"chief": "localhost:1", "worker": ("localhost:1", "a")},
            "A process is `chief` or `worker`, not both.",
        ),
    ],
)
def test_arguments(data, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        tuning.tune(data, tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists() or list((tmp_path / "new").glob("[!.]*")) == []


@pytest.mark.parametrize(
    ("name", "value"), [("cache", "cache"), ("litert_latency", True), ("max_litert_ms", 3.0)]
)
def test_arguments_without_effect_on_features(tmp_path, name, value):
    features = make_set(tmp_path / "features", num_frames=[8] * 2)
    message = f"`{name}` has no effect on model='attention-lstm'. Received: {name}={value!r}."
    with pytest.raises(ValueError, match=re.escape(message)):
        tuning.tune(features, tmp_path / "new", **{name: value})


def test_latency_needs_litert(data, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'LiteRT needs the extra "export": pip install "tfvlad'):
        tuning.tune(data, tmp_path / "new", litert_latency=True)


def test_a_folder_of_other_things(data, tmp_path):
    (tmp_path / "best").mkdir()
    message = "is not empty and does not hold a search: it has no search.json, but best. Choose a"
    with pytest.raises(ValueError, match=message):
        tuning.tune(data, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
