import re

import av
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from pipelines.decoding import BrokenVideoError, check_video, read_frames
from pipelines.encoding import cut_video, join_videos, repeat_video, write_video

EVERY_FRAME_A_KEY = {"qp": "1", "g": "1"}


def ramp(num_frames, size=(48, 64), first=0, step=5):
    """Frame i is grey, as bright as 20 + step (first + i)."""
    return [np.full((*size, 3), 20 + step * (first + i), np.uint8) for i in range(num_frames)]


def grey(path):
    """The mean brightness of every frame."""
    info = check_video(str(path))
    return read_frames(str(path), range(info.num_frames)).mean(axis=(1, 2, 3))


def brightness(frames):
    return [int(frame[0, 0, 0]) for frame in frames]


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "ramp.mp4"
    write_video(path, ramp(40), 20)
    return path


class TestWriteVideo:
    @pytest.mark.parametrize("rate", [25, 24, 12.5, 30000 / 1001])
    def test_frames_and_rate(self, tmp_path, rate):
        write_video(tmp_path / "a.mp4", iter(ramp(10)), rate)
        info = check_video(str(tmp_path / "a.mp4"))
        assert (info.num_frames, info.width, info.height) == (10, 64, 48)
        assert info.frames_per_second == pytest.approx(rate, rel=1e-6)
        np.testing.assert_allclose(grey(tmp_path / "a.mp4"), brightness(ramp(10)), atol=2)

    def test_picture(self, tmp_path):
        # Smooth in space, for half of the colour resolution is lost.
        x, y = np.meshgrid(np.arange(64), np.arange(48))
        image = np.stack([40 + 2 * x, 200 - 3 * y, 30 + x + y], axis=-1).astype(np.uint8)
        write_video(tmp_path / "a.mp4", [image], 25, x264_options={"qp": "1"})
        frame = read_frames(str(tmp_path / "a.mp4"), [0])[0]
        assert np.abs(frame.astype(int) - image).mean() < 3

    @settings(max_examples=10, deadline=None)
    @given(st.integers(2, 40), st.integers(2, 40))
    def test_odd_sizes_repeat_the_last_row_and_column(self, tmp_path_factory, height, width):
        path = tmp_path_factory.mktemp("odd") / "a.mp4"
        write_video(path, ramp(2, (height, width)), 25)
        info = check_video(str(path))
        assert (info.height, info.width) == (height + height % 2, width + width % 2)
        frames = read_frames(str(path), [0, 1])
        assert np.abs(frames - np.reshape(brightness(ramp(2)), (2, 1, 1, 1))).max() < 4

    def test_every_player_reads_the_colours(self, video):
        with av.open(str(video)) as container:
            assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"

    def test_an_error_leaves_the_old_file_and_nothing_else(self, video):
        before = video.read_bytes()

        def frames():
            yield from ramp(3)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_video(video, frames(), 25)
        assert video.read_bytes() == before
        assert list(video.parent.iterdir()) == [video]

    @pytest.mark.parametrize(
        ("frames", "rate", "message"),
        [
            ([], 25, "`frames` must hold at least one frame. Received: none for "),
            (
                [np.zeros((8, 8, 3), np.float32)],
                25,
                "`frames` must be uint8 images (H, W, 3), all of one size. "
                "Received: float32 (8, 8, 3) as frame 0, (8, 8, 3) as frame 0.",
            ),
            (
                [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 6, 3), np.uint8)],
                25,
                "Received: uint8 (8, 6, 3) as frame 1, (8, 8, 3) as frame 0.",
            ),
            ([np.zeros((8, 8), np.uint8)], 25, "Received: uint8 (8, 8) as frame 0, (8, 8) as"),
            (
                ramp(1),
                0,
                "`frames_per_second` must be a positive number. Received: frames_per_second=0.",
            ),
        ],
    )
    def test_errors(self, tmp_path, frames, rate, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            write_video(tmp_path / "a.mp4", frames, rate)
        assert list(tmp_path.iterdir()) == []


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
