"""Records whose video cannot be used are left out."""

import pytest

from pipelines.lists.broken import clip_frames, drop_broken
from pipelines.lists.records import VideoRecord
from pipelines.video.index import BrokenVideo
from pipelines.video.info import VideoInfo

INDEX = {
    "good.mp4": VideoInfo(20, 10.0, 64, 48),
    "text.mp4": BrokenVideo("text.mp4", "no video"),
    "short.mp4": VideoInfo(5, 10.0, 64, 48),
    "gone.mp4": BrokenVideo("gone.mp4", "No such file"),
}
RECORDS = [VideoRecord(path, (0,)) for path in INDEX]


def test_what_is_left_out_is_named():
    records = [*RECORDS, VideoRecord("good.mp4", (0,), start_seconds=90.0)]
    good, broken = drop_broken(records, INDEX)
    assert good == (records[0], records[2])
    assert [video.path for video in broken] == ["text.mp4", "gone.mp4", "good.mp4"]
    assert "No frame lies in the segment from 90.0" in broken[2].reason


def test_few_may_be_broken():
    assert len(drop_broken(RECORDS * 5, INDEX)[1]) == 10
    message = r"12 of 24 videos are broken, more than the 10 allowed by `max_broken`.*\(no video\)"
    with pytest.raises(ValueError, match=message):
        drop_broken(RECORDS * 6, INDEX)
    with pytest.raises(ValueError, match=r"2 of 4 videos are broken, more than the 1 allowed by"):
        drop_broken(RECORDS, INDEX, max_broken=1)
    with pytest.raises(ValueError, match="1 of 1 videos are broken"):
        drop_broken(RECORDS[1:2], INDEX)


def test_clips_have_the_frames_of_their_segment():
    segment = VideoRecord("good.mp4", (0,), 0.5, 1.0)
    assert clip_frames([RECORDS[0], segment, RECORDS[2]], INDEX) == [20, 5, 5]
