import threading

import numpy as np
import pytest
import tensorflow as tf

from pipelines.clips import augmentation
from pipelines.clips.sampling import spread_clips
from pipelines.clips.video_clips import VideoClipSource, clip_dataset
from pipelines.lists.annotations import read_folder
from pipelines.lists.records import VideoRecord
from pipelines.video.codec.decoding import read_frames
from pipelines.video.frame_folders import read_flow
from pipelines.video.index import index_videos
from tests.logs import warned
from tests.pipelines.video_files import write_flow, write_images, write_video

SETTINGS = {"num_frames": 4, "image_size": 32, "short_side": 40}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    for i in range(7):
        (root / "ab"[i % 2]).mkdir(exist_ok=True)
        write_video(root / "ab"[i % 2] / f"{i}.mp4", num_frames=3 + 4 * i, size=(96, 64))
    return root


@pytest.fixture(scope="module")
def annotations(folder):
    return read_folder(str(folder))


@pytest.fixture(scope="module")
def index(annotations):
    return index_videos((r.path for r in annotations.records), progress=False)


@pytest.fixture
def source(annotations, index):
    return VideoClipSource(
        annotations.records, annotations.class_names, index=index, color_jitter=0.2, **SETTINGS
    )


def test_source_describes_itself(source):
    assert len(source) == 7
    assert source.class_names == ("a", "b")
    assert source.labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert source.labels.dtype == np.int32
    assert source.clip_shape == (4, 32, 32, 3)


@pytest.mark.parametrize("num_frames", [1, 4, 9])
def test_another_number_of_frames(annotations, index, source, num_frames):
    expected = VideoClipSource(
        annotations.records,
        annotations.class_names,
        index=index,
        color_jitter=0.2,
        **{**SETTINGS, "num_frames": num_frames},
    )
    found = source.with_num_frames(num_frames)
    assert found.clip_shape == (num_frames, 32, 32, 3)
    assert found.fingerprints(True) == expected.fingerprints(True)
    for one, other in zip(found.clips(True, 1), expected.clips(True, 1), strict=True):
        np.testing.assert_array_equal(one, other)
    assert source.clip_shape == (4, 32, 32, 3)


def test_clips_are_the_centre_crops_of_uniform_frames(source):
    clips = list(source.clips())
    assert len(clips) == 7
    record, info = source.records[3], source.index[source.records[3].path]
    indices = (2 * np.arange(4) + 1) * info.num_frames // 8
    crop = augmentation.Crop(14, 4, 32, 32, 60, 40)
    expected = read_frames(record.path, indices, crops=[crop], image_size=32)[0]
    np.testing.assert_array_equal(clips[3], expected)


def test_augmented_clips_do_not_depend_on_threads(annotations, index):
    def clips(num_workers, variant, **options):
        source = VideoClipSource(
            annotations.records,
            annotations.class_names,
            index=index,
            sampling="segments",
            num_workers=num_workers,
            color_jitter=0.3,
            **SETTINGS,
            **options,
        )
        return np.stack(list(source.clips(augment=True, variant=variant)))

    reference = clips(1, 0)
    np.testing.assert_array_equal(reference, clips(4, 0))
    assert (reference != clips(1, 1)).any(axis=(1, 2, 3, 4)).all()
    assert (reference != clips(1, 0, seed=1)).any()


def test_draws_of_a_clip_do_not_depend_on_the_others(source):
    whole = list(source.clips(augment=True, variant=2))
    part = list(source.subset([5, 1]).clips(augment=True, variant=2))
    np.testing.assert_array_equal(part, [whole[5], whole[1]])


def test_clips_start_anywhere_in_any_order(source):
    clips = np.stack(list(source.clips(augment=True)))
    np.testing.assert_array_equal(list(source.clips(augment=True, start=5)), clips[5:])
    order = np.random.default_rng(3).permutation(7)
    shuffled = list(source.clips(augment=True, start=2, shuffle_seed=3))
    np.testing.assert_array_equal(shuffled, clips[order[2:]])


def test_abandoned_iteration_stops_its_threads(source):
    iterator = source.clips()
    next(iterator)
    iterator.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


def test_dataset_yields_batches_of_known_number(source):
    dataset = source.dataset(batch_size=3)
    assert dataset.cardinality().numpy() == 3
    assert dataset.element_spec[0].shape == (None, 4, 32, 32, 3)
    assert dataset.element_spec[1].dtype == tf.int32
    batches = list(dataset.as_numpy_iterator())
    assert [len(labels) for _, labels in batches] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate([b[0] for b in batches]), list(source.clips()))
    np.testing.assert_array_equal(np.concatenate([b[1] for b in batches]), source.labels)


def epochs(dataset, count):
    return [np.concatenate([b[0] for b in dataset.as_numpy_iterator()]) for _ in range(count)]


def test_epochs_differ_and_repeat_with_the_seed(source):
    first, second = epochs(source.dataset(4, shuffle=True, augment=True), 2)
    again = epochs(source.dataset(4, shuffle=True, augment=True, epoch=1), 1)[0]
    np.testing.assert_array_equal(second, again)
    assert (first != second).any()
    asked = epochs(source.dataset(4, shuffle=True, augment=True, epoch=lambda: 1), 2)
    np.testing.assert_array_equal(asked[0], second)
    np.testing.assert_array_equal(asked[1], second)


def test_shuffled_labels_follow_their_clips(source):
    clips = list(source.clips())
    for batch, labels in source.dataset(2, shuffle=True).as_numpy_iterator():
        for clip, label in zip(batch, labels, strict=True):
            (i,) = [i for i, c in enumerate(clips) if np.array_equal(c, clip)]
            assert source.labels[i] == label


def test_test_crops(annotations, index):
    source = VideoClipSource(
        annotations.records[:2], ("a", "b"), index=index, test_crops=10, **SETTINGS
    )
    assert source.clip_shape == (10, 4, 32, 32, 3)
    clip = next(source.clips())
    assert clip.shape == source.clip_shape
    np.testing.assert_array_equal(clip[5:], clip[:5, :, :, ::-1])
    with pytest.raises(ValueError, match=r"have one clip and one crop .*test_crops=10"):
        next(source.clips(augment=True))


@pytest.mark.parametrize("sampling", ["uniform", "segments", "chunk"])
def test_several_clips_of_a_video(annotations, index, sampling):
    options = {"index": index, "sampling": sampling, **SETTINGS}
    records = annotations.records[:3]
    source = VideoClipSource(records, ("a", "b"), test_clips=3, test_crops=5, **options)
    assert source.clip_shape == (15, 4, 32, 32, 3)
    for record, clip in zip(records, source.clips(), strict=True):
        crops = augmentation.fixed_crops(60, 40, 32, 5)
        frames = spread_clips(index[record.path].num_frames, 4, 3, sampling == "chunk")
        expected = [
            np.concatenate(
                [read_frames(record.path, [i], crops=crops, image_size=32) for i in indices], axis=1
            )
            for indices in frames
        ]
        np.testing.assert_array_equal(clip, np.concatenate(expected))
    with pytest.raises(ValueError, match=r"have one clip and one crop a video. .*test_clips=3"):
        next(source.clips(augment=True))


@pytest.fixture(scope="module")
def frame_folders(tmp_path_factory):
    """Videos of 1, 4 and 30 frames as folders of frames and of flow."""
    root = tmp_path_factory.mktemp("folders")
    rng = np.random.default_rng(0)
    for i, num_frames in enumerate((1, 4, 30)):
        folder = root / "ab"[i % 2] / str(i)
        write_images(folder, rng.integers(0, 256, (num_frames, 40, 60, 3), np.uint8))
        flow = rng.integers(0, 256, (2, max(num_frames - 1, 1), 40, 60), np.uint8)
        write_flow(folder, *flow)
    return read_folder(str(root))


def flow_source(annotations, **options):
    options = {"stack_frames": 3, "stream": "flow", **SETTINGS, **options}
    return VideoClipSource(annotations.records, annotations.class_names, **options)


def test_stacks_of_flow_around_the_frames(frame_folders):
    source = flow_source(frame_folders)
    assert source.clip_shape == (4, 32, 32, 6)
    crop = augmentation.Crop(14, 4, 32, 32, 60, 40)
    for record, clip in zip(source.records, source.clips(), strict=True):
        num_frames = source.index[record.path].num_frames
        frames = (2 * np.arange(4) + 1) * num_frames // 8
        options = {"stack_frames": 3, "crops": [crop], "image_size": 32}
        np.testing.assert_array_equal(clip, read_flow(record.path, frames, **options)[0])


@pytest.mark.parametrize("sampling", ["uniform", "segments", "chunk"])
def test_frames_and_flow_are_drawn_alike(frame_folders, tmp_path, sampling):
    """The drawn boxes tell themselves: every image shows the places of its pixels."""
    rows, columns = np.mgrid[:40, :60].astype(np.uint8)
    folder = tmp_path / "x" / "video"
    count = 12
    write_images(folder, [np.stack([columns, rows, rows], -1)] * count)
    write_flow(folder, [columns] * (count - 1), [rows] * (count - 1))
    annotations = read_folder(str(tmp_path))
    options = {"scales": (1.0, 0.75), "sampling": sampling}
    frames = flow_source(annotations, stream="rgb", **options)
    flow = flow_source(annotations, **options)
    flips = 0
    for variant in range(8):
        (image,), (stack,) = frames.clips(True, variant), flow.clips(True, variant)
        is_flipped = image[0, 0, 0, 0] > image[0, 0, -1, 0]
        flips += is_flipped
        for axis in (0, 1):
            expected = 255 - image[..., 0] if axis == 0 and is_flipped else image[..., axis]
            np.testing.assert_array_equal(stack[..., axis::2], np.stack([expected] * 3, -1))
    assert 0 < flips < 8


def test_draws_of_frames_and_flow_fall_on_the_same_frames(tmp_path):
    """Image i is as bright as flow image i, of which a stack of one is around frame i."""
    for suffix in ("", "-flow"):
        images = [np.full((40, 60), 5 * i, np.uint8) for i in range(40)]
        folder = tmp_path / f"root{suffix}" / "x"
        write_images(folder / "v", [np.stack([image] * 3, -1) for image in images])
        write_flow(folder / "v", images[:39], images[:39])
    for sampling in ("uniform", "segments", "chunk"):
        options = {"sampling": sampling, "stack_frames": 1, "scales": (1.0,)}
        rgb = flow_source(read_folder(str(tmp_path / "root")), stream="rgb", **options)
        flow = flow_source(read_folder(str(tmp_path / "root-flow")), **options)
        for variant in range(3):
            (frames,), (stacks,) = rgb.clips(True, variant), flow.clips(True, variant)
            np.testing.assert_array_equal(frames[..., 1].clip(0, 190), stacks[..., 1])


def test_draws_do_not_depend_on_the_suffix(folder, annotations, index, tmp_path):
    record = annotations.records[-1]
    frames = read_frames(record.path, range(index[record.path].num_frames))
    name = record.path.rpartition("/")[2].removesuffix(".mp4")
    copy = VideoRecord(write_images(tmp_path / name, frames), record.labels)
    options = {"sampling": "segments", **SETTINGS}
    videos = VideoClipSource([record], ("a", "b"), index=index, **options)
    folders = VideoClipSource([copy], ("a", "b"), **options)
    (expected,), (clip,) = videos.clips(True, 1), folders.clips(True, 1)
    assert np.abs(clip.astype(int) - expected).mean() < 3


def test_flow_has_scales_of_its_own(frame_folders):
    def clips(**options):
        source = flow_source(frame_folders, **options)
        return np.stack([c for variant in range(6) for c in source.clips(True, variant)])

    np.testing.assert_array_equal(clips(), clips(scales=augmentation.FLOW_SCALES))
    assert (clips() != clips(scales=augmentation.RGB_SCALES)).any()
    frames = clips(stream="rgb")
    np.testing.assert_array_equal(frames, clips(stream="rgb", scales=augmentation.RGB_SCALES))


def test_views_of_flow(frame_folders):
    source = flow_source(frame_folders, test_clips=2, test_crops=10)
    assert source.clip_shape == (20, 4, 32, 32, 6)
    for clip in source.clips():
        for first in (0, 10):
            plain, mirrored = clip[first : first + 5], clip[first + 5 : first + 10]
            expected = plain[:, :, :, ::-1].copy()
            expected[..., 0::2] = 255 - expected[..., 0::2]
            np.testing.assert_array_equal(mirrored, expected)


def test_batches_of_flow(frame_folders):
    dataset = clip_dataset(frame_folders, 2, stream="flow", stack_frames=3, **SETTINGS)
    assert dataset.element_spec[0].shape == (None, 4, 32, 32, 6)
    batches = [clips for clips, _ in dataset.as_numpy_iterator()]
    expected = list(flow_source(frame_folders).clips())
    np.testing.assert_array_equal(np.concatenate(batches), expected)


def test_flow_of_video_files_is_refused(annotations, index):
    message = r"a video file has no optical flow: compute it with `pipelines.extract_flow`"
    with pytest.raises(ValueError, match=message):
        VideoClipSource(annotations.records, ("a", "b"), stream="flow")
    source = VideoClipSource(annotations.records, ("a", "b"), index=index, stream="flow")
    with pytest.raises(ValueError, match=message):
        next(source.clips())


def test_segments_of_a_video(annotations, index):
    path = annotations.records[-1].path  # 23 frames at 25 a second
    record = VideoRecord(path, (1,), start_seconds=0.4, end_seconds=0.56)
    source = VideoClipSource([record], ("a", "b"), index=index, **SETTINGS)
    crop = augmentation.Crop(14, 4, 32, 32, 60, 40)
    expected = read_frames(path, [10, 11, 12, 13], crops=[crop], image_size=32)[0]
    np.testing.assert_array_equal(next(source.clips()), expected)


def test_chunks_of_consecutive_frames(annotations, index):
    def clip(record, augment=False, variant=0):
        source = VideoClipSource([record], ("a", "b"), index=index, sampling="chunk", **SETTINGS)
        return next(source.clips(augment, variant))

    long, short = annotations.records[-1], annotations.records[0]  # 23 and 3 frames
    crop = augmentation.Crop(14, 4, 32, 32, 60, 40)
    centre = read_frames(long.path, range(9, 13), crops=[crop], image_size=32)[0]
    np.testing.assert_array_equal(clip(long), centre)
    again = read_frames(short.path, [0, 1, 2], crops=[crop], image_size=32)[0]
    np.testing.assert_array_equal(clip(short), again[[0, 1, 2, 0]])
    brightness = clip(long, augment=True)[:, -1, -1].mean(-1)  # frame i is 3 i brighter
    assert np.all(np.abs(np.diff(brightness) - 3) <= 1.5)
    assert any(np.any(clip(long, True, v) != clip(long, True)) for v in range(1, 4))


def test_multi_label(annotations, index):
    path = annotations.records[0].path
    records = [VideoRecord(path, (0, 2)), VideoRecord(path, ())]
    source = VideoClipSource(records, "abc", index=index, multi_label=True, **SETTINGS)
    np.testing.assert_array_equal(source.labels, np.array([[1, 0, 1], [0, 0, 0]], np.float32))
    assert next(iter(source.dataset()))[1].dtype == tf.float32
    with pytest.raises(ValueError, match="has 2 labels; a single-label task needs exactly one"):
        VideoClipSource(records, "abc", index=index)
    with pytest.raises(ValueError, match=r"below the 2 classes. Received: \(0, 2\)"):
        VideoClipSource(records, "ab", index=index, multi_label=True)


def test_fingerprints_depend_on_pixels_only(annotations, index):
    def fingerprints(augment=False, records=annotations.records, **changes):
        options = {**SETTINGS, **changes}
        return VideoClipSource(records, ("a", "b"), index=index, **options).fingerprints(augment)

    reference = fingerprints()
    assert len(set(reference)) == 7
    relabelled = [VideoRecord(r.path, (0,)) for r in annotations.records]
    assert fingerprints(records=relabelled) == reference
    assert fingerprints(records=annotations.records[3:5]) == reference[3:5]
    assert fingerprints(seed=1) == reference
    trimmed = [VideoRecord(r.path, r.labels, end_seconds=0.1) for r in annotations.records]
    different = [
        reference,
        fingerprints(num_frames=5),
        fingerprints(image_size=31),
        fingerprints(short_side=41),
        fingerprints(sampling="segments"),
        fingerprints(test_crops=5),
        fingerprints(test_clips=2),
        fingerprints(stream="flow"),
        fingerprints(stream="flow", stack_frames=2),
        fingerprints(records=trimmed),
        fingerprints(True),
        fingerprints(True, seed=1),
        fingerprints(True, color_jitter=0.1),
        fingerprints(True, scales=(1.0,)),
    ]
    assert len({first for first, *_ in different}) == len(different)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"num_frames": 0}, "`num_frames` must be a positive integer. Received: num_frames=0"),
        (
            {"sampling": "dense"},
            "`sampling` must be one of uniform, segments, chunk. Received: 'dense'",
        ),
        ({"test_crops": 3}, "`test_crops` must be 1, 5 or 10. Received: test_crops=3"),
        ({"test_clips": 0}, "`test_clips` must be a positive integer. Received: test_clips=0"),
        ({"stack_frames": 0}, "`stack_frames` must be a positive integer"),
        ({"stream": "depth"}, "`stream` must be one of rgb, flow. Received: 'depth'"),
        ({"color_jitter": 2.0}, "`color_jitter` must lie between 0 and 1"),
        (
            {"color_jitter": 0.1, "stream": "flow"},
            "Optical flow has no colours: `color_jitter` must be 0. Received: color_jitter=0.1",
        ),
    ],
)
def test_arguments_are_checked(annotations, index, changes, error):
    with pytest.raises(ValueError, match=error):
        VideoClipSource(annotations.records, ("a", "b"), index=index, **changes)
    with pytest.raises(ValueError, match="`records` is empty"):
        VideoClipSource([], ("a", "b"), index=index)


def test_batch_size_is_checked(source):
    with pytest.raises(ValueError, match="`batch_size` must be a positive integer"):
        source.dataset(0)


def test_broken_videos_are_refused_or_left_out(tmp_path):
    for name in ("a/1.mp4", "a/2.mp4"):
        (tmp_path / "a").mkdir(exist_ok=True)
        write_video(tmp_path / name, 3)
    (tmp_path / "a" / "broken.mp4").touch()
    annotations = read_folder(str(tmp_path))
    with pytest.raises(ValueError, match=r"1 records are broken, first: .*broken.mp4"):
        VideoClipSource(annotations.records, ("a",))
    with warned(r"1 broken videos are left out:\n  .*broken.mp4: Invalid"):
        dataset = clip_dataset(annotations, batch_size=2, **SETTINGS)
    assert dataset.cardinality().numpy() == 1
