"""Fusions of made-up scores, and of those that ActionVLAD released."""

import csv
import json
import logging
import re
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest

from tests.tfvlad.studies.made_runs import write_runs
from tfvlad.evaluation import (
    ScoreFile,
    class_probabilities,
    evaluate_scores,
    fuse_scores,
    read_scores,
    write_scores,
)
from tfvlad.studies import compare, fuse, fusion

CLIPS = ("run/1", "run/2", "jump/1", "jump/2")
LABELS = np.array([1, 1, 0, 0])
NAMES = ("jump", "run")
RGB = np.array([[0.0, 1.0], [2.0, 0.0], [3.0, 0.0], [0.0, 0.5]])
FLOW = np.array([[0.0, 0.5], [0.0, 4.0], [0.0, 1.0], [2.0, 0.0]])
CHARADES = """id,subject,actions,length
VIDEO,AB12,c000 1.0 2.0;c001 2.0 3.0;c000 5.0 6.0,30.0
EMPTY,AB12,,30.0
OTHER,CD34,c001 0.0 9.5,30.0
"""


@pytest.fixture
def scores(tmp_path):
    """A folder of two files without names, and the list of their rows."""
    write_scores(tmp_path / "rgb.h5", ScoreFile(RGB))
    write_scores(tmp_path / "flow.h5", ScoreFile(FLOW))
    lines = [f"{clip} 90 {label}" for clip, label in zip(CLIPS, LABELS, strict=True)]
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def fused_files(folder, **options):
    files = folder / "rgb.h5", folder / "flow.h5"
    return fuse(files, labels=folder / "list.txt", **options)


@pytest.mark.parametrize(("on", "expected"), [("logits", "66.73"), ("probabilities", "64.12")])
def test_released_scores(data_folder, on, expected):
    folder = data_folder / "hmdb51_logits"
    files = folder / "rgb_split1.h5", folder / "flow_split1.h5"
    found = fuse(files, [0.333, 0.667], on, labels=folder / "test_split1.txt")
    figures = [f"{100 * one['top1']:.2f}" for one in (*found.file_metrics, found.metrics)]
    assert figures == ["51.37", "58.95", expected]


def test_weights(scores):
    found = fused_files(scores, weights=(3, 1))
    assert [one["top1"] for one in found.file_metrics] == [0.5, 0.75]
    # With three times the weight, the RGB stream's mistake on the second clip stays.
    assert found.metrics["top1"] == 0.75
    assert fused_files(scores).metrics["top1"] == 1.0


def test_reports_of_each_and_of_the_fused(scores):
    (run,) = fused_files(scores).runs
    names = ["0", "1"]
    for report, logits in zip((*run.reports, run.report), (RGB, FLOW, RGB + FLOW), strict=True):
        assert report.metrics == evaluate_scores(logits, LABELS, names).metrics
    assert (run.name, run.scores.clips) == ("", CLIPS)
    np.testing.assert_allclose(run.scores.scores, (RGB + FLOW) / 2)


def test_all_measures_and_classes(scores):
    (scores / "names.txt").write_text("jump\nrun\n")
    found = fused_files(scores, weights=(3, 1), class_names=str(scores / "names.txt"))
    assert set(found.metrics) >= {"top1", "mean_class_accuracy", "mAP", "num_clips"}
    found.save_per_class(scores / "classes.csv")
    with open(scores / "classes.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["class"], row["num_clips"]) for row in rows] == [("jump", "2"), ("run", "2")]
    assert [float(row["accuracy"]) for row in rows] == [1.0, 0.5]
    many = ScoreFile(np.eye(7), class_names=tuple("abcdefg"), labels=np.arange(7)[::-1])
    write_scores(scores / "many.npz", many)
    assert fuse([scores / "many.npz"]).metrics["top5"] == pytest.approx(5 / 7)


def test_rows_are_matched_by_name(scores):
    order = [2, 0, 3, 1]
    clips = tuple(f"{CLIPS[i]}.avi" for i in order)
    write_scores(scores / "flow.npz", ScoreFile(FLOW[order], clips, LABELS[order], NAMES))
    write_scores(scores / "rgb.txt", ScoreFile(RGB, CLIPS))
    found = fuse([scores / "rgb.txt", scores / "flow.npz"])
    fused = found.runs[0].scores
    assert (fused.clips, fused.class_names) == (CLIPS, NAMES)
    np.testing.assert_allclose(fused.scores, (RGB + FLOW) / 2)
    np.testing.assert_array_equal(fused.labels, LABELS)
    # The rows of a file without names are the list's.
    mixed = fuse([scores / "rgb.h5", scores / "flow.npz"], labels=scores / "list.txt")
    assert mixed.metrics == found.metrics


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".txt"])
def test_saved_file(scores, suffix):
    path = scores / f"fused{suffix}"
    fused_files(scores, on="probabilities").save(path)
    fused = read_scores(path)
    np.testing.assert_allclose(fused.scores, fuse_scores([RGB, FLOW], on="probabilities"))
    assert fused.clips == (None if suffix == ".h5" else CLIPS)
    with pytest.raises(ValueError, match=re.escape(f"'{path}' exists and is left as it is.")):
        fused_files(scores).save(path)
    with pytest.raises(ValueError, match="exists and is left as it is"):
        fused_files(scores).save_per_class(path)


def test_places_are_checked_before_the_fusion(scores, monkeypatch):
    taken, new = scores / "list.txt", scores / "classes.csv"
    monkeypatch.setattr(fusion, "fuse_run", mock.Mock(side_effect=AssertionError))
    for places in ({"output": taken}, {"output": scores}, {"per_class": taken, "output": new}):
        with pytest.raises(ValueError, match="exists and is left as it is"):
            fused_files(scores, **places)
    monkeypatch.undo()
    fused_files(scores, output=scores / "fused.npz", per_class=new)
    assert read_scores(scores / "fused.npz").clips == CLIPS
    assert new.read_text().startswith("class,")


def test_as_values_and_text(scores):
    found = fused_files(scores, weights=(3, 1))
    described = json.loads(json.dumps(found.to_dict()))
    assert described["fused"] == found.metrics
    assert [one["file"] for one in described["files"]] == [*map(str, found.files)]
    assert described["files"][1]["top1"] == 0.75
    assert [run["run"] for run in described["runs"]] == [""]
    assert [one["top1"] for one in described["runs"][0]["metrics"]] == [0.5, 0.75, 0.75]
    lines = repr(found).splitlines()
    assert lines[0] == "Fusion on logits"
    assert lines[1].startswith(f"  {scores / 'rgb.h5'}: top1 50.00 %, mean_class_accuracy 50.00 %")
    assert lines[3].startswith("  fused: top1 75.00 %")


class TestRuns:
    @pytest.fixture
    def folders(self, tmp_path):
        return [
            write_runs(tmp_path / name, ScoreFile(scores, CLIPS, LABELS, NAMES))
            for name, scores in (("rgb", RGB), ("flow", FLOW))
        ]

    def test_runs_of_the_same_split_and_seed(self, folders, caplog):
        write_runs(folders[1], ScoreFile(RGB, CLIPS, LABELS, NAMES), names=["split3-seed0"])
        with caplog.at_level(logging.INFO, "tfvlad"):
            found = fuse(folders)
        assert caplog.messages == ["2 of 3 splits and seeds are in all of the folders."]
        assert [run.name for run in found.runs] == ["split1-seed0", "split2-seed0"]
        assert [one["top1"] for one in found.file_metrics] == [0.5, 0.75]
        assert found.metrics["top1"] == 1.0
        assert "num_clips" not in found.metrics

    def test_saved_folders_are_runs(self, folders, tmp_path):
        fuse(folders).save(tmp_path / "fused")
        place = tmp_path / "fused" / "split1-seed0"
        assert json.loads((place / "metrics.json").read_text())["top1"] == 1.0
        assert (tmp_path / "fused" / "split2-seed0" / "per_class.csv").exists()
        settings = json.loads((tmp_path / "fused" / "fusion.json").read_text())
        assert settings == {
            "files": [*map(str, folders)],
            "weights": None,
            "on": "logits",
            "labels": None,
        }
        (difference,) = compare([folders[0], tmp_path / "fused"]).differences
        assert difference.difference.mean == 0.5
        assert fuse([tmp_path / "fused", folders[0]]).file_metrics[0]["top1"] == 1.0

    def test_one_run(self, folders):
        runs = [SimpleNamespace(folder=folder / "split1-seed0") for folder in folders]
        found = fuse(runs)
        assert found.files == tuple(run.folder for run in runs)
        assert (found.runs[0].name, found.metrics["top1"]) == ("", 1.0)

    @pytest.mark.parametrize("multi_label", [False, True])
    def test_mean_of_probabilities(self, tmp_path, multi_label):
        labels = np.eye(2, dtype=int)[LABELS] if multi_label else LABELS
        files = [ScoreFile(scores, CLIPS, labels, NAMES) for scores in (RGB, FLOW, RGB[::-1])]
        folders = [write_runs(tmp_path / str(n), file) for n, file in enumerate(files)]
        for run in fuse(folders, on="probabilities").runs:
            probabilities = [
                class_probabilities(file.scores, multi_label=multi_label) for file in files
            ]
            np.testing.assert_allclose(
                class_probabilities(run.scores.scores, multi_label=multi_label),
                np.mean(probabilities, axis=0),
            )

    def test_errors(self, folders, tmp_path):
        found = fuse(folders)
        for save in (found.save, found.save_per_class):
            message = r"a\.h5' would be a file for one run, and there are 2\. Save them in a folder"
            with pytest.raises(ValueError, match=message):
                save(tmp_path / "a.h5")
        with pytest.raises(ValueError, match="exists and is left as it is"):
            found.save(tmp_path)
        with pytest.raises(ValueError, match="have no finished run of the same split and seed"):
            fuse([folders[0], tmp_path])
        message = "several splits and seeds, which can be fused with such folders only. Name one"
        for single in (folders[1] / "split1-seed0", folders[1] / "split1-seed0" / "scores.npz"):
            with pytest.raises(ValueError, match=message):
                fuse([folders[0], single])


def test_charades(tmp_path):
    labels = tmp_path / "Charades_v1_test.csv"
    labels.write_text(CHARADES)
    (tmp_path / "Charades_v1_classes.txt").write_text("c000 Holding a cup\nc001 Sitting\n")
    rgb, flow = tmp_path / "rgb.txt", tmp_path / "flow.txt"
    rgb.write_text("EMPTY 9 9\nVIDEO 1 2\n")
    flow.write_text("VIDEO 2 1\nEMPTY 8 8\n")
    found = fuse([rgb, flow], labels=labels)
    # EMPTY has no action and OTHER no scores: both are minus infinity, in the order of the list.
    first, second = 1.0, (1 + 2 / 3) / 2
    assert found.metrics["num_clips"] == 3
    assert found.metrics["mAP"] == pytest.approx((first + second) / 2)
    assert found.metrics["wAP"] == pytest.approx((first + 2 * second) / 3)
    report = found.runs[0].report
    assert report.class_names == ("Holding a cup", "Sitting")
    np.testing.assert_allclose(report.per_class, [first, second])
    flow.write_text("VIDEO 2 1\n")
    message = "1 clips of the other score file are missing in file 2, first: EMPTY."
    with pytest.raises(ValueError, match=message):
        fuse([rgb, flow], labels=labels)


def test_errors(scores):
    rgb, flow, labels = scores / "rgb.h5", scores / "flow.h5", scores / "list.txt"
    with pytest.raises(ValueError, match=r"hold no labels\. Give `labels`, the list"):
        fuse([rgb, flow])
    with pytest.raises(ValueError, match=r"`files` must name at least one run .* Received: none\."):
        fuse([])
    with pytest.raises(ValueError, match=r"each of the 2 models\. Received: 3 weights"):
        fused_files(scores, weights=(1, 2, 3))
    with pytest.raises(ValueError, match=re.escape("not all 0. Received: [1.0, -1.0].")):
        fused_files(scores, weights=(1, -1))
    labels.write_text("run/1 90 1\n")
    message = f"{rgb} has 4 rows of scores without names, and {labels} lists 1 clips."
    with pytest.raises(ValueError, match=re.escape(message)):
        fuse([rgb], labels=labels)
    write_scores(scores / "rgb.txt", ScoreFile(RGB, CLIPS))
    labels.write_text("run/1 90 1\nrun/x 90 1\n")
    with pytest.raises(ValueError, match=r"1 of 2 clips have no scores, first: run/x\."):
        fuse([scores / "rgb.txt"], labels=labels)
