import json
import os
import struct

import h5py
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.clips.sampling import num_windows
from pipelines.features.feature_set import FeatureFileInfo, FeatureSet
from pipelines.features.files import (
    FeatureWriter,
    check_example,
    read_features,
    read_info,
    write_features,
)
from pipelines.video.info import VideoInfo

SETTINGS = {
    "network": "c3d",
    "layer": "fc6",
    "weights": "sports1m.h5",
    "image_size": (112, 112),
    "short_side": 128,
    "window_frames": 16,
    "frame_step": 8,
    "num_channels": 5,
    "dtype": "float32",
    "format": "hdf5",
    "flipped": True,
    "fingerprint": "abc",
}
FORMATS = [("v.avi.h5", "float32"), ("v.avi.h5", "float16"), ("v.avi.tfrecord", "float32")]


def arrays(dtype="float32", rows=6):
    rng = np.random.default_rng(0)
    features, flipped = rng.normal(size=(2, rows, 5)).astype(dtype)
    return features, flipped, np.arange(rows) * 0.32


def write(path, dtype="float32", has_flipped=True):
    features, flipped, seconds = arrays(dtype)
    write_features(
        str(path),
        features,
        seconds,
        num_frames=50,
        frames_per_second=25.0,
        flipped=flipped if has_flipped else None,
    )
    return str(path)


def test_feature_set_is_kept(tmp_path):
    feature_set = FeatureSet(**SETTINGS)
    feature_set.save(str(tmp_path / "new"))
    assert FeatureSet.load(str(tmp_path / "new")) == feature_set
    assert os.listdir(tmp_path / "new") == ["features.json"]
    path = tmp_path / "new" / "features.json"
    content = json.loads(path.read_text())
    assert content == {**SETTINGS, "image_size": [112, 112], "frames_per_second": None}
    del content["frames_per_second"]  # as earlier versions wrote it
    path.write_text(json.dumps(content))
    assert FeatureSet.load(tmp_path / "new") == feature_set
    assert feature_set.file_suffix == ".h5"
    assert FeatureSet(**{**SETTINGS, "format": "tfrecord"}).file_suffix == ".tfrecord"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"frame_step": 0}, "`frame_step` must be a positive integer. Received: frame_step=0"),
        ({"dtype": "int8"}, "`dtype` must be one of float32, float16. Received: 'int8'"),
        ({"format": "npy"}, "`file_format` must be one of hdf5, tfrecord. Received: 'npy'"),
        ({"format": "tfrecord", "dtype": "float16"}, "TFRecord keeps 32-bit floats"),
    ],
)
def test_settings_are_checked(changes, error):
    with pytest.raises(ValueError, match=error):
        FeatureSet(**{**SETTINGS, **changes})


@pytest.mark.parametrize("text", ["{", "[]", '{"network": "c3d"}'])
def test_foreign_descriptions(tmp_path, text):
    with pytest.raises(ValueError, match=r"is no feature set: .*features.json does not exist"):
        FeatureSet.load(str(tmp_path))
    (tmp_path / "features.json").write_text(text)
    with pytest.raises(ValueError, match=r"features.json describes no feature set"):
        FeatureSet.load(str(tmp_path))


@pytest.mark.parametrize(("name", "dtype"), FORMATS)
def test_features_are_kept(tmp_path, name, dtype):
    path = write(tmp_path / "class" / name, dtype)
    features, flipped, seconds = arrays(dtype)
    for is_flipped, expected in ((False, features), (True, flipped)):
        found = read_features(path, flipped=is_flipped)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == dtype
    info = read_info(path)
    assert (info.num_rows, info.num_channels, info.dtype, info.flipped) == (6, 5, dtype, True)
    assert (info.num_frames, info.frames_per_second) == (50, 25.0)
    np.testing.assert_allclose(info.seconds, seconds, atol=1e-6)
    assert os.listdir(tmp_path / "class") == [name]


@pytest.mark.parametrize(("name", "dtype"), FORMATS)
@given(rows=st.lists(st.integers(0, 29), min_size=1, max_size=40))
@settings(max_examples=30, deadline=None)
def test_chosen_rows(tmp_path_factory, name, dtype, rows):
    path = str(tmp_path_factory.getbasetemp() / "rows" / f"{dtype}{name}")
    features, _, seconds = arrays(dtype, rows=30)
    if not os.path.exists(path):
        write_features(path, features, seconds, num_frames=30, frames_per_second=25.0)
    np.testing.assert_array_equal(read_features(path, rows), features[rows])


@pytest.mark.parametrize("name", ["v.h5", "v.tfrecord"])
def test_rows_and_flips_that_are_not_there(tmp_path, name):
    path = write(tmp_path / name, has_flipped=False)
    for rows in ([6], [-1, 2], [], [[1]]):
        with pytest.raises(ValueError, match=r"`rows` must lie between 0 and 5 in .*v"):
            read_features(path, rows)
    assert not read_info(path).flipped
    with pytest.raises(ValueError, match=r"has no features of mirrored frames"):
        read_features(path, flipped=True)


@pytest.mark.parametrize("name", ["v.h5", "v.tfrecord"])
def test_broken_files(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(ValueError, match=r"cannot be read as a feature file"):
        read_info(str(path))
    content = (write(path), path.read_bytes())[1]
    for broken in (b"", b"abc", content[: len(content) // 2]):
        path.write_bytes(broken)
        for read in (read_info, read_features):
            with pytest.raises(ValueError, match=r"cannot be read as a feature file"):
                read(str(path))


def test_foreign_files(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["weights"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"is an HDF5 file, but holds no features of a video"):
        read_info(str(tmp_path / "a.h5"))
    with h5py.File(write(tmp_path / "b.h5"), "r+") as file:
        del file["features"]
        file["features"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"b.h5 is an HDF5 file, but holds no features"):
        read_features(str(tmp_path / "b.h5"))
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        writer.write(tf.train.SequenceExample().SerializeToString())
    with pytest.raises(ValueError, match=r"is a TFRecord, but holds no features of a video"):
        read_features(str(tmp_path / "a.tfrecord"))
    no_example = struct.pack("<Q", 3) + bytes(4) + b"\xff\xff\xff" + bytes(4)
    (tmp_path / "b.tfrecord").write_bytes(no_example)
    with pytest.raises(ValueError, match=r"b.tfrecord cannot be read as a feature file"):
        read_info(str(tmp_path / "b.tfrecord"))
    with pytest.raises(ValueError, match=r"must end with .h5 or .tfrecord. Received: .*a.npy"):
        read_info(str(tmp_path / "a.npy"))


def test_what_is_written_is_checked(tmp_path):
    features, flipped, seconds = arrays()
    times = {"num_frames": 50, "frames_per_second": 25.0}
    path = str(tmp_path / "v.h5")
    with pytest.raises(ValueError, match=r"`seconds` \(rows,\). Received: \(6, 5\) and \(5,\)"):
        write_features(path, features, seconds[:5], **times)
    with pytest.raises(ValueError, match=r"`flipped` must be float32 \(6, 5\).* float32 \(5, 5\)"):
        write_features(path, features, seconds, flipped=flipped[:5], **times)
    with pytest.raises(ValueError, match=r"must be float32 or float16.* Received: float64 for .*v"):
        write_features(path, features.astype(float), seconds, **times)
    with pytest.raises(ValueError, match=r"in a TFRecord float32. Received: float16"):
        write_features(str(tmp_path / "v.tfrecord"), features.astype("float16"), seconds, **times)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("name", "dtype"), FORMATS)
@given(cuts=st.sets(st.integers(1, 29)), has_flipped=st.booleans())
@settings(max_examples=15, deadline=None)
def test_batches_are_joined(tmp_path_factory, name, dtype, cuts, has_flipped):
    folder = tmp_path_factory.mktemp("batches")
    path = str(folder / name)
    features, flipped, seconds = arrays(dtype, rows=30)
    with FeatureWriter(path) as writer:
        for batch in np.split(np.arange(30), sorted(cuts)):
            mirrored = flipped[batch] if has_flipped else None
            writer.append(features[batch], seconds[batch], mirrored)
        writer.finish(num_frames=250, frames_per_second=25.0)
    assert os.listdir(folder) == [name]
    np.testing.assert_array_equal(read_features(path), features)
    if has_flipped:
        np.testing.assert_array_equal(read_features(path, flipped=True), flipped)
    info = read_info(path)
    assert (info.num_rows, info.num_frames, info.flipped) == (30, 250, has_flipped)
    np.testing.assert_allclose(info.seconds, seconds, atol=1e-6)


@pytest.mark.parametrize(("name", "dtype"), FORMATS)
def test_an_unfinished_file_is_told(tmp_path, name, dtype):
    features, flipped, seconds = arrays(dtype)
    with (
        pytest.raises(ValueError, match=r"is not whole: `finish` was not called\."),
        FeatureWriter(tmp_path / name) as writer,
    ):
        writer.append(features, seconds, flipped)


def test_an_example_has_two_gigabytes_at_most(tmp_path):
    path = tmp_path / "v.tfrecord"
    rows = 1000
    features = np.ones((rows, 300), np.float32)
    write_features(
        str(path), features, np.arange(rows) * 1e3, num_frames=rows, frames_per_second=0.001
    )
    # The size that is checked is no less than the size on the disk, and close to it.
    assert 0.9 * rows * (4 * 300 + 40) < path.stat().st_size < rows * (4 * 300 + 40)
    fitting = (2**31 - 2**12 - 1) // (4 * 300 + 40)
    check_example("v.mp4", fitting, 300, flipped=False)
    check_example("v.mp4", fitting // 2, 300, flipped=True)
    with pytest.raises(ValueError, match=r"v.mp4 with .* rows of 300 channels\. Choose hdf5, or a"):
        check_example("v.mp4", fitting + 1, 300, flipped=False)
    with pytest.raises(ValueError, match=r"rows of 300 channels, twice\. Choose hdf5"):
        check_example("v.mp4", fitting // 2 + 1, 300, flipped=True)
    wide = np.broadcast_to(np.float32(0), (2, 2**28))
    with pytest.raises(ValueError, match=r"v.tfrecord with 2 rows of 268435456 channels"):
        FeatureWriter(str(path)).append(wide, np.arange(2))


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = write(tmp_path / "v.h5")

    def failing(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match=r"no space left"):
        write(path)
    assert os.listdir(tmp_path) == ["v.h5"]
    np.testing.assert_array_equal(read_features(path), arrays()[0])


def test_tfrecord_has_media_sequence_keys(tmp_path):
    path = write(tmp_path / "v.avi.tfrecord")
    (record,) = tf.data.TFRecordDataset(path)  # checks the checksums
    context, lists = tf.io.parse_single_sequence_example(
        record,
        {
            "clip/data_path": tf.io.FixedLenFeature([], tf.string),
            "clip/start/timestamp": tf.io.FixedLenFeature([], tf.int64),
            "clip/end/timestamp": tf.io.FixedLenFeature([], tf.int64),
            "image/frame_rate": tf.io.FixedLenFeature([], tf.float32),
            "feature/dimensions": tf.io.FixedLenFeature([1], tf.int64),
        },
        {
            f"{prefix}feature/{name}": kind
            for prefix in ("", "flipped/")
            for name, kind in (
                ("floats", tf.io.FixedLenSequenceFeature([5], tf.float32)),
                ("timestamp", tf.io.FixedLenSequenceFeature([], tf.int64)),
            )
        },
    )
    assert context["clip/data_path"] == b"v.avi"
    assert (context["clip/start/timestamp"], context["clip/end/timestamp"]) == (0, 2_000_000)
    assert context["image/frame_rate"] == 25
    assert context["feature/dimensions"].numpy().tolist() == [5]
    features, flipped, _ = arrays()
    np.testing.assert_array_equal(lists["feature/floats"], features)
    np.testing.assert_array_equal(lists["flipped/feature/floats"], flipped)
    for prefix in ("", "flipped/"):
        assert lists[f"{prefix}feature/timestamp"].numpy().tolist() == [*range(0, 1920000, 320000)]


@given(
    st.integers(1, 120),
    st.integers(1, 20),
    st.integers(1, 20),
    st.floats(0, 6),
    st.floats(0.05, 6),
)
@settings(deadline=None)
def test_segments_are_those_of_the_video(num_frames, frame_step, window_frames, start, length):
    seconds = np.arange(num_windows(num_frames, window_frames, frame_step)) * frame_step / 25
    info = FeatureFileInfo(5, "float32", False, num_frames, 25.0, seconds)
    video = VideoInfo(num_frames, 25.0, 8, 8)
    bounds = round(start, 2), round(start + length, 2)
    try:
        expected = video.segment(*bounds)
    except ValueError as error:
        with pytest.raises(ValueError, match=r"No frame lies in the segment from .* lasts"):
            info.segment(*bounds, frame_step)
        assert "No frame lies" in str(error)  # noqa: PT017
    else:
        assert info.segment(*bounds, frame_step) == expected
    assert info.segment(None, None, frame_step) == range(num_frames)


def test_segments_follow_uneven_time_stamps():
    seconds = np.array([0.0, 1.0, 5.0])  # of frames 0, 10 and 20
    info = FeatureFileInfo(5, "float32", False, 30, 5.0, seconds)
    assert info.segment(0.5, 3.0, 10) == range(5, 15)
    assert info.segment(5.0, None, 10) == range(20, 30)


def test_files_are_checked_against_their_set():
    seconds = np.arange(4) * 0.32  # rows from frames 0, 8, 16, 24 cover 40 frames
    info = FeatureFileInfo(5, "float32", True, 40, 25.0, seconds)
    info.check("v.h5", FeatureSet(**SETTINGS))
    for changes, error in [
        ({"num_channels": 4}, "expected num_channels 4. Received: 5. Delete it"),
        ({"dtype": "float16"}, "v.h5 does not fit its feature set: expected dtype float16"),
        ({"flipped": False}, "expected flipped False. Received: True"),
        ({"frame_step": 4}, "expected rows 7. Received: 4"),
    ]:
        with pytest.raises(ValueError, match=error):
            info.check("v.h5", FeatureSet(**{**SETTINGS, **changes}))
