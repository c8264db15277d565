"""Requests with which TensorFlow Serving runs a model before it takes clients."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

from tfvlad.models import ClipModel

_GREY = 128


def write_warmup_requests(
    path: str | Path,
    clip_model: ClipModel,
    signatures: Mapping[str, Mapping[str, tf.TensorSpec]],
) -> None:
    """Write a TFRecord file with one request of batch 1 for each signature.

    The frames are grey and of the model's own size; a tensor of one value takes a few bytes.

    Args:
        path: `assets.extra/tf_serving_warmup_requests` in a SavedModel.
        clip_model: what the SavedModel was made of.
        signatures: the inputs of each signature.
    """
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    with tf.io.TFRecordWriter(str(path)) as writer:
        for name, inputs in signatures.items():
            request = predict_pb2.PredictRequest()
            request.model_spec.name = clip_model.model.name
            request.model_spec.signature_name = name
            for key, spec in inputs.items():
                request.inputs[key].CopyFrom(_tensor(key, spec, clip_model))
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            )
            writer.write(log.SerializeToString())


def _tensor(name: str, spec: tf.TensorSpec, clip_model: ClipModel) -> tf.compat.v1.TensorProto:
    sizes = spec.shape[1:]
    if spec.dtype not in (tf.uint8, tf.string):
        return tf.make_tensor_proto(0, spec.dtype, [1, *sizes])
    stream = "flow" if name == "flow" else "frames"
    height, width = clip_model.inputs[stream][1:3]
    if spec.dtype == tf.uint8:
        return tf.make_tensor_proto(_GREY, tf.uint8, [1, *sizes[:-3], height, width, sizes[-1]])
    image = tf.fill([height, width, 1 if stream == "flow" else 3], tf.constant(_GREY, tf.uint8))
    return tf.make_tensor_proto(tf.io.encode_jpeg(image).numpy(), tf.string, [1, *sizes])
