"""Which files can be decoded."""

import json
from pathlib import Path

import pytest

from pipelines.video.index import BrokenVideo
from pipelines.video.info import VideoInfo
from pipelines.video.verification import verify
from tests.pipelines.video_files import write_video


@pytest.fixture
def folder(tmp_path):
    for name in ("a", "b/.partial-x"):
        (tmp_path / name).mkdir(parents=True)
    write_video(tmp_path / "a" / "good.mp4", 7)
    (tmp_path / "a" / "good.mp4").rename(tmp_path / "a" / "good")
    write_video(tmp_path / "z.mp4", 3)
    for name in ("b/broken.avi", "b/.partial-x/half.mp4", ".hidden", "notes.txt", "a/README.md"):
        (tmp_path / name).write_text("no video")
    return tmp_path


def test_folders_and_files(folder):
    found = verify([folder, folder / "notes.txt"], num_workers=2, progress=False)
    names = ["a/good", "b/broken.avi", "z.mp4", "notes.txt"]
    assert list(found.videos) == [str(folder / name) for name in names]
    assert list(found.good) == [str(folder / name) for name in ("a/good", "z.mp4")]
    assert isinstance(found.good[str(folder / "a/good")], VideoInfo)
    assert [video.path for video in found.broken] == [str(folder / name) for name in names[1::2]]
    assert found.broken[0] == found.videos[str(folder / "b/broken.avi")]


def test_as_json(folder):
    found = verify(str(folder), progress=False)
    path = str(folder / "z.mp4")
    told = json.loads(json.dumps(found.to_dict()))
    assert told["good"][1] == {
        "path": path,
        "num_frames": 3,
        "seconds": found.good[path].duration_seconds,
    }
    reason = "Invalid data found when processing input"
    assert told["broken"] == [{"path": str(folder / "b/broken.avi"), "reason": reason}]


def test_a_missing_file_is_broken(tmp_path):
    assert verify(tmp_path / "none.mp4", progress=False).broken == (
        BrokenVideo(str(tmp_path / "none.mp4"), "No such file or directory"),
    )


@pytest.mark.parametrize("paths", [[], ["folder"]])
def test_nothing_to_verify(paths, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=r"There is no file to verify in: "):
        verify([tmp_path / path for path in paths], progress=False)


def test_real_edge_cases(data_folder):
    folder = data_folder / "edge_videos"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    found = verify(folder, progress=False)
    names = {path for path in Path(folder).rglob("*") if path.is_file() and path.name[0] != "."}
    assert {Path(path) for path in found.videos} == names
    assert found.broken
    assert found.good
