"""The questions that a served model answers: from a client's named tensors to named outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf

from export.artifact import FRAME_INPUTS
from export.serving.preprocessing import crop_frames, decoded_clips, own_clips
from tfvlad import compat
from tfvlad.layers import AttentionLSTM
from tfvlad.live.streaming import streaming_model
from tfvlad.models import (
    ClipModel,
    check_attributable,
    frame_attributions,
    head_of,
    intermediate_outputs,
    parts_of,
    with_num_frames,
)

Tensors = dict[str, tf.Tensor]


class Signature(NamedTuple):
    """A function of named tensors, to be traced, and what it takes."""

    function: Callable[[Tensors], Tensors]
    inputs: dict[str, tf.TensorSpec]


def build_signatures(clip_model: ClipModel) -> tuple[dict[str, Signature], dict[str, str]]:
    """The signatures of a model, in the order of the model card.

    Returns:
        The signatures by name; why the others are left out, one sentence by name.
    """
    found, left_out = {}, {}
    for name, build in _BUILDERS.items():
        try:
            found[name] = build(clip_model)
        except _NotOfferedError as reason:
            left_out[name] = str(reason)
    return found, left_out


class _NotOfferedError(Exception):
    """Why a model has no such signature."""


def _answer(clip_model: ClipModel, probabilities: tf.Tensor) -> Tensors:
    names = tf.constant([clip_model.class_names])
    return {
        "probabilities": probabilities,
        "class_names": tf.tile(names, [tf.shape(probabilities)[0], 1]),
    }


def _clip_specs(clip_model: ClipModel) -> dict[str, tf.TensorSpec]:
    return {
        stream: tf.TensorSpec((None, num_frames, None, None, channels), tf.uint8, name=stream)
        for stream, (num_frames, _, _, channels) in clip_model.inputs.items()
    }


def _serving_default(clip_model: ClipModel) -> Signature:
    def answer(inputs: Tensors) -> Tensors:
        return _answer(clip_model, clip_model.probabilities(own_clips(clip_model, inputs)))

    return Signature(answer, _clip_specs(clip_model))


def _encoded_frames(clip_model: ClipModel) -> Signature:
    def answer(inputs: Tensors) -> Tensors:
        return _answer(clip_model, clip_model.probabilities(decoded_clips(clip_model, inputs)))

    specs = {
        stream: tf.TensorSpec(
            (None, shape[0], *((shape[-1],) if stream == "flow" else ())), tf.string, name=stream
        )
        for stream, shape in clip_model.inputs.items()
    }
    return Signature(answer, specs)


def _features(clip_model: ClipModel) -> Signature:
    """Features that a client has extracted, or kept, itself."""
    network = parts_of(clip_model.model).feature_model
    if network is not None:
        names = [x.name for x in network.inputs]
    else:
        try:
            network = head_of(clip_model.model)
        except ValueError as error:
            raise _NotOfferedError(
                f"'{clip_model.model.name}' joins models that each have features of their own."
            ) from error
        is_single = len(network.inputs) == 1
        names = ["features"] if is_single else ["rgb_features", "flow_features"]

    def answer(inputs: Tensors) -> Tensors:
        features = [inputs[name] for name in names]
        scores = network(features if len(features) > 1 else features[0], training=False)
        return _answer(clip_model, clip_model.normalized(scores))

    specs = {
        name: tf.TensorSpec((None, *x.shape[1:]), tf.float32, name=name)
        for name, x in zip(names, network.inputs, strict=True)
    }
    return Signature(answer, specs)


def _highlight(clip_model: ClipModel) -> Signature:
    is_of_features = parts_of(clip_model.model).feature_model is not None
    answer = (_attending if is_of_features else _attributing)(clip_model)
    return Signature(
        lambda inputs: answer(clip_model.model_inputs(own_clips(clip_model, inputs))),
        _clip_specs(clip_model),
    )


def _attending(clip_model: ClipModel) -> Callable[[tf.Tensor], Tensors]:
    """What an attention LSTM attends to, the mean over its steps."""
    model = clip_model.model
    parts = parts_of(model)
    inner = parts.feature_model
    if inner is None or not isinstance(parts_of(inner).joint.temporal, AttentionLSTM):
        raise _NotOfferedError(f"'{model.name}' does not attend to frames.")
    features = [compat.first_output(extractor) for extractor in parts.extractors]
    # One extractor may serve both inputs.
    extractor = keras.Model(model.inputs, [features[0], features[-1]])
    network = intermediate_outputs(inner, ["attention", "logits"])

    def answer(clips: tf.Tensor) -> Tensors:
        outputs = network(extractor(clips, training=False), training=False)
        weights = tf.reduce_mean(tf.cast(outputs["attention"], tf.float32), axis=1)
        probabilities = clip_model.normalized(outputs["logits"])
        return {**_answer(clip_model, probabilities), "frame_weights": weights}

    return answer


def _attributing(clip_model: ClipModel) -> Callable[[tf.Tensor], Tensors]:
    """What each frame adds to the top class's score, and where top-down attention looks."""
    model = clip_model.model
    parts = parts_of(model)
    backbones = parts.backbone_layers
    # The backbones run once; a fusion of models has its own inside.
    network = head_of(model) if backbones else model
    attention = None
    if parts.joint.attention is not None:
        maps = compat.first_output(backbones[0])
        attention = with_num_frames(
            keras.Model(maps, compat.first_output(parts.joint.attention)),
            model.inputs[0].shape[1],
        )
    has_weights = True
    try:
        check_attributable(model)
    except ValueError as error:
        if attention is None:
            raise _NotOfferedError(f"'{model.name}' gives its frames no weights.") from error
        has_weights = False

    def answer(clips: tf.Tensor) -> Tensors:
        if backbones:
            streams = clips if len(backbones) > 1 else [clips]
            maps = [
                backbone(x, training=False) for backbone, x in zip(backbones, streams, strict=True)
            ]
            clips = maps if len(maps) > 1 else maps[0]
        found = {}
        if has_weights:
            attributions, logits = frame_attributions(network, clips, "all")
        # A fusion's backbones would run a second time.
        scores = network(clips, training=False) if backbones else logits
        probabilities = clip_model.normalized(scores)
        if has_weights:
            top = tf.argmax(probabilities, axis=-1)
            weights = tf.gather(attributions, top, axis=2, batch_dims=1)
            found["frame_weights"] = tf.ensure_shape(weights, (None, model.inputs[0].shape[1]))
        if attention is not None:
            found["attention_maps"] = tf.cast(attention(clips), tf.float32)
        return {**_answer(clip_model, probabilities), **found}

    return answer


def _stream(clip_model: ClipModel) -> Signature:
    """One frame after the other, the memory handed in and out."""
    try:
        stream = streaming_model(clip_model.model)
    except ValueError as error:
        raise _NotOfferedError(str(error)) from error
    streams = {frame: stream for stream, frame in FRAME_INPUTS.items()}

    def answer(inputs: Tensors) -> Tensors:
        given = {}
        for name, x in inputs.items():
            if name in streams:
                size = clip_model.inputs[streams[name]][1:3]
                x = crop_frames(x, size, clip_model.short_side)
            given[name] = x
        outputs = dict(stream(given, training=False))
        probabilities = clip_model.normalized(outputs.pop("scores"))
        return {**_answer(clip_model, probabilities), **outputs}

    specs = {}
    for name, x in stream.input.items():
        shape, dtype = tuple(x.shape), x.dtype
        if name in streams:
            shape, dtype = (None, None, None, shape[-1]), tf.uint8
        specs[name] = tf.TensorSpec(shape, dtype, name=name)
    return Signature(answer, specs)


_BUILDERS: dict[str, Callable[[ClipModel], Signature]] = {
    "serving_default": _serving_default,
    "encoded_frames": _encoded_frames,
    "features": _features,
    "highlight": _highlight,
    "stream": _stream,
}
