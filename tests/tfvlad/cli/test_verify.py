import json

import pytest

from tests.tfvlad.cli.commands import assert_one_sentence, tfvlad, write_broken, write_video


@pytest.fixture
def folder(tmp_path):
    source = write_video(tmp_path / "a" / "good.mp4", 0, num_frames=7)
    for kind in ("text", "empty", "truncated"):
        write_broken(tmp_path / f"{kind}.mp4", kind, source)
    for name in (".hidden", "notes.txt", "a/README.md"):
        (tmp_path / name).write_text("not looked at")
    return tmp_path


def test_good_videos(folder):
    result = tfvlad("verify", folder / "a")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        f"ok      {folder}/a/good.mp4: 7 frames of 64x64, 0.70 s",
        "1 of 1 videos can be decoded.",
    ]


@pytest.mark.parametrize("jobs", [(), ("--jobs", 1)])
def test_broken_videos(folder, jobs):
    result = tfvlad("verify", folder, *jobs)
    assert result.exit_code == 1
    *lines, summary = result.output.splitlines()
    assert summary == "1 of 4 videos can be decoded."
    assert len(lines) == 4
    for line in lines:
        name = "good" if line.startswith("ok") else line.partition(".mp4")[0].rpartition("/")[2]
        path = folder / ("a" if name == "good" else "") / f"{name}.mp4"
        assert line.startswith(f"{'ok' if name == 'good' else 'broken':8}{path}: ")
        assert len(line.partition(".mp4: ")[2]) > 10
    assert "Traceback" not in result.errors


def test_json(folder):
    result = tfvlad("verify", folder / "a" / "good.mp4", folder / "text.mp4", "--json")
    assert result.exit_code == 1
    report = json.loads(result.output)
    path = str(folder / "a" / "good.mp4")
    assert report["good"] == [{"path": path, "num_frames": 7, "seconds": pytest.approx(0.7)}]
    assert [video["path"] for video in report["broken"]] == [str(folder / "text.mp4")]
    assert report["broken"][0]["reason"]


def test_no_suffix_and_a_named_file(folder):
    good = (folder / "a" / "good.mp4").rename(folder / "a" / "good")
    lines = tfvlad("verify", folder / "a", folder / "notes.txt").output.splitlines()
    assert [line.partition(": ")[0].split() for line in lines[:-1]] == [
        ["ok", str(good)],
        ["broken", str(folder / "notes.txt")],
    ]


def test_nothing_to_verify(tmp_path):
    result = tfvlad("verify", tmp_path)
    assert_one_sentence(result, f"There is no file to verify in: {tmp_path}.")


def test_missing_file(tmp_path):
    result = tfvlad("verify", tmp_path / "missing.mp4")
    assert result.exit_code == 2
    assert "does not exist" in result.errors


def test_real_edge_cases(data_folder):
    folder = data_folder / "edge_videos"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    result = tfvlad("verify", folder)
    files = [path for path in folder.rglob("*") if path.is_file() and path.name[0] != "."]
    lines = result.output.splitlines()
    assert result.exit_code == 1
    assert len(lines) == len(files) + 1
    assert "Traceback" not in result.output + result.errors
