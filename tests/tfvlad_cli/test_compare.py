"""`tfvlad compare` on folders with made-up scores."""

import json

import pytest

from tests.tfvlad.studies.made_runs import CLIPS, write_run
from tests.tfvlad_cli.commands import assert_one_sentence, tfvlad
from tfvlad.studies import compare


@pytest.fixture
def folders(tmp_path):
    """Two splits in each, of which one has a second stage."""
    for folder, hits in (("first", "0011"), ("second", "0111")):
        write_run(tmp_path / folder / "split1-seed0", hits)
        write_run(tmp_path / folder / "split2-seed0", hits[:1], "1", clips=CLIPS[:1])
    return tmp_path / "first", tmp_path / "second"


def test_equals_the_library(folders):
    result = tfvlad("compare", *folders, "--stage", 1, "--json")
    (found,) = compare(folders, stage=1).differences
    assert json.loads(result.output) == {
        "first": found.first_top1,
        "second": found.top1,
        "difference": found.difference.mean,
        "interval": [found.difference.low, found.difference.high],
        "runs": 2,
        "shared_runs": 2,
    }


def test_text(folders):
    text = tfvlad("compare", *folders, "--stage", 2).output
    assert f"{folders[1]}: 100.0 %   difference +0.0 points [+0.0, +0.0]   (1 of 2 runs)" in text


def test_mistakes(folders, tmp_path):
    message = "The runs have different numbers of stages (1, 2)."
    assert_one_sentence(tfvlad("compare", *folders), message)
    assert tfvlad("compare", folders[0], tmp_path / "missing").exit_code == 2
    assert tfvlad("compare", *folders, "--stage", 0).exit_code == 2
