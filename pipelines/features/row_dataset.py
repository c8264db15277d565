"""All rows of a feature file as a `tf.data.Dataset`."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import h5py
import numpy as np

from pipelines.features.feature_set import FILE_SUFFIXES, no_flipped_features
from pipelines.features.files import read_features, read_info

if TYPE_CHECKING:
    import tensorflow as tf

_BLOCK_ROWS = 1024


def feature_dataset(path: str | os.PathLike[str], name: str = "features") -> tf.data.Dataset:
    """Returns the rows of a feature file one by one as a `tf.data.Dataset`.

    float32 HDF5 is read by tensorflow-io where it is installed, else by h5py.

    Args:
        path: feature file.
        name: "features" or "flipped".

    Raises:
        ValueError: when the file cannot be read or has no such features.
    """
    import tensorflow as tf

    if name not in ("features", "flipped"):
        raise ValueError(f"`name` must be features or flipped. Received: {name!r}.")
    path = os.fspath(path)
    info = read_info(path)
    if name == "flipped" and not info.flipped:
        raise no_flipped_features(path)
    if path.endswith(FILE_SUFFIXES["tfrecord"]):
        rows = read_features(path, flipped=name == "flipped")
        return tf.data.Dataset.from_tensor_slices(rows)
    if info.dtype == "float32" and _tensorflow_io_loads():
        dataset = _read_by_tensorflow_io(path, name, info.num_channels)
    else:
        dataset = _read_by_h5py(path, name, info.num_rows, info.num_channels, info.dtype)
    return dataset.apply(tf.data.experimental.assert_cardinality(info.num_rows))


def _tensorflow_io_loads() -> bool:
    """Whether the extra `addons` is installed: its binary loads on no other TensorFlow."""
    import tensorflow as tf

    has_its_tensorflow = tf.version.VERSION.startswith("2.15.")
    return has_its_tensorflow and importlib.util.find_spec("tensorflow_io") is not None


def _read_by_tensorflow_io(path: str, name: str, num_channels: int) -> tf.data.Dataset:
    """It refuses float16."""
    import tensorflow as tf
    import tensorflow_io as tfio

    spec = tf.TensorSpec((num_channels,), "float32")
    rows = tfio.IODataset.from_hdf5(path, f"/{name}", spec=spec)
    return rows.map(lambda row: tf.ensure_shape(row, spec.shape))


def _read_by_h5py(
    path: str, name: str, num_rows: int, num_channels: int, dtype: str
) -> tf.data.Dataset:
    import tensorflow as tf

    def blocks() -> Iterator[np.ndarray]:
        with h5py.File(path, "r") as file:
            for start in range(0, num_rows, _BLOCK_ROWS):
                yield file[name][start : start + _BLOCK_ROWS]

    block = tf.TensorSpec((None, num_channels), dtype)
    return tf.data.Dataset.from_generator(blocks, output_signature=block).unbatch()
