import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.video.codec import decoding
from pipelines.video.codec.decoding import check_video, read_frames
from pipelines.video.conversion import yuv_to_rgb_matrix
from pipelines.video.crops import Crop
from pipelines.video.info import BrokenVideoError, VideoInfo
from tests.pipelines.video_files import write_video


@pytest.fixture(scope="module")
def long_video(tmp_path_factory):
    """72 frames with B-frames, a key frame every 24, every frame of its own luma."""
    return write_video(tmp_path_factory.mktemp("long") / "v.mp4", num_frames=72, gop=24)


def swscale_rgb(path):
    with av.open(path) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def test_check_video_counts_and_describes(long_video):
    info = check_video(long_video)
    assert (info.num_frames, info.width, info.height) == (72, 96, 64)
    assert info.frames_per_second == pytest.approx(25)
    assert info.duration_seconds == pytest.approx(72 / 25)
    assert isinstance(info.frame_ticks, range)
    assert info.key_frames == (0, 24, 48)
    np.testing.assert_allclose(info.frame_seconds(), np.arange(72) / 25)


def test_segment_bounds():
    info = VideoInfo(100, 25.0, 8, 8)
    assert info.segment(None, None) == range(100)
    assert info.segment(1.0, 2.0) == range(25, 50)
    assert info.segment(None, 0.01) == range(1)
    assert info.segment(3.9, None) == range(98, 100)
    uneven = VideoInfo(4, 4.0, 8, 8, 0, 0.1, (5, 6, 12, 13), (0,))
    assert uneven.segment(0.1, 0.75) == range(1, 3)
    with pytest.raises(ValueError, match=r"No frame lies in the segment from 4.5 to 5 s"):
        info.segment(4.5, 5)


def test_variable_frame_rate_keeps_the_frames_times(tmp_path):
    pts = [0, 1, 2, 10, 11, 30]
    path = write_video(tmp_path / "v.mkv", num_frames=6, pts=pts)
    info = check_video(path)
    assert isinstance(info.frame_ticks, tuple)
    np.testing.assert_allclose(info.frame_seconds(), np.array(pts) / 25, atol=1e-3)
    assert info.segment(0.3, 1.0) == range(3, 5)
    np.testing.assert_array_equal(read_frames(path, [2, 5], info=info), read_frames(path, [2, 5]))


def test_frames_are_the_wanted_ones(long_video):
    indices = [0, 7, 7, 30, 71]
    frames = read_frames(long_video, indices)
    assert frames.shape == (5, 64, 96, 3)
    np.testing.assert_allclose(
        frames[:, 50, 80].mean(-1), np.minimum(20 + 3 * np.array(indices), 233), atol=4
    )


@given(st.lists(st.integers(0, 71), min_size=1, max_size=12).map(sorted))
@settings(max_examples=40, deadline=None)
def test_key_frame_reading_equals_one_pass(long_video, indices):
    info = check_video(long_video)
    np.testing.assert_array_equal(
        read_frames(long_video, indices, info=info), read_frames(long_video, indices)
    )


def test_seeking_decodes_less(long_video, monkeypatch):
    info = check_video(long_video)
    decoded = []
    frames_at = decoding._frames_at

    def counting(*arguments):
        for frame in frames_at(*arguments):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(decoding, "_frames_at", counting)
    read_frames(long_video, [2, 50], info=info)
    assert len(decoded) < 12


def test_wrong_time_stamps_fall_back_to_one_pass(long_video):
    info = check_video(long_video)
    wrong = VideoInfo(72, 25.0, 96, 64, 0, info.seconds_per_tick, range(1, 73), (0, 24, 48))
    np.testing.assert_array_equal(
        read_frames(long_video, [3, 60], info=wrong), read_frames(long_video, [3, 60])
    )


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "yuvj420p", "gray"])
def test_colours_agree_with_swscale(tmp_path, pix_fmt):
    codec = "mjpeg" if pix_fmt == "yuvj420p" else "libx264"
    path = write_video(tmp_path / "v.mkv", num_frames=4, codec=codec, pix_fmt=pix_fmt)
    ours = read_frames(path, range(4)).astype(int)
    difference = np.abs(ours - swscale_rgb(path))
    assert np.quantile(difference, 0.95) <= 3
    assert difference.mean() < 1.5  # chroma edges, interpolated differently


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize(("colorspace", "kr", "kb"), [(2, 0.299, 0.114), (1, 0.2126, 0.0722)])
def test_colour_matrices_invert_the_standards(colorspace, kr, kb, full_range):
    rgb = np.array([250.0, 40.0, 120.0])
    luma = rgb @ [kr, 1 - kr - kb, kb]
    u, v = (rgb[2] - luma) / (2 * (1 - kb)), (rgb[0] - luma) / (2 * (1 - kr))
    yuv = [luma, u + 128, v + 128]
    if not full_range:
        yuv = [16 + luma * 219 / 255, 128 + u * 224 / 255, 128 + v * 224 / 255]
    matrix = yuv_to_rgb_matrix(colorspace, full_range)
    np.testing.assert_allclose(matrix @ [*yuv, 1], rgb, atol=1e-2)


@pytest.mark.parametrize("image_size", [48, 33])
@pytest.mark.parametrize("flip", [False, True])
def test_crops_are_fused_into_one_resize(long_video, image_size, flip):
    crop = Crop(24, 16, 96, 96, frame_width=192, frame_height=128, flip=flip)
    frames = read_frames(long_video, [5, 9], crops=[crop, crop], image_size=image_size)
    assert frames.shape == (2, 2, image_size, image_size, 3)
    whole = swscale_rgb(long_video)[[5, 9], 8:56, 12:60]
    expected = np.stack([cv2.resize(f, (image_size, image_size)) for f in whole])
    if flip:
        expected = expected[:, :, ::-1]
    for clip in frames:
        assert np.abs(clip.astype(int) - expected).mean() < 2


def test_color_matrix_is_applied(long_video):
    matrix = np.hstack([0.5 * np.eye(3), np.full((3, 1), 20.0)]).astype(np.float32)
    plain = read_frames(long_video, [5])[:, 40:, 60:].astype(float)
    changed = read_frames(long_video, [5], color_matrix=matrix)[:, 40:, 60:]
    np.testing.assert_allclose(changed, 0.5 * plain + 20, atol=2)


def test_out_is_written(long_video):
    out = np.zeros((1, 2, 16, 16, 3), np.uint8)
    crop = Crop(0, 0, 64, 64, 96, 64)
    read_frames(long_video, [0, 9], crops=[crop], image_size=16, out=out)
    np.testing.assert_array_equal(out, read_frames(long_video, [0, 9], crops=[crop], image_size=16))
    with pytest.raises(ValueError, match=r"`out` must be uint8 of shape \(1, 64, 96, 3\)"):
        read_frames(long_video, [0], out=out)


@pytest.mark.parametrize("indices", [[], [3, 2], [-1, 2], [[1]]])
def test_indices_are_checked(long_video, indices):
    with pytest.raises(ValueError, match=r"`indices` must be ascending frame numbers. Received"):
        read_frames(long_video, indices)


def test_indices_beyond_the_end(long_video):
    with pytest.raises(ValueError, match=r"must lie below the video's 72 frames. Received: 72"):
        read_frames(long_video, [72], info=check_video(long_video))
    with pytest.raises(BrokenVideoError, match="frame 72 cannot be decoded"):
        read_frames(long_video, [5, 72])


def test_broken_files_say_why(tmp_path, long_video):
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(BrokenVideoError, match="Invalid data found"):
        check_video(str(tmp_path / "empty.mp4"))
    with pytest.raises(BrokenVideoError, match="No such file"):
        check_video(str(tmp_path / "none.mp4"))
    with pytest.raises(BrokenVideoError, match=r"none.mp4: No such file"):
        read_frames(str(tmp_path / "none.mp4"), [0])
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(BrokenVideoError, match="no video stream"):
        check_video(str(tmp_path / "sound.wav"))


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_is_honoured(data_folder, degrees):
    path = str(data_folder / "edge_videos" / f"video_{degrees}.mov")
    info = check_video(path)
    assert info.rotation_degrees == degrees
    assert (info.width, info.height) == ((568, 320) if degrees in (0, 180) else (320, 568))
    stored = swscale_rgb(path)[1].astype(int)
    displayed = read_frames(path, [1])[0]
    assert np.abs(displayed - np.rot90(stored, -degrees // 90)).mean() < 4
    corner = Crop(0, 0, info.width // 4, info.height // 4, info.width, info.height)
    box = read_frames(path, [1], crops=[corner])[0, 0]
    expected = displayed[: info.height // 4, : info.width // 4].astype(int)
    assert np.abs(box - expected).max() <= 3  # chroma at the cut edges


def test_edge_videos_are_told_apart(data_folder):
    broken = set()
    for path in sorted((data_folder / "edge_videos").iterdir()):
        try:
            info = check_video(str(path))
        except BrokenVideoError as error:
            assert "\n" not in str(error)  # noqa: PT017
            broken.add(path.name)
        else:
            last = read_frames(str(path), [info.num_frames - 1], info=info)
            assert last.shape == (1, info.height, info.width, 3)
    assert broken == {"audio_only.mp4", "corrupted.mp4", "empty.webm"}
