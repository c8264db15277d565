import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.clips.augmentation import crop_clip
from pipelines.video.codec.decoding import check_video, iterate_frames, read_frames
from pipelines.video.codec.frames import open_video
from pipelines.video.conversion import FrameConverter
from pipelines.video.crops import Crop
from pipelines.video.frame_folders import is_frame_folder, read_flow
from pipelines.video.info import BrokenVideoError, VideoInfo
from tests.pipelines.video_files import write_flow, write_images, write_video

NUM_FRAMES = 7


def random_images(count, shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


@pytest.fixture(scope="module")
def images():
    return random_images(NUM_FRAMES, (24, 36, 3))


@pytest.fixture(scope="module")
def flow():
    """`(frames, 2, H, W)`, every image of its own grey in the middle."""
    noise = random_images(NUM_FRAMES - 1, (2, 24, 36), seed=1) // 4
    return noise + 20 * np.arange(NUM_FRAMES - 1, dtype=np.uint8)[:, None, None, None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, images, flow):
    folder = tmp_path_factory.mktemp("frames") / "video"
    write_images(folder, images)
    return write_flow(folder, flow[:, 0], flow[:, 1])


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def test_folder_is_described_as_a_video(folder):
    expected = VideoInfo(NUM_FRAMES, 25.0, width=36, height=24)
    assert check_video(folder) == expected == check_video(folder, "flow")
    assert is_frame_folder(folder)
    assert not is_frame_folder(os.path.dirname(folder))


def test_flow_alone_has_one_frame_more(tmp_path, flow):
    path = write_flow(tmp_path / "flow", flow[:, 0], flow[:, 1])
    assert check_video(path, "flow").num_frames == NUM_FRAMES
    with pytest.raises(BrokenVideoError, match=r"the folder has no frames img_00001.jpg"):
        check_video(path)


def test_frames_equal_the_images(folder, images):
    indices = [0, 2, 2, 6]
    np.testing.assert_array_equal(read_frames(folder, indices), images[indices])
    np.testing.assert_array_equal(list(iterate_frames(folder, 24)), images)


def test_jpeg_frames(tmp_path):
    smooth = np.tile(np.linspace(0, 255, 64, dtype=np.uint8)[:, None], (3, 48, 1, 3))
    smooth[..., 0] //= 2
    path = write_images(tmp_path / "video", smooth, suffix=".jpg")
    np.testing.assert_allclose(read_frames(path, [0, 1, 2]), smooth, atol=6)


def test_frames_are_cut_as_those_of_videos(folder, images):
    crops = [Crop(4, 2, 20, 16, 54, 36), Crop(10, 4, 20, 16, 54, 36, flip=True)]
    color_matrix = np.array([[0.5, 0, 0, 9], [0, 1, 0, 0], [0.2, 0, 0.8, -3]], np.float32)
    options = {"crops": crops, "image_size": 12, "color_matrix": color_matrix}
    frames = read_frames(folder, [1, 5], **options)
    converter = FrameConverter(crops, (12, 12), color_matrix=color_matrix)
    expected = np.empty_like(frames)
    for slot, index in enumerate((1, 5)):
        converter.convert_rgb(images[index], expected[:, slot])
    np.testing.assert_array_equal(frames, expected)
    out = np.empty_like(frames)
    read_frames(folder, [1, 5], out=out, **options)
    np.testing.assert_array_equal(out, expected)


def test_all_frames_are_resized_to_a_short_side(tmp_path, folder):
    assert [frame.shape for frame in iterate_frames(folder, 12)] == [(12, 18, 3)] * NUM_FRAMES
    video = write_video(tmp_path / "v.mp4", 5, size=(96, 64))
    frames = list(iterate_frames(video, 32))
    crop = Crop(0, 0, 48, 32, 48, 32)
    expected = read_frames(video, range(5), crops=[crop], image_size=(32, 48))[0]
    np.testing.assert_array_equal(frames, expected)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(BrokenVideoError, match=r"broken.mp4: Invalid data"):
        list(iterate_frames(str(tmp_path / "broken.mp4"), 32))


def test_frames_beyond_the_end(folder):
    with pytest.raises(BrokenVideoError, match=r"frame 7 cannot be decoded; is it the end"):
        read_frames(folder, [3, 7])
    with pytest.raises(ValueError, match=r"must lie below the video's 7 frames. Received: 7"):
        read_frames(folder, [7], info=check_video(folder))


def test_the_note_tells_when_frames_are_shown(copy):
    note = copy / "video.json"
    note.write_text('{"frames_per_second": 10}')
    assert check_video(str(copy)).segment(0.2, 0.5) == range(2, 5)
    ticks = (0, 1, 2, 3, 50, 51, 60)
    note.write_text(json.dumps(VideoInfo(7, 9.0, 640, 480, 90, 0.01, ticks, (0, 4)).to_json()))
    expected = VideoInfo(7, 9.0, 36, 24, 0, 0.01, ticks)
    assert check_video(str(copy)) == expected == check_video(str(copy), "flow")
    note.write_text(json.dumps(VideoInfo(9, 9.0, 640, 480).to_json()))
    with pytest.raises(BrokenVideoError, match=r"7 frames are there, 9 by its video.json"):
        check_video(str(copy))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"frames_per_second": 0}'])
def test_a_note_without_a_rate(copy, content):
    (copy / "video.json").write_text(content)
    with pytest.raises(BrokenVideoError, match=r"video.json must state a positive number of"):
        check_video(str(copy))


def break_flow_number(copy):
    (copy / "flow_y_00003.png").unlink()


def break_start(copy):
    (copy / "img_00001.png").rename(copy / "img_00000.png")


def break_count(copy):
    (copy / "flow_y_00006.png").unlink()


def break_agreement(copy):
    for number in (5, 6):
        for axis in "xy":
            (copy / f"flow_{axis}_{number:05d}.png").unlink()


def break_image(copy):
    data = (copy / "img_00004.png").read_bytes()
    (copy / "img_00004.png").write_bytes(data[: len(data) // 4])


def break_flow_image(copy):
    (copy / "flow_y_00002.png").write_bytes(b"")


def break_size(copy):
    write_images(copy, random_images(2, (24, 30, 3)))


@pytest.mark.parametrize(
    ("damage", "stream", "reason"),
    [
        (break_flow_number, "flow", r"flow_y_00003.jpg is missing: frames are numbered from 1"),
        (break_start, "rgb", r"img_00001.jpg is missing: frames are numbered from 1 without gaps"),
        (break_count, "flow", r"there are 6 images flow_x_\*.jpg and 5 flow_y_\*.jpg"),
        (break_agreement, "flow", "7 frames have 4 frames of flow"),
        (break_image, "rgb", "img_00004.png cannot be decoded"),
        (break_flow_image, "flow", "flow_y_00002.png cannot be decoded"),
        (break_size, "rgb", "img_00003.png has 36x24 pixels, img_00001.png 30x24"),
    ],
)
def test_broken_folders(copy, damage, stream, reason):
    damage(copy)
    with pytest.raises(BrokenVideoError, match=reason):
        check_video(str(copy), stream)


def test_truncated_jpeg_is_broken(tmp_path):
    path = write_images(tmp_path / "v", random_images(2, (24, 36, 3)), suffix=".jpg")
    last = os.path.join(path, "img_00002.jpg")
    os.truncate(last, os.path.getsize(last) * 3 // 4)
    with pytest.raises(BrokenVideoError, match=r"img_00002.jpg cannot be decoded"):
        check_video(path)
    with pytest.raises(BrokenVideoError, match=r"v: img_00002.jpg cannot be decoded"):
        read_frames(path, [0, 1])


def test_a_flow_image_that_goes_missing(copy):
    (copy / "flow_x_00002.png").unlink()
    with pytest.raises(BrokenVideoError, match=r"copy: flow_x_00002.jpg is missing"):
        read_flow(str(copy), [1], crops=[Crop(0, 0, 8, 8, 8, 8)], image_size=8)


def test_where_there_is_no_flow(tmp_path, images):
    video = write_video(tmp_path / "v.mp4", 3)
    with pytest.raises(BrokenVideoError, match=r"a video file has no opt.*`pipelines.ext"):
        check_video(video, "flow")
    frames = write_images(tmp_path / "frames", images)
    with pytest.raises(BrokenVideoError, match=r"the folder has no opt.*`pipelines.ext"):
        check_video(frames, "flow")
    with pytest.raises(BrokenVideoError, match=r"v.mp4: a video file has no optical flow"):
        read_flow(video, [0], crops=[Crop(0, 0, 8, 8, 8, 8)], image_size=8)
    with pytest.raises(ValueError, match=r"`stream` must be one of rgb, flow. Received: 'depth'"):
        check_video(frames, "depth")
    with pytest.raises(BrokenVideoError, match=r"a folder, where a video file is needed"):
        open_video(frames)


def reference_stacks(flow, indices, stack_frames, segment):
    """`(T, H, W, 2 L)` by the definition, one flow frame at a time."""
    last = min(max(segment.stop - 2, segment.start), len(flow) - 1)
    clips = []
    for index in indices:
        channels = []
        for offset in range(stack_frames):
            number = index - stack_frames // 2 + offset
            number = max(min(segment.start, len(flow) - 1), min(number, last))
            channels += [flow[number, 0], flow[number, 1]]
        clips.append(np.stack(channels, axis=-1))
    return np.stack(clips)


@given(
    st.lists(st.integers(0, NUM_FRAMES - 1), min_size=1, max_size=5),
    st.integers(1, 11),
    st.tuples(st.integers(0, NUM_FRAMES - 1), st.integers(1, NUM_FRAMES)),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_stacks_of_flow(folder, flow, indices, stack_frames, bounds, flip):
    segment = range(bounds[0], min(bounds[0] + bounds[1], NUM_FRAMES))
    indices = [segment[index % len(segment)] for index in indices]
    crop = Crop(6, 0, 24, 24, 36, 24, flip)
    stacks = read_flow(
        folder,
        indices,
        stack_frames=stack_frames,
        segment=segment,
        crops=[crop],
        image_size=24,
    )
    expected = reference_stacks(flow, indices, stack_frames, segment)[:, :, 6:30]
    if flip:
        expected = expected[:, :, ::-1].copy()
        expected[..., 0::2] = 255 - expected[..., 0::2]
    np.testing.assert_array_equal(stacks, expected[None])


def test_flow_crops_equal_those_of_an_array(folder, flow):
    crops = [Crop(0, 0, 20, 16, 36, 24), Crop(9, 5, 20, 16, 36, 24, flip=True)]
    out = np.empty((2, 3, 12, 12, 4), np.uint8)
    stacks = read_flow(folder, [3, 1, 1], stack_frames=2, crops=crops, image_size=12, out=out)
    assert stacks is out
    clip = reference_stacks(flow, [3, 1, 1], 2, range(NUM_FRAMES))
    for crop, found in zip(crops, stacks, strict=True):
        np.testing.assert_array_equal(found, crop_clip(clip, crop, 12, is_flow=True))


def test_as_many_frames_as_flow(copy):
    # Some extractors leave the last frame out.
    (copy / "img_00007.png").unlink()
    assert check_video(str(copy), "flow").num_frames == 6
    crop = Crop(0, 0, 36, 24, 36, 24)
    assert read_flow(str(copy), [5], crops=[crop], image_size=8).shape == (1, 1, 8, 8, 20)
