import csv
import json
import re

import cv2
import pytest

from tests.tuning.results.test_trials import write_trial
from tuning.results import figures
from tuning.results.report import write_report


def written(folder):
    return {path.name for path in folder.iterdir()} - {"trials"}


def write_grid(folder, clusters=(16, 64), units=(64, 256)):
    """Completed trials of growing accuracy and size."""
    pairs = [(k, u) for k in clusters for u in units]
    for number, (k, u) in enumerate(pairs):
        metrics = {"val_top1": [0.1, 0.5 + number / 20], "parameters": 10 * k * u}
        score = metrics["val_top1"][-1]
        write_trial(folder, str(number), {"num_clusters": k, "units": u}, metrics, score=score)


def test_all_files(tmp_path):
    write_grid(tmp_path)
    message = "Traceback (most recent call last):\n  File\nFloatingPointError: nan, really"
    write_trial(tmp_path, "4", {"units": 64}, status="FAILED", message=message)
    write_trial(tmp_path, "5", {"num_clusters": 8, "dropout": 0.5}, status="RUNNING")
    (tmp_path / "best.keras").touch()
    trials = write_report(str(tmp_path))
    assert [trial.trial_id for trial in trials] == ["0", "1", "2", "3", "4", "5"]
    pictures = {"heat_map.png", "pareto_parameters.png"}
    assert written(tmp_path) == {"trials.csv", "best.json", "best.keras", *pictures}
    assert all(cv2.imread(str(tmp_path / name)).std() > 10 for name in pictures)
    with open(tmp_path / "trials.csv", newline="") as file:
        rows = list(csv.reader(file))
    names = "num_clusters", "units", "dropout", "val_top1", "parameters"
    assert rows == [
        ["trial", "status", "score", *names, "message"],
        ["0", "completed", "0.5", "16", "64", "", "0.5", "10240.0", ""],
        ["1", "completed", "0.55", "16", "256", "", "0.55", "40960.0", ""],
        ["2", "completed", "0.6", "64", "64", "", "0.6", "40960.0", ""],
        ["3", "completed", "0.65", "64", "256", "", "0.65", "163840.0", ""],
        ["4", "failed", "", "", "64", "", "", "", "FloatingPointError: nan, really"],
        ["5", "running", "", "8", "", "0.5", "", "", ""],
    ]
    assert json.loads((tmp_path / "best.json").read_text()) == {
        "trial": "3",
        "status": "completed",
        "score": 0.65,
        "values": {"num_clusters": 64, "units": 256},
        "metrics": {"val_top1": 0.65, "parameters": 163840},
        "message": None,
        "model": "best.keras",
    }


@pytest.mark.parametrize(
    ("clusters", "units", "pictures"),
    [
        ((16,), (64, 256), {"pareto_parameters.png"}),
        ((16, 32), (64,), {"pareto_parameters.png"}),
        ((16, 16), (64,), {"pareto_parameters.png"}),
        ((16,), (64,), set()),
    ],
)
def test_figures_that_make_sense(tmp_path, clusters, units, pictures):
    write_grid(tmp_path, clusters, units)
    write_trial(tmp_path, "9", {"num_clusters": 1, "units": 1, "dropout": 0.5}, status="FAILED")
    write_report(tmp_path)
    assert written(tmp_path) == {"trials.csv", "best.json", *pictures}


def test_measure_and_costs(tmp_path):
    for number in range(2):
        metrics = {"val_mAP": 0.5 + number / 4, "litert_ms": 9, "val_loss": [float("nan")]}
        write_trial(tmp_path, str(number), {"units": number}, metrics, score=metrics["val_mAP"])
    write_report(tmp_path, measure="val_mAP", costs=("litert_ms", "seconds"))
    assert written(tmp_path) == {"trials.csv", "best.json", "pareto_litert_ms.png"}
    best = json.loads((tmp_path / "best.json").read_text(), parse_constant=pytest.fail)
    assert best["metrics"] == {"val_mAP": 0.75, "litert_ms": 9, "val_loss": None}
    assert "model" not in best


def test_nothing_completed(tmp_path):
    write_grid(tmp_path)
    write_report(tmp_path)
    for path in tmp_path.glob("trials/*/trial.json"):
        path.write_text(path.read_text().replace("COMPLETED", "RUNNING"))
    write_report(tmp_path)
    assert written(tmp_path) == {"trials.csv"}


def test_nothing_begun(tmp_path):
    (tmp_path / "trials").mkdir()
    assert write_report(tmp_path) == []
    assert (tmp_path / "trials.csv").read_text().split() == ["trial,status,score,message"]
    assert written(tmp_path) == {"trials.csv"}


def test_an_error_leaves_the_earlier_report(tmp_path, monkeypatch):
    write_grid(tmp_path)
    write_report(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in written(tmp_path)}

    class Unwritable:
        def savefig(self, path, **options):
            path.write_bytes(b"half")
            raise OSError("No space left on device")

    monkeypatch.setattr(figures, "pareto", lambda *args, **options: Unwritable())
    write_trial(tmp_path, "8", {"units": 1}, {"val_top1": 0.9}, score=0.9)
    with pytest.raises(OSError, match="No space left"):
        write_report(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in written(tmp_path)} == before


def test_no_search(tmp_path):
    message = f"'{tmp_path}' holds no search: there is no folder 'trials' in it."
    with pytest.raises(ValueError, match=re.escape(message)):
        write_report(tmp_path)
    assert written(tmp_path) == set()
