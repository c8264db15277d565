"""`tfvlad show`: flags, messages and files."""

import json

import pytest

from tests.tfvlad.runs.run_folders import make_run
from tests.tfvlad_cli.commands import assert_one_sentence, tfvlad, write_broken, write_video
from tfvlad.runs.answers import pictures
from tfvlad_cli.show import PICTURES

pytestmark = [pytest.mark.usefixtures("eagerly"), pytest.mark.current]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "ta-vlad"
    make_run(folder, "ta-vlad", options={"units": 4})
    return folder


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("videos") / "clip.mp4", 0)


def files_of(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_names_what_it_wrote(run, video):
    result = tfvlad("show", run, video, "--what", "track", "--what", "attention", "--word", 3)
    assert result.exit_code == 0, result.errors
    names = ["clip/attention.png", "clip/track.png"]
    assert result.output.splitlines() == [str(run / "pictures" / name) for name in names]
    assert files_of(run / "pictures") == {*names}


def test_json_and_a_broken_video(run, video, tmp_path):
    broken = write_broken(tmp_path / "half.mp4", "truncated", video)
    place = tmp_path / "new"
    options = ("--output", place, "--what", "attention", "--json")
    result = tfvlad("show", run, video, broken, *options)
    assert result.exit_code == 1
    assert result.errors.splitlines()[-1].startswith(f"tfvlad: {broken}: ")
    report = json.loads(result.output)
    assert report["pictures"] == [str(place / "clip" / "attention.png")]
    assert [video["path"] for video in report["broken"]] == [str(broken)]


def test_options_of_the_test_list(run, video):
    result = tfvlad("show", run, video, "--num-videos", 2)
    assert_one_sentence(result, "`--num-videos` has no effect on videos that are named.")


def test_unknown_word(run, video):
    result = tfvlad("show", run, video, "--what", "track", "--word", 4)
    assert_one_sentence(result, "`--word` must be a number from 0 to 3. Received: word=4.")


def test_pictures_are_those_of_the_library():
    assert PICTURES == pictures.PICTURES
    assert f"[default: {pictures.NUM_VIDEOS}]" in tfvlad("show", "--help").output
