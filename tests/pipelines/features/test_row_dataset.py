import numpy as np
import pytest
import tensorflow as tf

from pipelines.features.files import write_features
from pipelines.features.row_dataset import feature_dataset

FORMATS = [("v.avi.h5", "float32"), ("v.avi.h5", "float16"), ("v.avi.tfrecord", "float32")]


def write(path, dtype="float32", num_rows=6, has_flipped=True):
    """Returns the path, the features and those of the mirrored frames."""
    features, flipped = np.random.default_rng(0).normal(size=(2, num_rows, 5)).astype(dtype)
    write_features(
        path,
        features,
        np.arange(float(num_rows)),
        num_frames=num_rows,
        frames_per_second=1.0,
        flipped=flipped if has_flipped else None,
    )
    return str(path), features, flipped


@pytest.mark.parametrize(("name", "dtype"), FORMATS)
def test_the_rows_are_those_of_the_file(tmp_path, name, dtype):
    path, *arrays = write(tmp_path / name, dtype)
    for key, expected in zip(("features", "flipped"), arrays, strict=True):
        dataset = feature_dataset(path, key)
        assert dataset.element_spec == tf.TensorSpec([5], dtype)
        assert dataset.cardinality() == 6
        np.testing.assert_array_equal(list(dataset.as_numpy_iterator()), expected)
        doubled = dataset.map(lambda row: 2 * row).batch(4)
        np.testing.assert_array_equal(np.concatenate(list(doubled)), 2 * expected)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_more_rows_than_are_read_at_once(tmp_path, dtype):
    path, features, _ = write(tmp_path / "v.h5", dtype, num_rows=1030)
    dataset = feature_dataset(path)
    assert dataset.cardinality() == 1030
    np.testing.assert_array_equal(np.stack(list(dataset.as_numpy_iterator())), features)


@pytest.mark.parametrize("name", ["v.h5", "v.tfrecord"])
def test_what_is_not_there(tmp_path, name):
    path, *_ = write(tmp_path / name, has_flipped=False)
    with pytest.raises(ValueError, match=r"has no features of mirrored frames"):
        feature_dataset(path, "flipped")
    with pytest.raises(ValueError, match=r"`name` must be features or flipped. Received: 'x'"):
        feature_dataset(path, "x")


@pytest.mark.parametrize("name", ["v.h5", "v.tfrecord"])
def test_a_broken_file(tmp_path, name):
    (tmp_path / name).write_bytes(b"abc")
    with pytest.raises(ValueError, match=r"cannot be read as a feature file"):
        feature_dataset(str(tmp_path / name))


@pytest.mark.addons
def test_float32_comes_through_tensorflow_io(tmp_path, monkeypatch):
    import tensorflow_io

    opened = []
    from_hdf5 = tensorflow_io.IODataset.from_hdf5
    monkeypatch.setattr(
        tensorflow_io.IODataset,
        "from_hdf5",
        lambda path, *rest, **options: opened.append(path) or from_hdf5(path, *rest, **options),
    )
    for dtype in ("float16", "float32"):
        feature_dataset(write(tmp_path / f"{dtype}.h5", dtype)[0])
    assert opened == [str(tmp_path / "float32.h5")]
