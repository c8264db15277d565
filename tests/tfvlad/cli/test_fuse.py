"""`tfvlad fuse` on made-up scores, and on those that ActionVLAD released."""

import csv
import json

import numpy as np
import pytest

from tests.tfvlad.cli.commands import assert_one_sentence, tfvlad
from tfvlad.evaluation import ScoreFile, fuse_scores, read_scores, write_scores

CLIPS = ("run/1", "run/2", "jump/1", "jump/2")
LABELS = np.array([1, 1, 0, 0])
RGB = np.array([[0.0, 1.0], [2.0, 0.0], [3.0, 0.0], [0.0, 0.5]])
FLOW = np.array([[0.0, 0.5], [0.0, 4.0], [0.0, 1.0], [2.0, 0.0]])
CHARADES = """id,subject,actions,length
VIDEO,AB12,c000 1.0 2.0;c001 2.0 3.0;c000 5.0 6.0,30.0
EMPTY,AB12,,30.0
OTHER,CD34,c001 0.0 9.5,30.0
"""


@pytest.fixture
def scores(tmp_path):
    """Two files without names, and the list of their rows."""
    write_scores(tmp_path / "rgb.h5", ScoreFile(RGB))
    write_scores(tmp_path / "flow.h5", ScoreFile(FLOW))
    lines = [f"{clip} 90 {label}" for clip, label in zip(CLIPS, LABELS, strict=True)]
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def files(folder):
    return folder / "rgb.h5", folder / "flow.h5", "--labels", folder / "list.txt"


def report_of(*arguments):
    result = tfvlad("fuse", *arguments, "--json")
    assert result.exit_code == 0, result.errors
    return json.loads(result.output)


@pytest.mark.parametrize(("on", "expected"), [("logits", "66.73"), ("probabilities", "64.12")])
def test_released_scores(data_folder, on, expected):
    folder = data_folder / "hmdb51_logits"
    result = tfvlad(
        *("fuse", folder / "rgb_split1.h5", folder / "flow_split1.h5"),
        *("--weights", 0.333, 0.667, "--labels", folder / "test_split1.txt", "--on", on),
    )
    rows = [line.split() for line in result.output.splitlines() if ".h5" in line or "fused" in line]
    assert [(row[1], row[3]) for row in rows] == [
        ("rgb_split1.h5", "51.37"),
        ("flow_split1.h5", "58.95"),
        ("fused", expected),
    ]


@pytest.mark.parametrize(
    "weights",
    [
        ("--weights", 3, 1),
        ("--weights", 3, "--weights", 1),
        ("--weights=3", 1),
        ("--weights", "3.", "1e0", "--on", "logits"),
    ],
)
def test_weights_on_the_command_line(scores, weights):
    report = report_of(*files(scores)[:2], *weights, *files(scores)[2:])
    assert [one["top1"] for one in report["files"]] == [0.5, 0.75]
    # With three times the weight, the RGB stream's mistake on the second clip stays.
    assert report["fused"]["top1"] == 0.75
    assert report_of(*files(scores))["fused"]["top1"] == 1.0


def test_all_measures_and_classes(scores):
    (scores / "names.txt").write_text("jump\nrun\n")
    options = ("--class-names", scores / "names.txt", "--per-class", scores / "classes.csv")
    report = report_of(*files(scores), "--weights", 3, 1, *options)
    assert set(report["fused"]) >= {"top1", "mean_class_accuracy", "mAP", "num_clips"}
    with open(scores / "classes.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["class"], row["num_clips"]) for row in rows] == [("jump", "2"), ("run", "2")]
    assert [float(row["accuracy"]) for row in rows] == [1.0, 0.5]
    many = ScoreFile(np.eye(7), class_names=tuple("abcdefg"), labels=np.arange(7)[::-1])
    write_scores(scores / "many.npz", many)
    assert report_of(scores / "many.npz")["fused"]["top5"] == pytest.approx(5 / 7)


def test_rows_are_matched_by_name(scores):
    order = [2, 0, 3, 1]
    clips = tuple(f"{CLIPS[i]}.avi" for i in order)
    flow = ScoreFile(FLOW[order], clips, LABELS[order], ("jump", "run"))
    write_scores(scores / "flow.npz", flow)
    write_scores(scores / "rgb.txt", ScoreFile(RGB, CLIPS))
    report = report_of(scores / "rgb.txt", scores / "flow.npz", "--output", scores / "fused.npz")
    assert report["fused"]["top1"] == 1.0
    fused = read_scores(scores / "fused.npz")
    assert fused.clips == CLIPS
    np.testing.assert_allclose(fused.scores, (RGB + FLOW) / 2)
    np.testing.assert_array_equal(fused.labels, LABELS)
    # The rows of a file without names are the list's.
    mixed = report_of(scores / "rgb.h5", scores / "flow.npz", *files(scores)[2:])
    assert mixed["fused"] == report["fused"]


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".txt"])
def test_output_file(scores, suffix):
    output = scores / f"fused{suffix}"
    report_of(*files(scores), "--on", "probabilities", "--output", output)
    fused = read_scores(output)
    np.testing.assert_allclose(fused.scores, fuse_scores([RGB, FLOW], on="probabilities"))
    assert fused.clips == (None if suffix == ".h5" else CLIPS)


def write_runs(root, scores, names=("split1-seed0", "split2-seed0")):
    for name in names:
        folder = root / name
        folder.mkdir(parents=True)
        write_scores(folder / "scores.npz", ScoreFile(scores, CLIPS, LABELS, ("jump", "run")))
        (folder / "result.json").write_text(json.dumps({"stages": [{}]}))
    return root


def test_folders_of_runs(tmp_path):
    runs = write_runs(tmp_path / "rgb", RGB), write_runs(tmp_path / "flow", FLOW)
    write_runs(tmp_path / "flow", RGB, names=["split3-seed0"])
    report = report_of(*runs, "--output", tmp_path / "fused")
    assert [run["run"] for run in report["runs"]] == ["split1-seed0", "split2-seed0"]
    assert [one["top1"] for one in report["files"]] == [0.5, 0.75]
    assert report["fused"]["top1"] == 1.0
    written = json.loads((tmp_path / "fused" / "split1-seed0" / "metrics.json").read_text())
    assert written["top1"] == 1.0
    assert (tmp_path / "fused" / "split2-seed0" / "per_class.csv").exists()
    assert json.loads((tmp_path / "fused" / "fusion.json").read_text())["on"] == "logits"
    compared = tfvlad("compare", tmp_path / "rgb", tmp_path / "fused", "--json")
    assert json.loads(compared.output)["difference"] == 0.5
    text = tfvlad("fuse", *runs).output
    rows = [line.split() for line in text.splitlines() if "fused" in line]
    assert [(row[1], row[5]) for row in rows] == [
        ("split1-seed0", "100.00"),
        ("split2-seed0", "100.00"),
        ("mean", "100.00"),
    ]
    message = "There are 2 runs to fuse, each with a file of its own. Give a folder: --output"
    assert_one_sentence(tfvlad("fuse", *runs, "--output", tmp_path / "a.h5"), message)
    assert_one_sentence(tfvlad("fuse", *runs, "--per-class", tmp_path / "a.csv"), message)
    message = "have no finished run of the same split and seed."
    assert_one_sentence(tfvlad("fuse", runs[0], tmp_path), message)
    assert_one_sentence(tfvlad("fuse", *runs, "--output", tmp_path), "is there already.")
    message = "holds runs of several splits and seeds, which can be fused with such folders only."
    assert_one_sentence(tfvlad("fuse", runs[0], runs[1] / "split1-seed0"), message)


def test_no_file_is_overwritten(scores):
    rgb = scores / "rgb.h5"
    before = rgb.read_bytes()
    for option in ("--output", "--per-class"):
        result = tfvlad("fuse", *files(scores), option, rgb)
        assert_one_sentence(result, f"{rgb} is there already. Choose another name")
    assert rgb.read_bytes() == before


def test_charades(tmp_path):
    (tmp_path / "Charades_v1_test.csv").write_text(CHARADES)
    (tmp_path / "Charades_v1_classes.txt").write_text("c000 Holding a cup\nc001 Sitting\n")
    rgb, flow = tmp_path / "rgb.txt", tmp_path / "flow.txt"
    rgb.write_text("EMPTY 9 9\nVIDEO 1 2\n")
    flow.write_text("VIDEO 2 1\nEMPTY 8 8\n")
    labels = ("--labels", tmp_path / "Charades_v1_test.csv")
    report = report_of(rgb, flow, *labels, "--per-class", tmp_path / "classes.csv")
    # EMPTY has no action and OTHER no scores: both are minus infinity, in the order of the list.
    first, second = 1.0, (1 + 2 / 3) / 2
    assert report["fused"]["num_clips"] == 3
    assert report["fused"]["mAP"] == pytest.approx((first + second) / 2)
    assert report["fused"]["wAP"] == pytest.approx((first + 2 * second) / 3)
    rows = list(csv.DictReader((tmp_path / "classes.csv").open()))
    assert [row["class"] for row in rows] == ["Holding a cup", "Sitting"]
    assert [float(row["average_precision"]) for row in rows] == pytest.approx([first, second])
    flow.write_text("VIDEO 2 1\n")
    message = "1 clips of the other score file are missing in file 2, first: EMPTY."
    assert_one_sentence(tfvlad("fuse", rgb, flow, *labels), message)


def test_errors(scores):
    rgb, flow, option, labels = files(scores)
    message = "The score files hold no labels. Give --labels"
    assert_one_sentence(tfvlad("fuse", rgb, flow), message)
    message = "`weights` must be one for each of the 2 models. Received: 3 weights."
    assert_one_sentence(tfvlad("fuse", *files(scores), "--weights", 1, 2, 3), message)
    message = "not negative and not all 0. Received: [1.0, -1.0]."
    assert_one_sentence(tfvlad("fuse", *files(scores), "--weights", 1, -1), message)
    labels.write_text("run/1 90 1\n")
    message = f"{rgb} has 4 rows of scores without names, and {labels} lists 1 clips."
    assert_one_sentence(tfvlad("fuse", rgb, option, labels), message)
    write_scores(scores / "rgb.txt", ScoreFile(RGB, CLIPS))
    labels.write_text("run/1 90 1\nrun/x 90 1\n")
    message = "1 of 2 clips have no scores, first: run/x."
    assert_one_sentence(tfvlad("fuse", scores / "rgb.txt", option, labels), message)
    result = tfvlad("fuse", *files(scores), "--weights", "much")
    assert (result.exit_code, "'much' is not a valid float" in result.errors) == (2, True)
