"""The flags, messages and exit codes of `tfvlad features`; `tests/tfvlad/runs` tests the rest."""

import json

import pytest

from tests.tfvlad_cli.commands import (
    assert_one_sentence,
    shown_defaults,
    tfvlad,
    write_broken,
    write_video,
)
from tfvlad import extract_features
from tfvlad_cli.features import features

pytestmark = pytest.mark.usefixtures("eagerly", "small_networks")

EXTRACT = ("--network", "resnet18", "--weights", "none", "--image-size", 32, "--frame-step", 1)


@pytest.fixture
def videos(tmp_path):
    write_video(tmp_path / "videos" / "red" / "0.mp4", 0)
    return tmp_path / "videos"


def test_all_flags_and_json(videos, tmp_path):
    video, folder = videos / "red" / "0.mp4", tmp_path / "one"
    options = (*EXTRACT, "--layer", "scores", "--dtype", "float16", "--no-flipped")
    more = ("--format", "hdf5", "--batch-size", 2, "--max-broken", 0, "--json")
    result = tfvlad("features", video, folder, *options, *more)
    assert result.exit_code == 0, result.errors
    expected = {"folder": str(folder), "num_videos": 1, "num_channels": 5, "broken": []}
    assert json.loads(result.output) == expected
    described = json.loads((folder / "features.json").read_text())
    expected = {"network": "resnet18", "layer": "scores", "weights": None, "frame_step": 1}
    expected |= {"image_size": [32, 32], "dtype": "float16", "flipped": False}
    assert described == {**described, **expected}
    result = tfvlad("features", video, folder, *options, "--frame-step", 2)
    assert_one_sentence(result, "(frame_step: 1 there, 2 here)")


def test_shown_defaults_are_the_librarys():
    assert shown_defaults(features, extract_features) == {
        *("network", "layer", "weights", "frame_step", "flipped", "dtype", "file_format"),
        "batch_size",
    }


def test_broken_videos_are_named(videos, tmp_path):
    bad = write_broken(videos / "bad.mp4", "text", videos / "red" / "0.mp4")
    result = tfvlad("features", videos, tmp_path / "features", *EXTRACT)
    assert result.exit_code == 0, result.errors
    assert f"  {bad}: Invalid data found" in result.errors
    assert result.output == f"{tmp_path / 'features'}: 8 channels for 1 videos\n"
    result = tfvlad("features", videos, tmp_path / "features", *EXTRACT, "--max-broken", 0)
    assert result.exit_code == 1
    assert result.errors.endswith("more than the 0 allowed by `--max-broken`.\n")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--layer", "fc9"), "Received: layer='fc9'."),
        (("--weights", "imagenet"), "`--weights` must be a file of it, or none."),
    ],
)
def test_errors_are_one_sentence(videos, tmp_path, options, sentence):
    result = tfvlad("features", videos, tmp_path / "out", *EXTRACT, *options)
    assert_one_sentence(result, sentence)
