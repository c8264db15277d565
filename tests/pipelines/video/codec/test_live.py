import re
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import av
import cv2
import numpy as np
import pytest

from pipelines.video.codec.decoding import read_frames
from pipelines.video.codec.live import LiveFrames
from pipelines.video.codec.streaming import WindowStream
from pipelines.video.info import BrokenVideoError
from tests.pipelines.video_files import write_video

RATE = 25


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("live") / "ramp.mp4", num_frames=20)


@pytest.fixture(scope="module")
def long_video(tmp_path_factory):
    """4 seconds of noise, its index in front: half of it can be decoded."""
    path = tmp_path_factory.mktemp("live") / "noise.mp4"
    generator = np.random.default_rng(0)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=RATE, options={"g": "10"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(4 * RATE):
            image = generator.integers(0, 256, (64, 96, 3)).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return str(path)


@contextmanager
def served(handler):
    """The address of an HTTP server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class QuietFiles(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def assert_ended(frames):
    """The iteration is over and its thread has gone."""
    with pytest.raises(StopIteration):
        next(frames)
    assert "live-frames" not in {thread.name for thread in threading.enumerate()}


def first_image(path):
    with LiveFrames(path, real_time=False) as frames:
        return next(frames)[1]


def test_reads_every_frame_when_not_in_real_time(video):
    frames = LiveFrames(video, real_time=False)
    start = time.monotonic()
    found = list(frames)
    assert time.monotonic() - start < 0.6  # the video lasts 0.8 seconds
    assert frames.num_dropped == 0
    assert frames.error is None
    np.testing.assert_allclose([seconds for seconds, _ in found], np.arange(20) / RATE, atol=1e-6)
    np.testing.assert_array_equal([image for _, image in found], read_frames(video, range(20)))
    assert_ended(frames)


@pytest.mark.parametrize("image_size", [48, (40, 56)])
def test_crops_as_the_test_clips(video, image_size):
    frames = LiveFrames(video, image_size=image_size, short_side=60, real_time=False)
    windows = next(
        WindowStream(video, frame_step=1, image_size=image_size, short_side=60, batch_windows=20)
    ).windows
    np.testing.assert_array_equal([image for _, image in frames], windows[:, 0])


def test_the_crop_may_be_set_later(video):
    frames = LiveFrames(video, real_time=False)
    frames.image_size, frames.short_side = 32, 40
    assert next(frames)[1].shape == (32, 32, 3)
    frames.close()


def test_plays_in_real_time(video):
    with LiveFrames(video) as frames:
        first, _ = next(frames)
        start = time.monotonic()
        late = [time.monotonic() - start - seconds for seconds, _ in frames]
    assert first == 0
    assert min(late) > -0.05
    assert np.median(late) < 0.3
    assert frames.error is None


def test_a_slow_consumer_misses_frames_and_never_lags(long_video):
    late, times = [], []
    with LiveFrames(long_video) as frames:
        next(frames)
        start = time.monotonic()
        for seconds, _ in frames:
            late.append(time.monotonic() - start - seconds)
            times.append(seconds)
            time.sleep(0.15)
    # A queue would be seconds late; the bounds leave room for a busy machine.
    assert np.median(late) < 0.3
    # Nothing newer takes the place of the last one.
    assert late[-2] < 0.6
    assert frames.num_dropped == 4 * RATE - 1 - len(times)
    assert frames.num_dropped > len(times)


@pytest.mark.parametrize("real_time", [True, False])
def test_lower_rate(video, real_time):
    frames = LiveFrames(video, frames_per_second=5, real_time=real_time)
    times = [seconds for seconds, _ in frames]
    np.testing.assert_allclose(times, [0, 0.2, 0.4, 0.6], atol=1e-6)
    assert frames.num_dropped == 0


def test_rotated_video(video, tmp_path):
    upright = first_image(video)
    path = tmp_path / "rotated.mp4"
    with av.open(video) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    data = bytearray(path.read_bytes())
    # The matrix of the track header: a quarter turn.
    header = data.index(b"tkhd") + 4
    matrix = [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30]
    packed = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    data[header + 40 : header + 76] = packed
    path.write_bytes(data)
    np.testing.assert_array_equal(first_image(str(path)), np.rot90(upright, -1))


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "suffix"),
    [("rawvideo", "yuyv422", ".nut"), ("mjpeg", "yuvj422p", ".avi"), ("ffv1", "yuv420p10", ".mkv")],
)
def test_formats_of_cameras(codec, pix_fmt, suffix, tmp_path):
    path = write_video(tmp_path / f"odd{suffix}", num_frames=3, codec=codec, pix_fmt=pix_fmt)
    found = list(LiveFrames(path, real_time=False))
    assert len(found) == 3
    for number, (_, image) in enumerate(found):
        assert abs(np.median(image[40:]) - (20 + 3 * number)) <= 3


def test_time_stamps_that_jump(tmp_path):
    """A clock that starts again goes on; only a live stream's longer gaps are taken out."""
    path = write_video(
        tmp_path / "jump.nut", num_frames=6, codec="ffv1", pts=[0, 1, 2, 100, 101, 102]
    )
    with LiveFrames(path, real_time=False) as frames:
        times = [seconds for seconds, _ in frames]
    np.testing.assert_allclose(times, np.array([0, 1, 2, 100, 101, 102]) / RATE, atol=1e-3)
    with LiveFrames(path, real_time=False, timeout=1) as frames:
        frames._is_file = False
        times = [seconds for seconds, _ in frames]
    np.testing.assert_allclose(times, np.arange(6) / RATE, atol=1e-3)


def test_reads_from_a_web_server(video):
    folder, _, name = video.rpartition("/")
    with served(partial(QuietFiles, directory=folder)) as address:
        with LiveFrames(f"{address}/{name}", real_time=False) as frames:
            assert len(list(frames)) == 20
        assert frames.error is None
        # A file, wherever it lies, plays in real time.
        start = time.monotonic()
        times = [seconds for seconds, _ in LiveFrames(f"{address}/{name}")]
        assert time.monotonic() - start > times[-1] > 0.5
        with pytest.raises(BrokenVideoError, match=re.escape(f"{address}/none.mp4: ") + ".*404"):
            LiveFrames(f"{address}/none.mp4")


def motion_jpeg(pictures, rate, broken=()):
    """A camera's picture without an end, each frame as bright as its number."""

    class MotionJPEG(QuietFiles):
        sent: ClassVar[list[float]] = []

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            for number, picture in enumerate(pictures):
                data = picture[:20] if number in broken else picture
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.sent.append(time.monotonic())
                with suppress(OSError):  # who looked has gone
                    self.wfile.write(head.encode() + data + b"\r\n")
                time.sleep(1 / rate)

    return MotionJPEG


@pytest.mark.parametrize("rate", [12, 60])
def test_a_camera_on_the_web_never_lags(rate):
    """FFmpeg stamps 25 frames a second in any case."""
    images = [np.full((48, 64, 3), number, np.uint8) for number in range(int(2 * rate))]
    pictures = [cv2.imencode(".jpg", image)[1].tobytes() for image in images]
    handler = motion_jpeg(pictures, rate, broken=[rate])
    late, times, starts = [], [], []
    with (
        served(handler) as address,
        LiveFrames(f"{address}/camera") as frames,
    ):
        for seconds, image in frames:
            now, number = time.monotonic(), round(image.mean())
            late.append(now - handler.sent[number])
            times.append(seconds)
            starts.append(handler.sent[number] - seconds)
            time.sleep(0.2)
    assert 5 <= len(times) <= 20
    # The frame in hand is the newest; a demuxer holds one back until the next one begins.
    assert np.median(late) < 2 / rate + 0.3
    assert late[-2] < 2 / rate + 0.5
    # One clock, but for the frame that has waited for the camera to be opened.
    assert np.ptp(starts[1:]) < 0.5
    # All of it, past what is no picture.
    assert times[-1] > 1.5
    assert frames.num_dropped > 0


@pytest.mark.parametrize("is_live", [False, True])
def test_a_playlist_without_an_end_is_live(is_live, tmp_path):
    write_video(tmp_path / "part.ts", num_frames=50)
    end = "" if is_live else "#EXT-X-ENDLIST\n"
    head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n"
    playlist = f"{head}#EXTINF:2.0,\npart.ts\n{end}"
    (tmp_path / "list.m3u8").write_text(playlist)
    with (
        served(partial(QuietFiles, directory=tmp_path)) as address,
        LiveFrames(f"{address}/list.m3u8", timeout=1) as frames,
    ):
        start = time.monotonic()
        next(frames)
        frames.stop()
        assert frames._is_file is not is_live
        assert time.monotonic() - start < 1


def test_a_file_that_ends_in_the_middle(long_video, tmp_path):
    data = Path(long_video).read_bytes()
    path = tmp_path / "half.mp4"
    path.write_bytes(data[: len(data) // 2])
    frames = LiveFrames(str(path), real_time=False)
    found = list(frames)
    assert 30 < len(found) < 70
    assert re.fullmatch(re.escape(str(path)) + ": .+", frames.error)
    assert "\n" not in frames.error
    assert_ended(frames)


def stalling(data):
    class Stalling(QuietFiles):
        protocol_version = "HTTP/1.1"
        released = threading.Event()

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.released.wait(20)

    return Stalling


def test_a_server_that_stops_sending(long_video):
    handler = stalling(Path(long_video).read_bytes())
    with served(handler) as address:
        frames = LiveFrames(f"{address}/live.mp4", real_time=False, timeout=1)
        start = time.monotonic()
        found = list(frames)
        assert 1 <= time.monotonic() - start < 4
        handler.released.set()
    assert 30 < len(found) < 70
    assert frames.error == f"{address}/live.mp4: no frame has come for 1 seconds"
    assert_ended(frames)


def test_a_server_that_breaks_off(long_video):
    handler = stalling(Path(long_video).read_bytes())
    handler.released.set()
    handler.protocol_version = "HTTP/1.0"
    with served(handler) as address:
        frames = LiveFrames(f"{address}/live.mp4", real_time=False)
        assert 30 < len(list(frames)) < 70
    assert frames.error.startswith(f"{address}/live.mp4: ")


def test_a_pause_of_the_video_is_no_stall(tmp_path):
    path = write_video(tmp_path / "pause.nut", num_frames=3, codec="ffv1", pts=[0, 1, 20])
    with LiveFrames(path, timeout=0.2) as frames:
        assert len(list(frames)) == 3
    assert frames.error is None


def test_skipped_frames_are_no_stall(video):
    with LiveFrames(video, frames_per_second=2, timeout=0.2) as frames:
        assert [seconds for seconds, _ in frames] == [0, pytest.approx(0.52, abs=0.021)]
    assert frames.error is None


@pytest.mark.parametrize("num_read", [0, 3])
def test_close_ends_at_once(long_video, num_read):
    frames = LiveFrames(long_video)
    for _ in range(num_read):
        next(frames)
    start = time.monotonic()
    frames.close()
    assert time.monotonic() - start < 0.5
    assert frames.error is None
    assert_ended(frames)


@pytest.mark.parametrize("real_time", [True, False])
def test_stop_from_elsewhere_ends_a_wait(tmp_path, real_time):
    path = write_video(tmp_path / "pause.nut", num_frames=2, codec="ffv1", pts=[0, 500])
    frames = LiveFrames(path, real_time=real_time)
    next(frames)
    threading.Timer(0.2, frames.stop).start()
    start = time.monotonic()
    if not real_time:
        time.sleep(0.4)
    assert list(frames) == []
    assert time.monotonic() - start < 1
    assert frames.error is None


@pytest.mark.parametrize("name", ["frames_per_second", "timeout"])
@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan")])
def test_arguments_out_of_range(video, name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be a positive number. Received: {name}="):
        LiveFrames(video, **{name: value})


def test_sources_that_cannot_be_opened(tmp_path):
    with pytest.raises(BrokenVideoError, match=r"none\.mp4: No such file or directory"):
        LiveFrames(str(tmp_path / "none.mp4"))
    with pytest.raises(BrokenVideoError, match="a folder, where a video file is needed"):
        LiveFrames(str(tmp_path))
    text = tmp_path / "text.mp4"
    text.write_text("this is no video")
    with pytest.raises(BrokenVideoError, match=r"text\.mp4: Invalid data found"):
        LiveFrames(str(text))
    with pytest.raises(BrokenVideoError, match="/dev/video99: No such file or directory"):
        LiveFrames("/dev/video99")


def test_a_camera_on_windows_is_named(monkeypatch):
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(ValueError, match="A camera on Windows is named"):
        LiveFrames("0")
