"""The videos that a caller names: a folder, one, or several."""

import os
from pathlib import Path

import pytest

from pipelines.lists.listing import find_videos
from tests.pipelines.video_files import write_tree


@pytest.fixture
def folder(tmp_path):
    write_tree(tmp_path / "videos", ["a/1.mp4", "a/notes.txt", "b/2.avi", "c/img_00001.jpg"])
    return tmp_path / "videos"


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder(folder, kind):
    paths = [str(folder / name) for name in ("a/1.mp4", "b/2.avi", "c")]
    assert find_videos(kind(folder)) == (paths, str(folder))
    assert find_videos(kind(folder), kind(folder.parent)) == (paths, str(folder.parent))


def test_one_video(folder, monkeypatch):
    assert find_videos(folder / "c") == ([str(folder / "c")], str(folder))  # of frames
    # A file that is named is a video, whatever its suffix.
    assert find_videos(folder / "a" / "notes.txt")[1] == str(folder / "a")
    monkeypatch.chdir(folder / "a")
    assert find_videos("1.mp4") == (["1.mp4"], os.curdir)


def test_several_videos(folder, monkeypatch):
    paths = [folder / "b" / "2.avi", str(folder / "a" / "1.mp4")]
    assert find_videos(paths) == ([str(path) for path in paths], str(folder))
    monkeypatch.chdir(folder / "a")
    assert find_videos(["1.mp4", "../b/2.avi"]) == (["1.mp4", "../b/2.avi"], str(folder))


def test_errors(folder):
    with pytest.raises(ValueError, match=r"`videos` must name at least one video. Received: an"):
        find_videos([])
    with pytest.raises(ValueError, match=r"There is no folder or video .*none\."):
        find_videos(folder / "none")
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match=r"There is no video below .*empty\."):
        find_videos(folder / "empty")
    with pytest.raises(ValueError, match=r"Every video must lie below .*b\. Received: .*1\.mp4\."):
        find_videos(folder / "a" / "1.mp4", folder / "b")
