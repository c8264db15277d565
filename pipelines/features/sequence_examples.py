"""Features of a video as a TFRecord of one SequenceExample in MediaSequence's keys.

The feature lists are `feature/floats`, one row a step, and `feature/timestamp`, its start in
microseconds, and for the mirrored frames the same under the prefix `flipped`. The context is
`clip/data_path` (the name of the video), `clip/start/timestamp`, `clip/end/timestamp`,
`image/frame_rate`, `feature/dimensions`, and the only key that MediaSequence does not know,
`clip/num_frames`.

Reference:
    MediaPipe, mediapipe/util/sequence/README.md.
"""

from __future__ import annotations

import os
import struct

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from pipelines.features.feature_set import FeatureFileInfo, no_flipped_features

_CONTEXT_KEYS = ("clip/num_frames", "image/frame_rate", "feature/dimensions")


def write(
    path: str, info: FeatureFileInfo, features: np.ndarray, flipped: np.ndarray | None
) -> None:
    """Writes the file, whose name tells the video's."""
    video = os.path.basename(path).removesuffix(".tfrecord")
    duration = info.num_frames / info.frames_per_second
    context = {
        "clip/data_path": _bytes(video.encode("utf-8", "surrogateescape")),
        "clip/start/timestamp": _integers(0),
        "clip/end/timestamp": _integers(round(1e6 * duration)),
        "clip/num_frames": _integers(info.num_frames),
        "image/frame_rate": _floats([info.frames_per_second]),
        "feature/dimensions": _integers(info.num_channels),
    }
    times = tf.train.FeatureList(feature=[_integers(round(1e6 * s)) for s in info.seconds.tolist()])
    lists = {}
    for prefix, rows in (("", features), ("flipped/", flipped)):
        if rows is not None:
            lists[f"{prefix}feature/floats"] = tf.train.FeatureList(feature=map(_floats, rows))
            lists[f"{prefix}feature/timestamp"] = times
    example = tf.train.SequenceExample(
        context=tf.train.Features(feature=context),
        feature_lists=tf.train.FeatureLists(feature_list=lists),
    )
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(example.SerializeToString())


def read_info(path: str) -> FeatureFileInfo:
    """See `files.read_info`."""
    example = _read(path)
    context, lists = example.context.feature, example.feature_lists.feature_list
    times = [step.int64_list.value[0] for step in lists["feature/timestamp"].feature]
    return FeatureFileInfo(
        context["feature/dimensions"].int64_list.value[0],
        "float32",
        "flipped/feature/floats" in lists,
        context["clip/num_frames"].int64_list.value[0],
        context["image/frame_rate"].float_list.value[0],
        np.array(times) / 1e6,
    )


def read_features(path: str, flipped: bool) -> np.ndarray:
    """Reads all rows, float32 `(rows, D)`."""
    lists = _read(path).feature_lists.feature_list
    key = "flipped/feature/floats" if flipped else "feature/floats"
    if key not in lists:
        raise no_flipped_features(path)
    return np.array([step.float_list.value for step in lists[key].feature], np.float32)


def _read(path: str) -> tf.train.SequenceExample:
    # A TFRecord is a length, its checksum, the data and theirs. A dataset of one file takes 50 ms
    # where this takes 1, and TensorFlow's other reader is deprecated.
    try:
        with open(path, "rb") as file:
            content = file.read()
        (length,) = struct.unpack_from("<Q", content)
        if len(content) != length + 16:
            raise ValueError(f"it holds {len(content)} of {length + 16} bytes")
        example = tf.train.SequenceExample.FromString(content[12:-4])
    except (OSError, ValueError, struct.error, DecodeError) as error:
        raise ValueError(f"{path} cannot be read as a feature file ({error}).") from None
    if not all(key in example.context.feature for key in _CONTEXT_KEYS):
        raise ValueError(f"{path} is a TFRecord, but holds no features of a video.")
    return example


def _bytes(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _integers(value: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


def _floats(values: np.ndarray | list[float]) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))
