import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import PROJECT
from tuning.results.trials import (
    Trial,
    best_trials,
    measured_trials,
    pareto_front,
    read_trials,
    varying_values,
)


def write_trial(
    folder, trial_id, values=None, metrics=None, *, status="COMPLETED", score=None, message=None
):
    """Writes a trial.json as KerasTuner does; a list of metrics is the epochs of one."""
    histories = {
        name: {
            "direction": "min",
            "observations": [
                {"value": [value], "step": step}
                for step, value in enumerate(found if isinstance(found, list) else [found])
            ],
        }
        for name, found in (metrics or {}).items()
    }
    state = {
        "trial_id": trial_id,
        "hyperparameters": {"space": [], "values": values or {}},
        "metrics": {"metrics": histories},
        "score": score,
        "best_step": 0,
        "status": status,
        "message": message,
    }
    path = folder / "trials" / f"trial_{trial_id}" / "trial.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(state))
    return path


def make_trial(number, *, values=None, status="completed", score=None, **metrics):
    return Trial(f"{number:02}", status, values or {}, metrics, score, None, Path())


def ids(trials):
    return [trial.trial_id for trial in trials]


class TestReadTrials:
    def test_all_of_a_trial(self, tmp_path):
        path = write_trial(
            tmp_path,
            "07",
            {"num_clusters": 64, "tuner/epochs": 3, "tuner/trial_id": "02", "optimizer": "adam"},
            {"val_top1": [0.2, 0.6, 0.5], "parameters": 1e6, "val_mAP": []},
            score=0.6,
        )
        assert read_trials(tmp_path) == [
            Trial(
                "07",
                "completed",
                {"num_clusters": 64, "optimizer": "adam"},
                {"val_top1": 0.5, "parameters": 1e6},
                0.6,
                None,
                path.parent,
            )
        ]

    def test_mean_of_executions(self, tmp_path):
        path = write_trial(tmp_path, "0", metrics={"val_top1": 0.5})
        path.write_text(path.read_text().replace("[0.5]", "[0.5, 0.25]"))
        assert read_trials(str(tmp_path))[0].metrics == {"val_top1": 0.375}

    def test_in_the_order_of_numbers(self, tmp_path):
        for trial_id in ("100", "02", "11", "9"):
            write_trial(tmp_path, trial_id)
        assert ids(read_trials(tmp_path)) == ["02", "9", "11", "100"]

    @pytest.mark.parametrize(
        ("kept", "status"),
        [
            ("COMPLETED", "completed"),
            ("RUNNING", "running"),
            ("INVALID", "failed"),
            ("FAILED", "failed"),
        ],
    )
    def test_status(self, tmp_path, kept, status):
        write_trial(tmp_path, "0", status=kept)
        assert read_trials(tmp_path)[0].status == status

    @pytest.mark.parametrize(
        ("error", "line"),
        [
            ("FloatingPointError: The loss is nan.\n", "FloatingPointError: The loss is nan."),
            ("MemoryError: OOM\n\nDetected at node\n\t [[x]]\n", "MemoryError: OOM"),
            (
                "KeyError: 1\n\nDuring handling of it, another exception occurred:\n\n"
                'Traceback (most recent call last):\n  File "b.py"\nValueError: second',
                "ValueError: second",
            ),
        ],
    )
    def test_error_of_a_traceback(self, tmp_path, error, line):
        message = f'Traceback (most recent call last):\n  File "a.py", line 1\n    f()\n{error}'
        write_trial(tmp_path, "0", status="FAILED", message=message)
        assert read_trials(tmp_path)[0].message == line

    @pytest.mark.parametrize(("message", "line"), [("stopped", "stopped"), ("", None)])
    def test_message_without_traceback(self, tmp_path, message, line):
        write_trial(tmp_path, "0", message=message)
        assert read_trials(tmp_path)[0].message == line

    @settings(deadline=None, max_examples=40)
    @given(st.floats(0, 1, exclude_max=True))
    def test_half_written(self, share):
        with tempfile.TemporaryDirectory() as folder:
            path = write_trial(Path(folder), "00", {"units": 64}, {"val_top1": 0.5})
            write_trial(Path(folder), "01")
            path.write_text(path.read_text()[: int(share * len(path.read_text()))])
            assert ids(read_trials(folder)) == ["01"]

    def test_before_the_first_trial(self, tmp_path):
        assert read_trials(tmp_path) == []
        (tmp_path / "trials" / "trial_0").mkdir(parents=True)
        assert read_trials(tmp_path) == []


class TestBestTrials:
    def test_highest_completed(self):
        trials = [
            make_trial(0, score=0.5),
            make_trial(1, score=0.9, status="running"),
            make_trial(2, score=0.7),
            make_trial(3, score=0.7),
            make_trial(4, status="failed"),
            make_trial(5, score=-2.0),
        ]
        assert ids(best_trials(trials)) == ["02"]
        assert ids(best_trials(trials, 3)) == ["02", "03", "00"]
        assert ids(best_trials(trials, 9)) == ["02", "03", "00", "05"]
        assert best_trials([]) == []

    def test_error(self):
        with pytest.raises(ValueError, match=r"`n` must be a positive integer. Received: n=0\."):
            best_trials([], 0)


def test_measured_trials():
    trials = [
        make_trial(0, val_top1=0.5, seconds=1.0),
        make_trial(1, val_top1=0.5),
        make_trial(2, val_top1=0.5, seconds=float("nan")),
        make_trial(3, val_top1=0.5, seconds=1.0, status="running"),
        make_trial(4, val_top1=0.0, seconds=0.0),
    ]
    assert ids(measured_trials(trials, "val_top1", "seconds")) == ["00", "04"]
    assert ids(measured_trials(trials, "val_top1")) == ["00", "01", "02", "04"]


def test_varying_values():
    first = {"units": 64, "dropout": 0.5, "attention": True}
    trials = [make_trial(0, values=first), make_trial(1, values={**first, "attention": False})]
    assert varying_values(trials) == ["attention"]
    trials.append(make_trial(2, values={**trials[0].values, "stage2_learning_rate": 1e-4}))
    assert varying_values(iter(trials)) == ["attention", "stage2_learning_rate"]
    assert varying_values([]) == []


class TestParetoFront:
    def test_cheapest_to_best(self):
        trials = [
            make_trial(0, val_top1=0.9, parameters=30),
            make_trial(1, val_top1=0.5, parameters=10),
            make_trial(2, val_top1=0.5, parameters=20),
            make_trial(3, val_top1=0.4, parameters=10),
            make_trial(4, val_top1=0.9, parameters=30),
            make_trial(5, val_top1=0.95, parameters=5, status="failed"),
            make_trial(6, val_top1=0.6, parameters=20),
            make_trial(7, val_top1=1.0),
        ]
        assert ids(pareto_front(trials)) == ["01", "06", "00"]

    def test_other_metrics(self):
        trials = [make_trial(0, val_mAP=0.5, ms=4), make_trial(1, val_mAP=0.4, ms=3)]
        assert ids(pareto_front(trials, "val_mAP", "ms")) == ["01", "00"]
        assert pareto_front(trials) == []

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9))))
    def test_nothing_beats_the_front(self, points):
        trials = [make_trial(i, val_top1=a, parameters=b) for i, (a, b) in enumerate(points)]
        front = pareto_front(trials)

        def is_as_good(one, other):
            return (
                one.metrics["val_top1"] >= other.metrics["val_top1"]
                and one.metrics["parameters"] <= other.metrics["parameters"]
            )

        assert all(any(is_as_good(best, trial) for best in front) for trial in trials)
        assert not any(is_as_good(a, b) for a in front for b in front if a is not b)
        assert front == sorted(front, key=lambda trial: trial.metrics["parameters"])


def test_format_of_keras_tuner(tmp_path):
    import keras_tuner

    class Tuner(keras_tuner.RandomSearch):
        def run_trial(self, trial, **fit_options):
            units = trial.hyperparameters.Choice("units", [64, 128, 256])
            bidirectional = trial.hyperparameters.Boolean("bidirectional")
            assert read_trials(tmp_path)[-1].status == "running"
            if trial.trial_id == "1":
                raise FloatingPointError("The loss became nan.\nLower the learning rate.")
            return {"val_top1": units / 256, "parameters": 10 * units + bidirectional}

    tuner = Tuner(
        objective=keras_tuner.Objective("val_top1", "max"),
        max_trials=4,
        seed=1,
        directory=tmp_path,
        project_name="trials",
    )
    tuner.search(verbose=0)
    trials = read_trials(tmp_path)
    assert ids(trials) == ["0", "1", "2", "3"]
    assert [trial.status for trial in trials] == ["completed", "failed", "completed", "completed"]
    assert trials[1].message == "FloatingPointError: The loss became nan."
    for trial in (trials[0], *trials[2:]):
        own = tuner.oracle.get_trial(trial.trial_id)
        assert trial.values == own.hyperparameters.values
        assert trial.score == trial.metrics["val_top1"] == trial.values["units"] / 256
        assert trial.metrics["parameters"] // 10 == trial.values["units"]
        assert trial.message is None
        assert trial.folder == tmp_path / "trials" / f"trial_{trial.trial_id}"
    assert best_trials(trials)[0].trial_id == tuner.oracle.get_best_trials()[0].trial_id


def test_reading_needs_no_tensorflow():
    code = (
        "import sys, tuning; tuning.read_trials, tuning.write_report; "
        "print([m for m in ('tensorflow', 'keras', 'keras_tuner') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT
    )
    assert result.stdout.strip() == "[]"
