"""The flags, messages and exit codes of `tfvlad flow`; `tests/pipelines/flow` tests the rest."""

import json

import pytest

import pipelines
from tests.tfvlad_cli.commands import (
    assert_one_sentence,
    shown_defaults,
    tfvlad,
    write_broken,
    write_video,
)
from tfvlad_cli.flow import flow

SMALL = ("--method", "dis", "--short-side", 32)


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    for color, name in enumerate(("green", "red")):
        write_video(folder / name / f"{name}.mp4", 1 - color, num_frames=3)
    return folder


def settings_in(folder):
    return json.loads((folder / "flow.json").read_text())


def test_the_library_is_called(videos, tmp_path):
    folder = tmp_path / "flow"
    result = tfvlad("flow", videos, folder, *SMALL)
    assert result.exit_code == 0, result.errors
    assert result.output == f"{folder}: optical flow (dis) of 2 videos\n"
    assert settings_in(folder) == {**settings_in(folder), "method": "dis", "bound": 20.0}
    done = pipelines.extract_flow(videos, folder, method="dis", short_side=32)  # goes on
    assert done.to_dict()["num_videos"] == 2


def test_all_flags_and_json(videos, tmp_path):
    folder = tmp_path / "flow"
    options = (*SMALL, "--bound", 8, "--images", "--workers", 1, "--max-broken", 0, "--json")
    result = tfvlad("flow", videos / "red" / "red.mp4", folder, *options)
    assert json.loads(result.output) == {
        **{"folder": str(folder), "num_videos": 1, "method": "dis", "broken": []},
    }
    expected = {"method": "dis", "bound": 8.0, "short_side": 32, "images": True}
    assert settings_in(folder) == expected


def test_shown_defaults_are_the_librarys():
    assert shown_defaults(flow, pipelines.extract_flow) == {
        *("method", "bound", "short_side"),
    }


def test_broken_videos_are_named(videos, tmp_path):
    bad = write_broken(videos / "bad.mp4", "text", videos / "red" / "red.mp4")
    result = tfvlad("flow", videos, tmp_path / "flow", *SMALL)
    assert result.exit_code == 0
    assert f"  {bad}: Invalid data found" in result.errors
    assert result.output.endswith(" of 2 videos\n")
    result = tfvlad("flow", videos, tmp_path / "flow", *SMALL, "--max-broken", 0, "--json")
    assert result.exit_code == 1
    assert result.output == ""
    assert result.errors.endswith("more than the 0 allowed by `--max-broken`.\n")


def test_errors_are_one_sentence(videos, tmp_path):
    (tmp_path / "empty").mkdir()
    result = tfvlad("flow", tmp_path / "empty", tmp_path / "flow")
    assert_one_sentence(result, "There is no video below")
    result = tfvlad("flow", videos, videos / "flow", *SMALL)
    assert_one_sentence(result, "`FOLDER` must lie outside of the videos' folder")
    (tmp_path / "file").touch()
    result = tfvlad("flow", videos, tmp_path / "file" / "flow", *SMALL)
    assert_one_sentence(result, "Not a directory")
