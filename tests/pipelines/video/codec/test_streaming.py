from types import SimpleNamespace

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.clips.augmentation import fixed_crops
from pipelines.clips.sampling import dense_windows, num_windows
from pipelines.video.codec import frame_order, streaming
from pipelines.video.codec.decoding import check_video, read_frames
from pipelines.video.codec.streaming import WindowStream, estimate_num_frames
from pipelines.video.crops import Crop, resized_size
from pipelines.video.info import BrokenVideoError
from tests.pipelines.video_files import write_video

SETTINGS = {"image_size": 32, "short_side": 40}
NUM_FRAMES = 47


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """47 frames with B-frames, every frame of its own luma."""
    return write_video(tmp_path_factory.mktemp("stream") / "v.mp4", NUM_FRAMES, gop=24)


def collect(path, **options):
    batches = list(WindowStream(path, **{**SETTINGS, **options}))
    return [np.concatenate(parts) for parts in zip(*batches, strict=True)]


def expected_windows(path, info, start, frame_step, window_frames):
    count = info.num_frames - start
    indices = start + dense_windows(count, window_frames, frame_step, "repeat_last")
    wanted, places = np.unique(indices, return_inverse=True)
    frame_size = resized_size(info.width, info.height, SETTINGS["short_side"])
    crops = fixed_crops(*frame_size, SETTINGS["image_size"])
    frames = read_frames(path, wanted, crops=crops, image_size=SETTINGS["image_size"])[0]
    return indices[:, 0], frames[places.reshape(indices.shape)]


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, NUM_FRAMES - 1), st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_windows_are_those_of_dense_windows(video, step, window, start, batch):
    info = check_video(video)
    stream = WindowStream(
        video,
        frame_step=step,
        window_frames=window,
        start_frame=start,
        batch_windows=batch,
        **SETTINGS,
    )
    first, seconds, windows = (np.concatenate(parts) for parts in zip(*stream, strict=True))
    starts, frames = expected_windows(video, info, start, step, window)
    np.testing.assert_array_equal(first, starts)
    np.testing.assert_array_equal(windows, frames)
    np.testing.assert_allclose(seconds, info.frame_seconds()[starts])
    assert (first.dtype, seconds.dtype) == (np.int64, np.float64)
    assert stream.num_frames == NUM_FRAMES
    assert stream.frames_per_second == pytest.approx(25, rel=1e-3)


@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 20),
    st.sets(st.integers(0, 30), min_size=1, max_size=8),
)
@settings(max_examples=30, deadline=None)
def test_chosen_windows_are_those_of_all_windows(video, step, window, start, numbers):
    options = {"frame_step": step, "window_frames": window, "start_frame": start}
    first, seconds, windows = collect(video, **options)
    chosen = sorted(k for k in numbers if k < len(first)) or [len(first) - 1]
    found = collect(video, window_numbers=chosen, **options)
    np.testing.assert_array_equal(found[0], first[chosen])
    np.testing.assert_array_equal(found[1], seconds[chosen])
    np.testing.assert_array_equal(found[2], windows[chosen])


def test_frames_of_no_chosen_window_are_not_converted(video, monkeypatch):
    converted = []
    convert = streaming.convert_frame

    def counting(*arguments):
        converted.append(1)
        convert(*arguments)

    monkeypatch.setattr(streaming, "convert_frame", counting)
    collect(video, frame_step=1, window_frames=3, window_numbers=[0, 2, 30])
    assert len(converted) == 5 + 3


@pytest.mark.parametrize("numbers", [[-1, 2], [3, 3], [4, 2], [[0]]])
def test_window_numbers_must_ascend(video, numbers):
    with pytest.raises(ValueError, match=r"`window_numbers` must ascend from 0 or above\."):
        WindowStream(video, frame_step=1, window_numbers=numbers)


def test_batches_are_bounded_and_stay_as_they_are(video):
    batches = list(WindowStream(video, frame_step=3, batch_windows=5, **SETTINGS))
    assert [len(batch.seconds) for batch in batches] == [5, 5, 5, 1]
    joined = np.concatenate([batch.windows for batch in batches])
    np.testing.assert_array_equal(joined, collect(video, frame_step=3)[2])


def test_end_frame(video):
    first, _, windows = collect(video, frame_step=4, window_frames=4, start_frame=5, end_frame=15)
    assert first.tolist() == [5, 9, 13]
    np.testing.assert_array_equal(windows[2, 1], windows[2, 3])
    assert (windows[2, 0] != windows[2, 1]).any()


@pytest.mark.parametrize("image_size", [(20, 36), (48, 32), (64, 20)])
def test_sizes_of_other_shapes_cut_the_largest_box(video, image_size):
    windows = collect(video, frame_step=40, image_size=image_size)[2]
    assert windows.shape[2:] == (*image_size, 3)
    scale = min(1, 40 / image_size[0], 60 / image_size[1])
    height, width = (round(side * scale) for side in image_size)
    crop = Crop((60 - width) // 2, (40 - height) // 2, width, height, 60, 40)
    expected = read_frames(video, [0, 40], crops=[crop], image_size=image_size)[0]
    np.testing.assert_array_equal(windows[:, 0], expected)


def test_unneeded_frames_are_not_decoded(video, monkeypatch):
    decoded = []
    decode = streaming.decode_ranked

    def counting(*arguments):
        for index, tick, frame in decode(*arguments):
            if frame is not None:
                decoded.append(index)
            yield index, tick, frame

    monkeypatch.setattr(streaming, "decode_ranked", counting)
    collect(video, frame_step=16)
    assert {0, 16, 32} <= set(decoded)
    assert len(decoded) < 0.7 * NUM_FRAMES


@given(st.integers(1, 20), st.integers(1, 3), st.integers(1, NUM_FRAMES))
@settings(max_examples=30, deadline=None)
def test_frames_before_the_end_are_counted(video, step, window, end):
    stream = WindowStream(
        video, frame_step=step, window_frames=window, end_frame=end, batch_windows=99, **SETTINGS
    )
    (batch,) = stream
    assert stream.num_frames == end
    assert len(batch.seconds) == num_windows(end, window, step)


@pytest.mark.parametrize(("frame_step", "num_passed_over"), [(7, 1), (20, 2), (2, 1), (1, 1)])
def test_last_frames_that_are_passed_over_are_counted(
    video, monkeypatch, frame_step, num_passed_over
):
    # x264 ends every video with a reference frame; other encoders do not.
    ranked = frame_order._ranked_packets
    passed_over = range(NUM_FRAMES - num_passed_over, NUM_FRAMES)

    def passing_over(packets):
        for packet, rank in ranked(packets):
            is_last = rank is not None and rank in passed_over
            yield SimpleNamespace(pts=packet.pts, decode=list) if is_last else packet, rank

    expected = collect(video, frame_step=frame_step)
    monkeypatch.setattr(frame_order, "_ranked_packets", passing_over)
    stream = WindowStream(video, frame_step=frame_step, batch_windows=99, **SETTINGS)
    (batch,) = stream
    for found, wanted in zip(batch, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert stream.num_frames == NUM_FRAMES
    assert stream.frames_per_second == pytest.approx(25)


@pytest.mark.parametrize(("codec", "suffix"), [("mpeg4", "avi"), ("mjpeg", "mkv"), ("h264", "ts")])
def test_other_codecs_and_containers(tmp_path, codec, suffix):
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_video(tmp_path / f"v.{suffix}", 21, codec=codec, pix_fmt=pix_fmt)
    starts, frames = expected_windows(path, check_video(path), 2, 6, 2)
    first, seconds, windows = collect(path, frame_step=6, window_frames=2, start_frame=2)
    np.testing.assert_array_equal(first, starts)
    np.testing.assert_array_equal(windows, frames)
    np.testing.assert_allclose(seconds, starts / 25, atol=1e-3)


def test_uneven_time_stamps(tmp_path):
    pts = [0, 1, 2, 10, 11, 30]
    path = write_video(tmp_path / "v.mkv", num_frames=6, pts=pts)
    np.testing.assert_allclose(collect(path, frame_step=1)[1], np.array(pts) / 25, atol=1e-3)


def test_a_wrong_order_of_packets_falls_back_to_decoding_all(video, monkeypatch):
    ranked = frame_order._ranked_packets

    def failing(packets):
        for number, item in enumerate(ranked(packets)):
            if number == 20:
                raise frame_order.UnrankedError
            yield item

    expected = collect(video, frame_step=5)
    monkeypatch.setattr(frame_order, "_ranked_packets", failing)
    for found, wanted in zip(collect(video, frame_step=5), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_broken_end_comes_after_the_good_windows(tmp_path):
    path = write_video(tmp_path / "v.mkv", 40, codec="mjpeg", pix_fmt="yuvj420p")
    with av.open(path) as container:
        positions = [packet.pos for packet in container.demux(video=0) if packet.size]
    with open(path, "r+b") as file:
        file.seek(positions[30] + 20)
        file.write(bytes(2000))
    stream = WindowStream(path, frame_step=4, window_frames=4, batch_windows=5, **SETTINGS)
    batches = []
    with pytest.raises(BrokenVideoError, match=r"v.mkv: Invalid data found"):
        batches.extend(stream)
    assert [b.first_frames.tolist() for b in batches] == [[0, 4, 8, 12, 16], [20, 24]]


def test_files_without_frames(tmp_path, video):
    (tmp_path / "empty.mp4").touch()
    for name, error in [("empty.mp4", "Invalid data found"), ("none.mp4", "No such file")]:
        with pytest.raises(BrokenVideoError, match=f"{name}: {error}"):
            next(WindowStream(str(tmp_path / name), frame_step=1))
        with pytest.raises(BrokenVideoError, match=f"{name}: {error}"):
            estimate_num_frames(str(tmp_path / name))
    with pytest.raises(BrokenVideoError, match="frame 47 cannot be decoded; is it the end"):
        next(WindowStream(video, frame_step=1, start_frame=47))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"frame_step": 0}, "`frame_step` must be a positive integer. Received: frame_step=0"),
        ({"frame_step": 1, "window_frames": 0}, "`window_frames` must be a positive integer"),
        ({"frame_step": 1, "image_size": (0, 9)}, "`image_size` must be a positive integer"),
        ({"frame_step": 1, "start_frame": 3, "end_frame": 3}, "Received: start_frame=3, end_frame"),
        ({"frame_step": 1, "start_frame": -1}, "Expected 0 <= `start_frame` < `end_frame`"),
    ],
)
def test_arguments_are_checked(video, options, error):
    with pytest.raises(ValueError, match=error):
        WindowStream(video, **options)


def test_estimates(tmp_path, video):
    assert estimate_num_frames(video) == NUM_FRAMES  # the container's count
    path = write_video(tmp_path / "v.mkv", 30)
    assert abs(estimate_num_frames(path) - 30) <= 1  # its duration
    with av.open(path) as source, av.open(str(tmp_path / "raw.h264"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            packet.stream = stream
            if packet.size:
                target.mux(packet)
    assert estimate_num_frames(str(tmp_path / "raw.h264")) is None


def test_real_videos(data_folder):
    paths = sorted((data_folder / "sample_clips").iterdir())
    paths += sorted((data_folder / "edge_videos").iterdir())
    for path in map(str, paths):
        try:
            info = check_video(path)
        except BrokenVideoError:
            with pytest.raises(BrokenVideoError):
                list(WindowStream(path, frame_step=7, **SETTINGS))
            continue
        starts, frames = expected_windows(path, info, 0, 16, 3)
        stream = WindowStream(path, frame_step=16, window_frames=3, **SETTINGS)
        first, seconds, windows = (np.concatenate(parts) for parts in zip(*stream, strict=True))
        assert stream.num_frames == info.num_frames
        np.testing.assert_array_equal(first, starts)
        np.testing.assert_array_equal(windows, frames)
        # An AVI of packed frames has disordered time stamps.
        np.testing.assert_allclose(seconds, info.frame_seconds()[starts], atol=0.1)
