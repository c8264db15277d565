import json

import pytest

from tests.tfvlad_cli.commands import assert_one_sentence, tfvlad, write_broken, write_video


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


def test_broken_videos(folder):
    result = tfvlad("verify", folder, "--jobs", 1)
    assert result.exit_code == 1
    *lines, summary = result.output.splitlines()
    assert summary == "1 of 4 videos can be decoded."
    assert [line.split()[0] for line in lines] == ["ok", "broken", "broken", "broken"]
    for line in lines[1:]:
        path, _, reason = line.removeprefix("broken  ").partition(": ")
        assert path.startswith(f"{folder}/")
        assert len(reason) > 10
    assert "Traceback" not in result.errors


def test_json(folder):
    result = tfvlad("verify", folder / "a" / "good.mp4", folder / "text.mp4", "--json")
    assert result.exit_code == 1
    report = json.loads(result.output)
    path = str(folder / "a" / "good.mp4")
    assert report["good"] == [{"path": path, "num_frames": 7, "seconds": pytest.approx(0.7)}]
    assert [video["path"] for video in report["broken"]] == [str(folder / "text.mp4")]
    assert report["broken"][0]["reason"]


def test_nothing_to_verify(tmp_path):
    result = tfvlad("verify", tmp_path)
    assert_one_sentence(result, f"There is no file to verify in: {tmp_path}.")


def test_missing_file(tmp_path):
    result = tfvlad("verify", tmp_path / "missing.mp4")
    assert result.exit_code == 2
    assert "does not exist" in result.errors
