import json

import pytest

from tests.tfvlad.cli.commands import assert_one_sentence, tfvlad, write_broken, write_video

SMALL = ("--method", "dis", "--short-side", 32)


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    for color, name in enumerate(("green", "red")):
        write_video(folder / name / f"{name}.mp4", 1 - color, num_frames=3)
    return folder


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_writes_a_folder_a_video(videos, tmp_path):
    flow = tmp_path / "flow"
    result = tfvlad("flow", videos, flow, *SMALL)
    assert result.exit_code == 0, result.errors
    assert result.output == f"{flow}: optical flow (dis) of 2 videos\n"
    names = ["video.json", *(f"flow_{axis}_0000{i}.jpg" for axis in "xy" for i in (1, 2))]
    videos_files = {f"{name}/{name}/{file}" for name in ("green", "red") for file in names}
    assert files(flow) == {"flow.json", *videos_files}
    settings = {"method": "dis", "bound": 20.0, "short_side": 32, "images": False}
    assert json.loads((flow / "flow.json").read_text()) == settings


def test_json_and_images(videos, tmp_path):
    flow = tmp_path / "flow"
    options = (*SMALL, "--bound", 8, "--images", "--workers", 1, "--json")
    result = tfvlad("flow", videos, flow, *options)
    assert json.loads(result.output) == {"folder": str(flow), "videos": 2, "broken": 0}
    assert "red/red/img_00003.jpg" in files(flow)
    assert json.loads((flow / "flow.json").read_text())["bound"] == 8


def test_goes_on_where_it_stopped(videos, tmp_path):
    flow = tmp_path / "flow"
    tfvlad("flow", videos, flow, *SMALL)
    image = flow / "green" / "green" / "flow_x_00001.jpg"
    image.write_bytes(b"kept")
    write_video(videos / "red" / "new.mp4", 0, num_frames=2)
    assert tfvlad("flow", videos, flow, *SMALL).exit_code == 0
    assert image.read_bytes() == b"kept"
    assert "red/new/flow_y_00001.jpg" in files(flow)
    result = tfvlad("flow", videos, flow, "--method", "farneback", "--short-side", 32)
    assert_one_sentence(result, "holds flow of other settings: method is dis there.")


def test_broken_videos_are_left_out(videos, tmp_path):
    source = videos / "red" / "red.mp4"
    write_broken(videos / "bad.mp4", "text", source)
    result = tfvlad("flow", videos, tmp_path / "flow", *SMALL)
    assert result.exit_code == 0
    assert f"left out: {videos / 'bad.mp4'}: Invalid data found" in result.output
    assert "of 2 videos\n" in result.output
    result = tfvlad("flow", videos, tmp_path / "flow", *SMALL, "--max-broken", 0, "--json")
    assert result.exit_code == 1
    sentence = "tfvlad: 1 of 3 videos are broken and have no optical flow.\n"
    assert result.errors.endswith(sentence)


def test_errors_are_one_sentence(videos, tmp_path):
    (tmp_path / "empty").mkdir()
    result = tfvlad("flow", tmp_path / "empty", tmp_path / "flow")
    assert_one_sentence(result, "There is no video below")
    result = tfvlad("flow", videos, videos / "flow", *SMALL)
    assert_one_sentence(result, "The flow must lie outside of the videos' folder")
    (tmp_path / "file").touch()
    result = tfvlad("flow", videos, tmp_path / "file" / "flow", *SMALL)
    assert_one_sentence(result, "Not a directory")
