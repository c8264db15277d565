"""Searches that are killed, and searches of several processes."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

import tfvlad
import tuning
from tests.tfvlad_cli.commands import write_parts

pytestmark = pytest.mark.slow

OPTIONS = (
    *("--backbone", "resnet18", "--weights", "none", "--image-size", 32, "--frames", 2),
    *("--cached-crops", 1, "--batch-size", 4, "--clusters", 3, "--algorithm", "random"),
    *("--epochs", 3, 0, "--max-trials", 4),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_parts(tmp_path_factory.mktemp("videos"), num_train=4, num_test=2)


def start(data, folder, *options):
    arguments = map(str, ("tune", data, folder, *OPTIONS, *options))
    return subprocess.Popen(
        [sys.executable, "-c", "from tfvlad_cli.main import main; main()", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def num_completed(folder):
    return sum(trial.status == "completed" for trial in tuning.read_trials(folder))


def is_training(trial):
    return (trial.folder / "history.csv").exists()


def finish(process):
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return output + errors


def test_a_killed_search_goes_on(data, tmp_path):
    folder = tmp_path / "search"
    process = start(data, folder)
    wait_for(lambda: num_completed(folder) == 1)
    wait_for(lambda: len(trials := tuning.read_trials(folder)) > 1 and is_training(trials[1]))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = tuning.read_trials(folder)
    assert [trial.status for trial in before] == ["completed", "running"]
    rows = (before[1].folder / "history.csv").read_text().splitlines()
    written = (before[0].folder / "history.csv").stat().st_mtime_ns
    told = finish(start(data, folder))
    assert "The search goes on. Trials done: 1." in told
    trials = tuning.read_trials(folder)
    assert [trial.status for trial in trials] == ["completed"] * 4
    assert (trials[0].folder / "history.csv").stat().st_mtime_ns == written
    # The finished epochs are not trained again: their seconds are those of then.
    assert (trials[1].folder / "history.csv").read_text().splitlines()[: len(rows)] == rows
    assert trials[1].metrics["epochs"] == 3
    assert sum(trial.metrics["extraction_seconds"] for trial in trials[1:]) == 0
    with open(folder / "trials.csv") as file:
        assert len(list(csv.DictReader(file))) == 4


def test_workers_share_a_search(data, tmp_path):
    folder = tmp_path / "search"
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    first = start(data, folder, "--worker", address, "first")
    assert any("Waiting for the chief" in line for line in iter(first.stderr.readline, ""))
    chief = start(data, folder, "--chief", address, "--json")
    second = start(data, folder, "--worker", address, "second")
    wait_for(lambda: num_completed(folder) >= 1)
    # A worker that is killed goes on under its name.
    second.send_signal(signal.SIGKILL)
    told = second.communicate()[1]
    again = finish(start(data, folder, "--worker", address, "second"))
    assert "Trial " in finish(first)
    assert "Trial " in told + again
    output = finish(chief)
    trials = tuning.read_trials(folder)
    assert [trial.status for trial in trials] == ["completed"] * 4
    best = json.loads((folder / "best.json").read_text())
    assert json.dumps(best) in output
    assert best["score"] == max(trial.score for trial in trials)
    assert tfvlad.load(folder / "best").model.output_shape == (None, 2)
