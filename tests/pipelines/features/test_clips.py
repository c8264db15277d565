import os

import numpy as np
import pytest
import tensorflow as tf

from pipelines.clips.sampling import chunk_indices, num_windows, uniform_indices
from pipelines.features.clips import FeatureClipSource
from pipelines.features.feature_set import FeatureSet
from pipelines.features.files import write_features
from pipelines.lists.annotations import read_folder
from pipelines.lists.records import VideoRecord

# Frames of the videos; the first is shorter than a chunk.
NUM_FRAMES = (50, 192, 193, 400, 1000)
BLOCK = {"frame_step": 16, "window_frames": 16, "num_channels": 3}
FRAME = {"frame_step": 8, "window_frames": 1, "num_channels": 2, "format": "tfrecord"}


def make_set(folder, num_frames=NUM_FRAMES, **changes):
    """A row is (the video's number, its first frame, ...), and 0.5 more where flipped."""
    settings = {
        "network": "n",
        "layer": "l",
        "weights": None,
        "image_size": (8, 8),
        "short_side": 8,
        "window_frames": 1,
        "frame_step": 1,
        "num_channels": 2,
        "dtype": "float32",
        "format": "hdf5",
        "flipped": True,
        "fingerprint": "f",
        **changes,
    }
    feature_set = FeatureSet(**settings)
    feature_set.save(str(folder))
    step = feature_set.frame_step
    for video, count in enumerate(num_frames):
        rows = np.arange(num_windows(count, feature_set.window_frames, step))
        features = np.full((len(rows), feature_set.num_channels), video, feature_set.dtype)
        features[:, 1] = rows * step
        write_features(
            os.path.join(folder, "ab"[video % 2], f"{video}.mp4{feature_set.file_suffix}"),
            features,
            rows * step / 25,
            num_frames=count,
            frames_per_second=25.0,
            flipped=features + 0.5 if feature_set.flipped else None,
        )
    return str(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("features")
    return [make_set(root / "block", **BLOCK), make_set(root / "frame", **FRAME)]


def make_source(folders, records=None, **options):
    found = read_folder(folders[0], file_suffix=FeatureSet.load(folders[0]).file_suffix)
    options = {"num_steps": (12, 24), **options}
    return FeatureClipSource(records or found.records, found.class_names, folders, **options)


def read_epoch(dataset):
    """Joins the batches of each input, and of the labels."""
    batches = [tuple(tf.nest.flatten(batch)) for batch in dataset.as_numpy_iterator()]
    return [np.concatenate(parts) for parts in zip(*batches, strict=True)]


def test_source_describes_itself(folders):
    source = make_source(folders)
    assert len(source) == 5
    assert source.clip_shapes == ((12, 3), (24, 2))
    assert source.class_names == ("a", "b")
    assert source.labels.tolist() == [0, 0, 0, 1, 1]
    assert make_source(folders[:1]).clip_shapes == ((12, 3),)


def test_other_numbers_of_steps(folders):
    found = make_source(folders).with_num_steps((3, 6))
    expected = make_source(folders, num_steps=(3, 6))
    assert found.clip_shapes == ((3, 3), (6, 2))
    assert found.fingerprints(True) == expected.fingerprints(True)
    for one, other in zip(
        read_epoch(found.dataset(2)), read_epoch(expected.dataset(2)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_centre_chunks(folders):
    dataset = make_source(folders).dataset(batch_size=2)
    assert dataset.cardinality() == 3
    assert dataset.element_spec[0][1] == tf.TensorSpec((None, 24, 2), tf.float32)
    block, frame, labels = read_epoch(dataset)
    assert labels.tolist() == [0, 0, 0, 1, 1]
    numbers = [0, 2, 4, 1, 3]  # in the order of the classes
    np.testing.assert_array_equal(block[:, :, 0], np.repeat(numbers, 12).reshape(5, 12))
    np.testing.assert_array_equal(block[3, :, 1], np.arange(12) * 16)
    np.testing.assert_array_equal(frame[3, :, 1], np.arange(24) * 8)
    # 1,000 frames: the chunk is 404 to 595; rows near the middles of its pieces.
    np.testing.assert_array_equal(block[2, :, 1], 400 + np.arange(12) * 16)
    np.testing.assert_array_equal(frame[2, :, 1], 400 + np.arange(1, 25) * 8)


def test_short_videos_start_again(folders):
    block, frame, _ = read_epoch(make_source(folders).dataset())
    for steps, step, middle in ((block[0], 16, 8), (frame[0], 8, 0)):
        centres = uniform_indices(192, len(steps)) % 50
        rows = range(0, 50, step)
        nearest = [min(rows, key=lambda row, c=c, m=middle: abs(row + m - c)) for c in centres]
        np.testing.assert_array_equal(steps[:, 1], nearest)
        assert len(set(nearest)) > 2


def test_whole_clips(folders, tmp_path):
    folder = make_set(tmp_path, num_frames=(15, 40, 300))
    source = make_source([folder], chunk_frames=None, num_steps=(12,))
    (inputs, _) = read_epoch(source.dataset())
    for video, count in ((0, 15), (1, 300), (2, 40)):
        np.testing.assert_array_equal(inputs[video, :, 1], uniform_indices(count, 12))
    drawn = [read_epoch(source.dataset(augment=True, epoch=e))[0] for e in range(6)]
    flips = np.array(drawn) - inputs
    assert set(np.unique(flips).tolist()) == {0.0, 0.5}
    assert [chunk.shape for (chunk,) in source.test_chunks(40)] == [(2, 12, 2)] * 3
    # Longer steps than a chunk's are no trouble for whole clips.
    make_source(folders, chunk_frames=None, num_steps=(100, 100))


def test_augmented_chunks(folders):
    source = make_source(folders)
    epochs = [read_epoch(source.dataset(augment=True, epoch=e))[:2] for e in range(12)]
    blocks, frames = (np.array(parts) for parts in zip(*epochs, strict=True))
    flips = blocks[..., 0] - np.array([0, 2, 4, 1, 3])[:, None]
    assert set(np.unique(flips).tolist()) == {0.0, 0.5}
    assert (flips == flips[..., :1]).all()  # one coin a clip
    np.testing.assert_array_equal(flips[..., 0], frames[..., 0, 1] % 1)  # and for both sets
    # Both sets see the same chunk, within half a row's step.
    shifted = blocks[:, 2, :, 1].mean(-1) + 8 - (frames[:, 2, :, 1].mean(-1) + 0.5)
    assert np.abs(shifted).max() <= 8 + 4
    assert len(np.unique(blocks[:, 2, 0, 1])) > 6
    assert (blocks[:, 3, 0, 1] < 1).all()  # 192 frames: one chunk
    again = read_epoch(source.dataset(augment=True, epoch=5))[0]
    np.testing.assert_array_equal(again, blocks[5])
    part = read_epoch(source.subset([2, 0]).dataset(augment=True, epoch=5))[0]
    np.testing.assert_array_equal(part, blocks[5][[2, 0]])
    other = read_epoch(make_source(folders, seed=1).dataset(augment=True, epoch=5))[0]
    assert (other != blocks[5]).any()


def test_every_start_of_a_chunk_is_drawn(tmp_path):
    folder = make_set(tmp_path, num_frames=(9,))
    source = make_source([folder], chunk_frames=6, num_steps=(6,))
    dataset = source.dataset(augment=True)
    starts = {int(read_epoch(dataset)[0][0, 0, 1]) for _ in range(60)}
    assert starts == {0, 1, 2, 3}


def test_epochs_follow_each_other_in_new_orders(folders):
    source = make_source(folders[:1])
    dataset = source.dataset(2, shuffle=True)
    orders = [read_epoch(dataset)[0][:, 0, 0].tolist() for _ in range(4)]
    assert len({tuple(order) for order in orders}) > 1
    for order, labels in (
        (o, read_epoch(source.dataset(2, True, epoch=lambda n=n: n))[1])
        for n, o in enumerate(orders)
    ):
        assert sorted(order) == [0, 1, 2, 3, 4]
        assert labels.tolist() == [video % 2 for video in order]


def test_a_dataset_feeds_a_map(folders):
    dataset = make_source(folders).dataset().map(lambda inputs, labels: (inputs[0] * 2, labels))
    doubled, _ = read_epoch(dataset)
    np.testing.assert_array_equal(doubled, 2 * read_epoch(make_source(folders).dataset())[0])


def test_test_chunks(folders):
    source = make_source(folders)
    chunks = list(source.test_chunks(num_chunks=7))
    # The videos of 50 and 192 frames have one chunk.
    assert [[a.shape for a in arrays] for arrays in chunks] == [
        [(num, 12, 3), (num, 24, 2)] for num in (2, 14, 14, 2, 14)
    ]
    for steps, centre in zip(chunks[0], read_epoch(source.subset([0]).dataset()), strict=False):
        np.testing.assert_array_equal(steps, np.concatenate([centre, centre + 0.5]))
    block, frame = chunks[2]
    np.testing.assert_array_equal(block[7:], block[:7] + 0.5)
    np.testing.assert_array_equal(frame[7:], frame[:7] + 0.5)
    assert len(np.unique(block[:7, 0, 1])) > 3
    for again in (make_source(folders).subset([2]), make_source(folders, [source.records[2]])):
        ((same, _),) = again.test_chunks(7)
        np.testing.assert_array_equal(same, block)
    plain = [arrays[0] for arrays in source.test_chunks(7, flipped=False)]
    np.testing.assert_array_equal(plain[2], block[:7])
    with pytest.raises(ValueError, match=r"`num_chunks` must be a positive integer. Received: num"):
        source.test_chunks(0)


def test_sets_without_flips(folders, tmp_path):
    folder = make_set(tmp_path, **{**FRAME, "flipped": False})
    source = make_source([folders[0], folder])
    inputs = [read_epoch(source.dataset(augment=True, epoch=e))[0] for e in range(4)]
    assert not (np.array(inputs) % 1).any()
    with pytest.raises(ValueError, match=f"{folder} has no features of mirrored frames"):
        source.test_chunks(2)
    next(source.test_chunks(2, flipped=False))


def test_float16_becomes_float32(tmp_path):
    folder = make_set(tmp_path, num_frames=(200,), dtype="float16")
    inputs, _ = read_epoch(make_source([folder], num_steps=(4,)).dataset())
    assert inputs.dtype == np.float32
    np.testing.assert_array_equal(inputs[0, :, 1], [28, 76, 124, 172])


def test_segments(tmp_path):
    folder = make_set(tmp_path, num_frames=(200,))
    path = os.path.join(folder, "a", "0.mp4.h5")
    records = [VideoRecord(path, (0,), 1.0, 1.8), VideoRecord(path, (0,), 2.0, None)]
    source = make_source([folder], records, chunk_frames=40, num_steps=(4,))
    inputs, _ = read_epoch(source.dataset())
    expected = [25 + chunk_indices(20, 40)[5::10], 50 + chunk_indices(150, 40)[5::10]]
    np.testing.assert_array_equal(inputs[:, :, 1], expected)
    (drawn,) = next(source.subset([1]).test_chunks(30, flipped=False))
    assert drawn[:, :, 1].min() >= 50
    late = [VideoRecord(path, (0,), 8.5, 9.0)]
    with pytest.raises(ValueError, match=r"0.mp4.h5: No frame lies in the segment from 8.5 to 9"):
        make_source([folder], late)


def test_multi_label(folders):
    path = make_source(folders).records[0].path
    records = [VideoRecord(path, (0, 1)), VideoRecord(path, ())]
    source = make_source(folders, records, multi_label=True)
    np.testing.assert_array_equal(source.labels, [[1, 1], [0, 0]])
    assert source.dataset().element_spec[1] == tf.TensorSpec((None, 2), tf.float32)
    with pytest.raises(ValueError, match="has 2 labels; a single-label task needs exactly one"):
        make_source(folders, records)


def test_fingerprints_depend_on_features_only(folders, tmp_path):
    reference = make_source(folders).fingerprints()
    assert len(set(reference)) == 5
    assert make_source(folders, seed=1).fingerprints() == reference
    assert make_source(folders).subset([3, 1]).fingerprints() == [reference[3], reference[1]]
    other = make_set(tmp_path, **{**FRAME, "fingerprint": "g"})
    different = [
        reference,
        make_source(folders, num_steps=(6, 24)).fingerprints(),
        make_source(folders, chunk_frames=200).fingerprints(),
        make_source(folders[:1]).fingerprints(),
        make_source([folders[0], other]).fingerprints(),
        make_source(folders).fingerprints(augment=True),
        make_source(folders, seed=1).fingerprints(augment=True),
    ]
    assert len({first for first, *_ in different}) == len(different)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"num_steps": (12,)}, r"`num_steps` must be .* each of `folders`. Received: .*\(12,\)"),
        ({"num_steps": (0, 2)}, r"`num_steps` must be a positive integer"),
        ({"chunk_frames": 0}, r"`chunk_frames` must be a positive integer. Received: chunk_frames"),
        (
            {"num_steps": (13, 12)},
            r"13 steps of a chunk of 192 frames need a row every 14 frames",
        ),
        ({"num_steps": (12, 25)}, r"every 7 frames. Received: .* with frame_step=8"),
    ],
)
def test_arguments_are_checked(folders, options, error):
    with pytest.raises(ValueError, match=error):
        make_source(folders, **options)
    with pytest.raises(ValueError, match=r"`folders` must be one or two. Received: 3"):
        make_source([*folders, folders[0]])
    with pytest.raises(ValueError, match=r"`records` is empty"):
        make_source(folders).subset([])
    with pytest.raises(ValueError, match=r"`batch_size` must be a positive integer"):
        make_source(folders).dataset(0)


def test_sets_must_fit_each_other(folders, tmp_path):
    other = make_set(tmp_path / "other", (50, 192, 193, 400, 999), **FRAME)
    with pytest.raises(
        ValueError, match=r"4.mp4.h5 and .*4.mp4.tfrecord describe different videos"
    ):
        make_source([folders[0], other])
    fewer = make_set(tmp_path / "fewer", NUM_FRAMES[:3], **FRAME)
    with pytest.raises(
        ValueError, match=r"2 of 5 videos have no features in .*fewer, first: .*4.m"
    ):
        make_source([folders[0], fewer])
    shorter = make_set(tmp_path / "shorter", **BLOCK)
    path = os.path.join(shorter, "a", "2.mp4.h5")
    rows = np.zeros((5, 3), np.float32)
    write_features(path, rows, np.arange(5.0), num_frames=193, frames_per_second=25.0, flipped=rows)
    with pytest.raises(ValueError, match=r"does not fit its feature set: expected rows 13"):
        make_source([shorter])
