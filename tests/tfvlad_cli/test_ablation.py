"""`tfvlad ablation`: what its options become in the library's call, and what it prints."""

import json
from pathlib import Path
from unittest import mock

import pytest

from tests.tfvlad_cli.commands import assert_one_sentence, tfvlad
from tfvlad import studies
from tfvlad.studies.ablation_study import FOUR_VARIANTS
from tfvlad_cli.ablation import VARIANTS

FOUND = studies.Ablation(
    Path("study"),
    {"data": "videos"},
    (
        studies.AblationRow("first", 0.5, 0.01, 0.0, 0.0, 0.0, 3, 10.0),
        studies.AblationRow("second", 0.6, 0.02, 0.1, 0.04, 0.17, 3, 10.0),
    ),
)


@pytest.fixture
def data(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "splits").mkdir()
    return tmp_path / "videos"


def call_of(*arguments):
    """How the library is called, and the command's result."""
    with mock.patch("tfvlad.studies.ablation", return_value=FOUND) as called:
        result = tfvlad("ablation", *arguments)
    assert result.exit_code == 0, result.errors
    return called.call_args, result


def test_variants_are_the_library_s():
    assert tuple(studies.VARIANTS) == VARIANTS
    assert VARIANTS[:4] == FOUR_VARIANTS
    assert f"[default: {', '.join(FOUR_VARIANTS)}]" in " ".join(
        tfvlad("ablation", "--help").output.split()
    )


def test_what_is_not_given_is_left_to_the_library(data):
    (positional, named), _ = call_of(data, "study")
    assert (positional, named) == ((str(data), "study"), {})


def test_options(data):
    variants = ("average-pooling", "action-vlad:clusters=32,epochs=15 0,alpha=auto")
    (_, named), _ = call_of(
        *(data, "study", "--lists", data.parent / "splits", "--split", 1, "--split", 2),
        *("--seed", 5, "--clusters", 8, "--no-cache", "--epochs", 15, 0, "--max-broken", 3),
        *(part for variant in variants for part in ("--variant", variant)),
    )
    first, second = named.pop("variants")
    assert first == studies.VARIANTS["average-pooling"]
    changes = {"num_clusters": 32, "epochs": (15, 0), "alpha": "auto"}
    own = {**studies.VARIANTS["action-vlad"].changes, **changes}
    assert second == studies.Variant(variants[1], own)
    assert named == {
        "lists": str(data.parent / "splits"),
        "splits": (1, 2),
        "seeds": (5,),
        "num_clusters": 8,
        "num_cached_crops": None,
        "epochs": (15, 0),
        "max_broken": 3,
    }


def test_table_and_json(data):
    _, result = call_of(data, "study")
    assert "difference from first with its 95 % interval" in " ".join(result.output.split())
    (row,) = [line for line in result.output.splitlines() if "+10.0" in line]
    assert row.replace("│", " ").split() == [
        *("second", "60.0", "2.0", "+10.0", "[+4.0,", "+17.0]", "3", "10"),
    ]
    _, result = call_of(data, "study", "--json")
    assert json.loads(result.output) == FOUND.to_dict()


@pytest.mark.parametrize(
    ("variant", "sentence"),
    [
        ("vlad", "'vlad' is none of action-vlad, vlad-gru"),
        ("ta-vlad:depth=3", "'depth=3' is no option=value for one variant"),
        ("ta-vlad:seed=5", "'seed=5' is no option=value"),
        ("ta-vlad:model=action-vlad", "'model=action-vlad' is no option=value"),
        ("ta-vlad:epochs=15", "2 values are required, but 1 was given"),
        ("ta-vlad:clusters", "'clusters' is no option=value"),
        ("ta-vlad:clusters=0", "0 is not in the range x>=1"),
        ("ta-vlad:alpha=sharp", "'sharp' is neither a positive number"),
    ],
)
def test_unknown_variants(data, variant, sentence):
    result = tfvlad("ablation", data, "study", "--variant", variant)
    assert result.exit_code == 2
    assert sentence in result.errors.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--no-attention",), "`--attention` has no effect: each of the variants has its own"),
        (("--stack-frames", 3), "`--stack-frames` has no effect on stream='rgb'"),
        (("--variant", "ta-vlad:test-crops=5"), "has a `--test-crops` of its own, which must be"),
        (("--variant", "average-pooling:clusters=9"), "has a `--clusters` of its own, which has"),
    ],
)
def test_the_library_s_errors_name_flags(data, tmp_path, options, sentence):
    assert_one_sentence(tfvlad("ablation", data, tmp_path / "study", *options), sentence)
    assert not (tmp_path / "study").exists()
