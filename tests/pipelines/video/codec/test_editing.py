import re

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from pipelines.video.codec.decoding import check_video, read_frames
from pipelines.video.codec.editing import cut_video, join_videos, repeat_video
from pipelines.video.codec.encoding import write_video
from pipelines.video.info import BrokenVideoError
from tests.pipelines.video.codec.test_encoding import EVERY_FRAME_A_KEY, brightness, grey, ramp


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "ramp.mp4"
    write_video(path, ramp(40), 20)
    return path


class TestJoinVideos:
    def test_intervals_and_frames(self, tmp_path):
        parts = [ramp(5), ramp(8, first=10), ramp(3, first=30)]
        paths = [tmp_path / f"{i}.mp4" for i in range(3)]
        for path, frames in zip(paths, parts, strict=True):
            write_video(path, frames, 25)
        intervals = join_videos(paths, tmp_path / "joined.mp4")
        np.testing.assert_allclose(intervals, [(0, 0.2), (0.2, 0.52), (0.52, 0.64)])
        expected = [value for frames in parts for value in brightness(frames)]
        np.testing.assert_allclose(grey(tmp_path / "joined.mp4"), expected, atol=3)

    @pytest.mark.parametrize(("rate", "num_frames"), [(40, 80), (10, 20), (15, 30)])
    def test_another_rate_shows_the_same_at_the_same_time(self, video, rate, num_frames):
        output = video.with_name("joined.mp4")
        assert join_videos([video], output, frames_per_second=rate) == [(0, 2)]
        shown = grey(output)
        assert len(shown) == num_frames
        middles = (2 * np.arange(num_frames) + 1) * 20 // (2 * rate)
        np.testing.assert_allclose(shown, np.array(brightness(ramp(40)))[middles], atol=3)

    def test_other_shapes_are_cut_at_the_centre(self, tmp_path):
        wide = np.zeros((48, 96, 3), np.uint8)
        wide[:, 24:72] = 200
        write_video(tmp_path / "tall.mp4", ramp(2, (48, 48)), 25)
        write_video(tmp_path / "wide.mp4", [wide] * 2, 25)
        paths = [tmp_path / "tall.mp4", tmp_path / "wide.mp4"]
        for image_size, shape in ((None, (48, 48)), (32, (32, 32)), ((30, 30), (30, 30))):
            join_videos(paths, tmp_path / "joined.mp4", image_size=image_size)
            frames = read_frames(str(tmp_path / "joined.mp4"), [2, 3])
            assert frames.shape == (2, *shape, 3)
            # Scaling blurs the edges of what is cut.
            np.testing.assert_allclose(frames[:, :, 2:-2], 200, atol=6)

    @pytest.mark.parametrize("degrees", [90, 180, 270])
    def test_rotated_videos_are_upright(self, data_folder, tmp_path, degrees):
        path = data_folder / "edge_videos" / f"video_{degrees}.mov"
        output = tmp_path / "joined.mp4"
        rate = check_video(str(path)).frames_per_second
        join_videos([path], output, image_size=160, frames_per_second=rate)
        upright = read_frames(str(path), [1])[0]
        join_videos([path], tmp_path / "whole.mp4", frames_per_second=rate)
        whole = read_frames(str(tmp_path / "whole.mp4"), [1])[0]
        assert whole.shape == upright.shape
        assert np.abs(whole.astype(int) - upright).mean() < 6
        square = read_frames(str(output), [1])[0]
        height, width = upright.shape[:2]
        top, left = max(height - width, 0) // 2, max(width - height, 0) // 2
        side = min(height, width)
        half = upright[top : top + side, left : left + side].reshape(160, 2, 160, 2, 3)
        assert np.abs(square - half.mean(axis=(1, 3))).mean() < 6

    def test_odd_files(self, data_folder, tmp_path):
        broken = set()
        for path in sorted((data_folder / "edge_videos").iterdir()):
            try:
                join_videos([path], tmp_path / "joined.mp4", image_size=64)
            except BrokenVideoError:
                broken.add(path.name)
        assert (
            {"audio_only.mp4", "empty.webm"}
            <= broken
            <= {
                "audio_only.mp4",
                "corrupted.mp4",
                "empty.webm",
            }
        )

    @pytest.mark.parametrize(
        ("paths", "options", "message"),
        [
            ([], {}, "`paths` must name at least one video. Received: none."),
            (["a"], {"image_size": 0}, "`image_size` must be positive. Received: image_size=0."),
            (["a"], {"frames_per_second": -1}, "Received: frames_per_second=-1."),
        ],
    )
    def test_errors(self, tmp_path, paths, options, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            join_videos(paths, tmp_path / "joined.mp4", **options)

    def test_broken_video(self, video, tmp_path):
        (tmp_path / "text.mp4").write_text("no video")
        with pytest.raises(BrokenVideoError, match=r"text\.mp4: Invalid data"):
            join_videos([video, tmp_path / "text.mp4"], tmp_path / "joined.mp4")
        assert not (tmp_path / "joined.mp4").exists()


class TestCutVideo:
    @settings(max_examples=15, deadline=None)
    @given(st.data())
    def test_exactly_the_frames_of_the_intervals(self, tmp_path_factory, data):
        path = tmp_path_factory.mktemp("cut") / "a.mp4"
        options = {"qp": "1", "g": data.draw(st.sampled_from(["1", "7", "250"]))}
        write_video(path, ramp(40), 20, x264_options=options)
        pairs = st.tuples(st.integers(0, 39), st.integers(0, 39)).filter(lambda p: p[0] < p[1])
        spans = data.draw(st.lists(pairs, min_size=1, max_size=3))
        output = path.with_name("b.mp4")
        cut_video(path, [(first / 20, stop / 20) for first, stop in spans], output)
        expected = [i for first, stop in spans for i in range(first, stop)]
        np.testing.assert_allclose(grey(output), np.array(brightness(ramp(40)))[expected], atol=3)
        assert check_video(str(output)).duration_seconds == pytest.approx(len(expected) / 20)

    def test_an_interval_beyond_the_end_stops_there(self, video, tmp_path):
        cut_video(video, [(1.75, 9)], tmp_path / "cut.mp4")
        np.testing.assert_allclose(grey(tmp_path / "cut.mp4"), brightness(ramp(40))[35:], atol=3)

    @pytest.mark.parametrize(
        ("intervals", "message"),
        [
            ([], "`intervals` must hold at least one (start, end). Received: none."),
            (
                [(1, 1)],
                "`intervals` must start at 0 or later and end after their start. Received: (1, 1).",
            ),
            ([(-1, 1)], "Received: (-1, 1)."),
            ([(5, 6)], "`frames` must hold at least one frame."),
        ],
    )
    def test_errors(self, video, tmp_path, intervals, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            cut_video(video, intervals, tmp_path / "cut.mp4")


class TestRepeatVideo:
    @pytest.mark.parametrize("options", [None, EVERY_FRAME_A_KEY])
    def test_frames_and_times(self, tmp_path, options):
        write_video(tmp_path / "a.mp4", ramp(12), 25, x264_options=options)
        repeat_video(tmp_path / "a.mp4", 3, tmp_path / "b.mp4")
        info = check_video(str(tmp_path / "b.mp4"))
        assert info.num_frames == 36
        np.testing.assert_allclose(info.frame_seconds(), np.arange(36) / 25, atol=1e-6)
        np.testing.assert_array_equal(
            grey(tmp_path / "b.mp4"), np.tile(grey(tmp_path / "a.mp4"), 3)
        )

    def test_errors(self, video, tmp_path):
        message = "`count` must be a positive integer. Received: count=0."
        with pytest.raises(ValueError, match=re.escape(message)):
            repeat_video(video, 0, tmp_path / "b.mp4")
        (tmp_path / "text.mp4").write_text("no video")
        with pytest.raises(BrokenVideoError, match=r"text\.mp4: Invalid data"):
            repeat_video(tmp_path / "text.mp4", 2, tmp_path / "b.mp4")
        assert not (tmp_path / "b.mp4").exists()
