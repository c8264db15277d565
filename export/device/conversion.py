"""LiteRT (TensorFlow Lite) files of clip models, for phones and small computers."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from export.artifact import FRAME_INPUTS
from export.device.metadata import with_metadata
from export.device.precision import check_precision, with_precision
from tfvlad.live import initial_state, streaming_model
from tfvlad.models import ClipModel

Arrays = Mapping[str, np.ndarray]


class _Signature(NamedTuple):
    name: str
    model: keras.Model
    function: Callable[[dict[str, Any]], dict[str, Any]]
    inputs: dict[str, tf.TensorSpec]


def convert_litert(
    clip_model: ClipModel,
    *,
    precision: str = "float32",
    streaming: bool = False,
    calibration_clips: Iterable[Arrays] | None = None,
) -> bytes:
    """Converts a model to a LiteRT file for a batch of one, of built-in operations only.

    Args:
        clip_model: what to convert.
        precision: see `export.litert`.
        streaming: see `export.litert`.
        calibration_clips: for "int8", training clips `(T, H, W, channels)` by stream, uint8 of the
            model's own size, with or without a batch axis of one. 32 clips do.

    Raises:
        ValueError: when the precision is unknown, `calibration_clips` is missing, empty or without
            use, the model does not stream, or it needs operations which LiteRT has not built in.
    """
    check_precision(precision)
    if (precision == "int8") != (calibration_clips is not None):
        raise ValueError(
            '`calibration_clips` are needed for precision="int8", and only there: some 32 training '
            f"clips by stream, uint8. Received: {'none' if calibration_clips is None else 'some'}, "
            f"precision={precision!r}."
        )
    signature = _stream_signature(clip_model) if streaming else _clip_signature(clip_model)
    samples = list(_samples(clip_model, signature, calibration_clips or ()))
    if precision == "int8" and not samples:
        raise ValueError("`calibration_clips` must hold at least one clip. Received: none.")
    content = with_precision(
        _converted(signature), signature.model, precision, signature.name, samples
    )
    return with_metadata(content, clip_model)


def _clip_signature(clip_model: ClipModel) -> _Signature:
    inputs = {
        stream: tf.TensorSpec((1, *shape), tf.uint8, name=stream)
        for stream, shape in clip_model.inputs.items()
    }

    def classify(clips: dict[str, Any]) -> dict[str, Any]:
        return {"probabilities": clip_model.probabilities(clips)}

    return _Signature("classify", clip_model.model, classify, inputs)


def _stream_signature(clip_model: ClipModel) -> _Signature:
    model = streaming_model(clip_model.model)
    states = {
        name: tf.TensorSpec(zeros.shape, zeros.dtype, name=name)
        for name, zeros in initial_state(model).items()
    }
    frames = {
        name: tf.TensorSpec((1, *x.shape[1:]), tf.uint8, name=name)
        for name, x in model.input.items()
        if name not in states
    }

    def stream(tensors: dict[str, Any]) -> dict[str, Any]:
        given = {name: tf.cast(x, tf.float32) for name, x in tensors.items()}
        outputs = model(given, training=False)
        probabilities = clip_model.normalized(outputs["scores"])
        return {"probabilities": probabilities, **{name: outputs[name] for name in states}}

    return _Signature("stream", model, stream, {**frames, **states})


def _samples(
    clip_model: ClipModel, signature: _Signature, clips: Iterable[Arrays]
) -> Iterator[Arrays]:
    """The inputs of the signature for each clip, or, of a stream, for each of its frames."""
    for number, clip in enumerate(clips):
        for stream, shape in clip_model.inputs.items():
            value = clip.get(stream)
            shapes = (shape, (1, *shape))
            if value is None or value.dtype != np.uint8 or value.shape not in shapes:
                received = None if value is None else f"{value.dtype} {value.shape}"
                raise ValueError(
                    f"`calibration_clips` must hold uint8 clips {shape} for '{stream}'. "
                    f"Received: {received} in clip {number}."
                )
        tensors = {name: np.reshape(clip[name], (1, *s)) for name, s in clip_model.inputs.items()}
        if signature.name == "classify":
            yield tensors
            continue
        # Nothing that is calibrated depends on the states.
        states = {
            name: np.zeros(spec.shape, spec.dtype.as_numpy_dtype)
            for name, spec in signature.inputs.items()
            if name not in FRAME_INPUTS.values()
        }
        num_frames = min(x.shape[1] for x in tensors.values())
        for step in range(num_frames):
            frames = {FRAME_INPUTS[stream]: x[:, step] for stream, x in tensors.items()}
            yield {**frames, **states}


def _converted(signature: _Signature) -> bytes:
    """The float32 file."""
    from ai_edge_litert.tools import flatbuffer_utils

    archive = keras.export.ExportArchive()
    archive.track(signature.model)
    function = tf.function(signature.function, input_signature=[signature.inputs])
    archive.add_endpoint(signature.name, function)
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=[signature.name]
        )
        try:
            content = bytes(converter.convert())
        except Exception as error:  # the converter's own class is not public
            operations = re.findall(r"(?:Select|Custom) ops: ([\w, ]+)", str(error))
            if not operations:
                raise
            raise ValueError(_needs(signature.model, operations)) from error
    codes = flatbuffer_utils.read_model_from_bytearray(content).operatorCodes
    custom = [code.customCode.decode() for code in codes if code.customCode]
    if custom:
        raise ValueError(_needs(signature.model, custom))
    return content


def _needs(model: keras.Model, operations: Iterable[str]) -> str:
    return (
        f"'{model.name}' cannot become a LiteRT file: LiteRT has not built in "
        f"{', '.join(sorted(set(operations)))}."
    )


def operations(content: bytes) -> dict[str, int]:
    """How often each operation stands in a LiteRT file; one that is not built in is "CUSTOM"."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    counts = Counter(
        flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex)
        for subgraph in model.subgraphs
        for operator in subgraph.operators
    )
    return dict(sorted(counts.items()))
