import json
import os

import numpy as np
import pytest

from pipelines.video import index as video_index
from pipelines.video.index import BrokenVideo, index_videos
from pipelines.video.info import VideoInfo
from tests.logs import warned
from tests.pipelines.video_files import write_flow, write_images, write_video


@pytest.fixture
def videos(tmp_path):
    good = write_video(tmp_path / "good.mp4", 5)
    uneven = write_video(tmp_path / "uneven.mkv", 4, pts=[0, 1, 5, 9])
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    return [good, str(tmp_path / "bad.mp4"), uneven, str(tmp_path / "missing.mp4")]


def test_index_tells_good_from_broken(videos, caplog, capfd):
    caplog.set_level("INFO", "pipelines")
    index = index_videos(videos * 2, num_workers=2, progress=True)
    assert list(index) == videos
    assert [isinstance(v, VideoInfo) for v in index.values()] == [True, False, True, False]
    assert index[videos[1]] == BrokenVideo(videos[1], "Invalid data found when processing input")
    assert caplog.messages[-1].startswith("Checking videos: 4/4 after ")
    caplog.clear()
    index_videos(videos, progress=False)
    assert caplog.messages == []
    assert capfd.readouterr() == ("", "")  # nor FFmpeg's own messages


def test_cache_is_used_until_a_file_changes(videos, tmp_path, monkeypatch):
    cache = str(tmp_path / "new" / "index.json")
    first = index_videos(videos, cache_path=cache, progress=False)
    checked = []
    check_video = video_index.check_video
    monkeypatch.setattr(
        video_index, "check_video", lambda path, stream: checked.append(path) or check_video(path)
    )
    assert index_videos(videos, cache_path=cache, progress=False) == first
    assert checked == []
    os.utime(videos[0], ns=(1, 1))
    write_video(videos[3], 3)
    second = index_videos(videos, cache_path=cache, progress=False)
    assert sorted(checked) == sorted([videos[0], videos[3]])
    assert second[videos[3]].num_frames == 3
    assert os.listdir(os.path.dirname(cache)) == ["index.json"]


def test_interrupted_check_goes_on(videos, tmp_path, monkeypatch):
    cache = str(tmp_path / "index.json")
    check_video = video_index.check_video

    def interrupted(path, stream):
        if path == videos[2]:
            raise KeyboardInterrupt
        return check_video(path)

    monkeypatch.setattr(video_index, "check_video", interrupted)
    with pytest.raises(KeyboardInterrupt):
        index_videos(videos, num_workers=1, cache_path=cache, progress=False)
    with open(cache) as file:
        kept = json.load(file)["videos"]
    assert os.path.abspath(videos[0]) in kept
    assert os.path.abspath(videos[2]) not in kept


def test_cache_tells_streams_apart_and_sees_new_frames(tmp_path, monkeypatch):
    images = np.zeros((4, 16, 16), np.uint8)
    folder = write_flow(tmp_path / "v", images[:3], images[:3])
    cache = str(tmp_path / "index.json")

    def num_frames(stream):
        info = index_videos([folder], cache_path=cache, progress=False, stream=stream)[folder]
        return info.num_frames if isinstance(info, VideoInfo) else info.reason

    assert "has no frames img_00001.jpg" in num_frames("rgb")
    assert num_frames("flow") == 4
    write_images(folder, np.zeros((3, 16, 16, 3), np.uint8))
    assert num_frames("flow") == num_frames("rgb") == 3
    monkeypatch.delattr(video_index, "check_video")
    assert num_frames("flow") == num_frames("rgb") == 3


@pytest.mark.parametrize("content", ["{", "[]", '{"videos": {}}'])
def test_foreign_cache_is_replaced_with_a_warning(videos, tmp_path, content):
    cache = tmp_path / "index.json"
    cache.write_text(content)
    with warned("is no video index and will be replaced"):
        index_videos(videos[:1], cache_path=str(cache), progress=False)
    assert len(json.loads(cache.read_text())["videos"]) == 1
