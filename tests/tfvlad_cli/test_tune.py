"""The flags of a search, what is told of it, and its mistakes."""

import json
from inspect import signature
from pathlib import Path
from unittest import mock

import pytest

import tuning
from tests.tfvlad_cli.commands import assert_one_sentence, tfvlad
from tfvlad import train as tfvlad_train
from tfvlad_cli.train import train as train_command
from tfvlad_cli.tune import tune as tune_command
from tuning.hyper_models.measures import MEASURES
from tuning.results.trials import Trial
from tuning.running.search import ALGORITHMS

BEST = Trial("1", "completed", {"units": 3}, {"val_top1": 0.5}, 0.5, None, Path("trial_1"))


@pytest.fixture
def found(tmp_path):
    """What a search has found that is not run."""
    (tmp_path / "best").mkdir()
    result = mock.create_autospec(tuning.SearchResult, instance=True, best=BEST)
    result.run.folder = tmp_path / "best"
    result.to_dict.return_value = {"best": BEST.to_dict(), "trials": []}
    return result


@pytest.fixture
def tune(found, monkeypatch):
    called = mock.create_autospec(tuning.tune, return_value=found)
    monkeypatch.setattr(tuning, "tune", called)
    return called


def test_the_command_takes_every_argument():
    arguments = set(signature(tuning.tune).parameters) - {"data", "folder", "settings", "changes"}
    of_train = {option.name for option in train_command.params}
    options = {option.name: option for option in tune_command.params}
    # The command of a training calls its folder RUN.
    own = arguments - set(signature(tfvlad_train).parameters)
    assert set(options) - of_train == {"folder", *own}
    assert of_train - set(options) == {"run"}
    assert tuple(options["algorithm"].type.choices) == ALGORITHMS
    assert tuple(options["measure"].type.choices) == MEASURES


def test_nothing_given(tune, found, tmp_path):
    result = tfvlad("tune", tmp_path, "search")
    assert result.exit_code == 0, result.errors
    tune.assert_called_once_with(str(tmp_path), "search", split=1, seed=0)
    assert result.output == f"Test the best model once: tfvlad evaluate {tmp_path / 'best'}\n"


def test_flags_are_arguments(tune, tmp_path):
    result = tfvlad(
        *("tune", tmp_path, "search", "--space", "paper", "--algorithm", "hyperband"),
        *("--measure", "val_mAP", "--max-trials", 3, "--max-hours", 1.5),
        *("--max-parameters", 1e6, "--litert-latency", "--max-litert-ms", 20),
        *("--lists", tmp_path, "--split", 2, "--seed", 4, "--clusters", 8, "--no-cache"),
        *("--epochs", 3, 0, "--attend", "last-step", "--worker", "127.0.0.1:80", "a"),
    )
    assert result.exit_code == 0, result.errors
    tune.assert_called_once_with(
        str(tmp_path),
        "search",
        space="paper",
        algorithm="hyperband",
        measure="val_mAP",
        max_trials=3,
        max_hours=1.5,
        max_parameters=1e6,
        litert_latency=True,
        max_litert_ms=20,
        lists=str(tmp_path),
        split=2,
        seed=4,
        num_clusters=8,
        num_cached_crops=None,
        epochs=(3, 0),
        attend="last_step",
        worker=("127.0.0.1:80", "a"),
    )


def test_json(tune, tmp_path):
    result = tfvlad("tune", tmp_path, "search", "--json")
    assert json.loads(result.output) == BEST.to_dict()


def test_a_worker_has_nothing_to_say(tune, found, tmp_path):
    found.best = None
    result = tfvlad("tune", tmp_path, "search", "--json", "--worker", "127.0.0.1:80", "a")
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--split", 1, "--split", 2), "A search has one --split and one --seed. Received: 2 and"),
        (("--test-crops", 5), "`--test-crops` has no effect on a search. Received: test_crops=5."),
        (
            ("--chief", "localhost:1", "--worker", "localhost:1", "a"),
            "A process is `--chief` or `--worker`, not both.",
        ),
    ],
)
def test_refused_options(tmp_path, options, sentence):
    result = tfvlad("tune", tmp_path, tmp_path / "new", *options)
    assert_one_sentence(result, sentence)


@pytest.mark.parametrize("options", [("--chief", "localhost"), ("--worker", "localhost", "a")])
def test_an_address_without_a_port(tmp_path, options):
    result = tfvlad("tune", tmp_path, tmp_path / "new", *options)
    assert result.exit_code == 2
    assert "'localhost' is no HOST:PORT, such as 127.0.0.1:8000." in result.errors


def test_searches_need_their_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert_one_sentence(
        tfvlad("tune", tmp_path, "search"), 'Searches need the extra "tune": pip install "tfvlad['
    )
