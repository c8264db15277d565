import re

import av
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from pipelines.video.codec.decoding import check_video, read_frames
from pipelines.video.codec.encoding import video_writer, write_video

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


def test_video_writer_takes_frames_as_they_come(tmp_path):
    path = tmp_path / "a.mp4"
    with video_writer(path, 25) as write:
        for image in ramp(10):
            write(image)
            assert not path.exists()
    np.testing.assert_allclose(grey(path), brightness(ramp(10)), atol=2)
    assert list(tmp_path.iterdir()) == [path]
