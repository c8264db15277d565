"""`tfvlad fuse` on made-up scores."""

import csv
import inspect
import json

import numpy as np
import pytest

from tests.tfvlad.studies.made_runs import write_runs
from tests.tfvlad_cli.commands import assert_one_sentence, tfvlad
from tfvlad.evaluation import ScoreFile, write_scores
from tfvlad.evaluation.fusion import FUSIONS
from tfvlad.studies import fuse
from tfvlad_cli.fuse import fuse as command

CLIPS = ("run/1", "run/2", "jump/1", "jump/2")
LABELS = np.array([1, 1, 0, 0])
RGB = np.array([[0.0, 1.0], [2.0, 0.0], [3.0, 0.0], [0.0, 0.5]])
FLOW = np.array([[0.0, 0.5], [0.0, 4.0], [0.0, 1.0], [2.0, 0.0]])


@pytest.fixture
def files(tmp_path):
    """Two files without names, and the option with the list of their rows."""
    write_scores(tmp_path / "rgb.h5", ScoreFile(RGB))
    write_scores(tmp_path / "flow.h5", ScoreFile(FLOW))
    lines = [f"{clip} 90 {label}" for clip, label in zip(CLIPS, LABELS, strict=True)]
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "rgb.h5", tmp_path / "flow.h5", "--labels", tmp_path / "list.txt"


def report_of(*arguments):
    result = tfvlad("fuse", *arguments, "--json")
    assert result.exit_code == 0, result.errors
    return json.loads(result.output)


@pytest.mark.parametrize(
    "weights",
    [
        ("--weights", 3, 1),
        ("--weights", 3, "--weights", 1),
        ("--weights=3", 1),
        ("--weights", "3.", "1e0", "--on", "logits"),
    ],
)
def test_weights_on_the_command_line(files, weights):
    expected = fuse(files[:2], [3, 1], labels=files[3]).to_dict()
    assert report_of(*files[:2], *weights, *files[2:]) == expected


def test_options(files, tmp_path):
    (tmp_path / "names.txt").write_text("jump\nrun\n")
    options = "--on", "probabilities", "--class-names", tmp_path / "names.txt"
    written = "--per-class", tmp_path / "classes.csv", "--output", tmp_path / "fused.npz"
    report = report_of(*files, *options, *written)
    names = tmp_path / "names.txt"
    found = fuse(files[:2], on="probabilities", labels=files[3], class_names=names)
    assert report == found.to_dict()
    with open(tmp_path / "classes.csv") as file:
        assert [row["class"] for row in csv.DictReader(file)] == ["jump", "run"]
    with np.load(tmp_path / "fused.npz") as arrays:
        np.testing.assert_array_equal(arrays["logits"], found.runs[0].scores.scores)


def test_choices_are_the_library_s():
    (on,) = [parameter for parameter in command.params if parameter.name == "on"]
    assert tuple(on.type.choices) == FUSIONS
    assert on.help.endswith(f"[default: {inspect.signature(fuse).parameters['on'].default}]")


def test_table_of_files(files):
    text = tfvlad("fuse", *files).output
    assert "top1" in text
    rows = [line.split() for line in text.splitlines() if ".h5" in line or "fused" in line]
    assert [(row[1], row[3], row[-2]) for row in rows] == [
        ("rgb.h5", "50.00", "4"),
        ("flow.h5", "75.00", "4"),
        ("fused", "100.00", "4"),
    ]


def test_folders_of_runs(tmp_path):
    names = ("jump", "run")
    runs = [
        write_runs(tmp_path / name, ScoreFile(scores, CLIPS, LABELS, names))
        for name, scores in (("rgb", RGB), ("flow", FLOW))
    ]
    text = tfvlad("fuse", *runs, "--output", tmp_path / "fused").output
    rows = [line.split() for line in text.splitlines() if "fused" in line]
    assert [(row[1], row[5]) for row in rows] == [
        ("split1-seed0", "100.00"),
        ("split2-seed0", "100.00"),
        ("mean", "100.00"),
    ]
    compared = tfvlad("compare", runs[0], tmp_path / "fused", "--json")
    assert json.loads(compared.output)["difference"] == 0.5
    message = "a.h5' would be a file for one run, and there are 2. Save them in a folder."
    assert_one_sentence(tfvlad("fuse", *runs, "--output", tmp_path / "a.h5"), message)


def test_no_file_is_overwritten(files):
    before = files[0].read_bytes()
    for option in ("--output", "--per-class"):
        result = tfvlad("fuse", *files, option, files[0])
        assert_one_sentence(
            result, f"'{files[0]}' exists and is left as it is. Choose another name"
        )
    assert files[0].read_bytes() == before


def test_mistakes(files):
    assert_one_sentence(tfvlad("fuse", *files[:2]), "The score files hold no labels.")
    result = tfvlad("fuse", *files, "--weights", "much")
    assert (result.exit_code, "'much' is not a valid float" in result.errors) == (2, True)
    assert tfvlad("fuse").exit_code == 2
