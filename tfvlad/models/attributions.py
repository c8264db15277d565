"""How much each frame of a clip adds to a class score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfvlad import ops
from tfvlad.layers import SegmentPooling
from tfvlad.models.parts import (
    FLATTENED_GRUS,
    ModelParts,
    StreamParts,
    parts_of,
)

_POOLINGS = (keras.layers.GlobalAveragePooling3D, keras.layers.GlobalMaxPooling3D)


def frame_attributions(
    model: keras.Model,
    inputs: Any,
    class_index: int | str | Sequence[int] | np.ndarray | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Splits a class's logit over the frames of the clip.

    The logit is linear in what the frames add to the clip's descriptor once the descriptor's norms,
    `|V_k|` of each cluster and Z of the whole, are held at those of the whole clip:

    ```
    logit_c = b_c + sum_t a_t        a_t = sum_k W_kc . dV_t[k] / (|V_k| Z)
    ```

    where `dV_t` is what frame t adds:

    * average pooling: the frame's share of the average;
    * max pooling: each channel's maximum, in the frame that has it; equal maxima share it;
    * ActionVLAD: the frame's own VLAD;
    * TA-VLAD: the change of the state of each cluster's GRU, shared or separate, when it reads the
      frame, `h_t - h_{t-1}`, and `h_t - h_{t+1}` for the GRU that reads backwards. The changes add
      up to the last state.

    The bias is spread evenly over the frames, so that a clip's attributions add up to its logit. A
    frame of a fusion of streams or models stands for what it adds in all of them.

    For the models that sum over time it is the exact share of the frame in the sum; since the norms
    are held, it is not how the logit would change without the frame. For the GRU it is a statement
    about the memory: a later frame that makes it forget is charged with what is forgotten, and the
    frame that wrote it keeps the credit.

    Call it inside a `tf.function` where the same model sees many clips.

    Args:
        model: `average_pooling`, `max_pooling`, `action_vlad`, `two_stream` or `ta_vlad`, not with
            a flattened GRU, built or loaded, or its `head_of`; or a fusion of the logits of such
            models by `late_fusion`.
        inputs: frames `(B, T, H, W, 3)`; for a head, feature maps `(B, T, h, w, D)`; a list where
            the model takes one.
        class_index: the class, one for all clips or one for each, or "all". Defaults to the top
            class of each clip.

    Returns:
        float32 attributions `(B, T)`, of "all" classes `(B, T, C)`, and logits `(B, C)`.

    Raises:
        ValueError: when the model is none of these, the inputs are not as many as it takes, or
            there is no such class.
    """
    check_attributable(model)
    parts, kernel, bias = _linear(model, inputs)
    logits = tf.matmul(tf.reduce_sum(parts, axis=1), kernel) + bias
    num_frames = tf.cast(tf.shape(parts)[1], tf.float32)
    if isinstance(class_index, str) and class_index == "all":
        return tf.einsum("btm,mc->btc", parts, kernel) + bias / num_frames, logits
    if class_index is None:
        classes = tf.argmax(logits, axis=-1)
    else:
        chosen = np.asarray(class_index)
        num_classes = logits.shape[-1]
        if (
            not np.issubdtype(chosen.dtype, np.integer)
            or not ((chosen >= 0) & (chosen < num_classes)).all()
        ):
            raise ValueError(
                f"`class_index` must be an integer from 0 to {num_classes - 1}, one for all clips "
                f'or one for each, or "all". Received: class_index={class_index}.'
            )
        classes = tf.broadcast_to(tf.constant(chosen, tf.int64), tf.shape(logits)[:1])
    attributions = tf.einsum("btm,mb->bt", parts, tf.gather(kernel, classes, axis=1))
    return attributions + tf.gather(bias, classes)[:, tf.newaxis] / num_frames, logits


def check_attributable(model: keras.Model) -> None:
    """Refuses a model whose logits `frame_attributions` cannot split.

    Raises:
        ValueError: when it is one.
    """
    parts = parts_of(model)
    if isinstance(parts.joint.temporal, FLATTENED_GRUS):
        raise ValueError(
            "`frame_attributions` needs a state for each cluster. Received: "
            f"'{model.name}' with one GRU for all clusters together (temporal=\"flattened_gru\")."
        )
    if parts.fuses_probabilities:
        raise ValueError(
            "`frame_attributions` needs a fusion of logits. Received: "
            f"'{model.name}', which averages probabilities."
        )
    lengths = [x.shape[1] for x in model.inputs]
    if len(set(lengths)) > 1 and parts.shares:
        raise ValueError(
            "`frame_attributions` needs the same number of frames in all inputs of a fusion. "
            f"Received: '{model.name}' of {lengths} frames."
        )
    for member in parts.members:
        check_attributable(member)
    is_known = parts.members or parts.vlad_layers or parts.joint.segments
    if not is_known and not isinstance(parts.joint.descriptor, _POOLINGS):
        raise ValueError(
            "`frame_attributions` needs a model made by `average_pooling`, `max_pooling`, "
            f"`action_vlad`, `two_stream` or `ta_vlad`. Received: '{model.name}'. The weights of "
            'an attention LSTM are in `intermediate_outputs(model, ["attention"])`.'
        )


def _linear(model: keras.Model, inputs: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The last dense layer, and what each frame adds to what it reads.

    Returns:
        What the frames add, float32 `(B, T, M)`; the layer's kernel `(M, C)` and bias `(C,)`.
    """
    parts, clips = parts_of(model), _as_list(model, inputs)
    if parts.shares:
        return _fused(parts, clips)
    streams = zip(parts.streams, clips, strict=True)
    if parts.joined_maps is not None:
        maps = [_trained_maps(stream, _maps(stream, x)) for stream, x in streams]
        added = _descriptor_parts(parts.joint, parts.joined_maps(maps))
    else:
        added = tf.concat([_descriptor_parts(stream, x) for stream, x in streams], axis=-1)
    return added, *_weights(parts.joint)


def _fused(parts: ModelParts, clips: list[Any]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The weighted sum of dense layers: one dense layer that reads what they all read."""
    found = []
    for member in parts.members:
        own, clips = clips[: len(member.inputs)], clips[len(member.inputs) :]
        found.append(_linear(member, own if len(own) > 1 else own[0]))
    if not found:
        for stream, x in zip(parts.streams, clips, strict=True):
            found.append((_descriptor_parts(stream, x), *_weights(stream)))
    added, kernels, biases = zip(*found, strict=True)
    kernel = tf.concat([k * share for k, share in zip(kernels, parts.shares, strict=True)], axis=0)
    bias = tf.add_n([b * share for b, share in zip(biases, parts.shares, strict=True)])
    return tf.concat(added, axis=-1), kernel, bias


def _as_list(model: keras.Model, inputs: Any) -> list[Any]:
    if len(model.inputs) == 1:
        return [inputs]
    if not isinstance(inputs, (list, tuple)) or len(inputs) != len(model.inputs):
        received = f"{len(inputs)}" if isinstance(inputs, (list, tuple)) else "one array"
        raise ValueError(
            f"`inputs` must be a list of the {len(model.inputs)} inputs of '{model.name}'. "
            f"Received: {received}."
        )
    return list(inputs)


def _weights(stream: StreamParts) -> tuple[tf.Tensor, tf.Tensor]:
    dense: Any = stream.classifier
    return tf.convert_to_tensor(dense.kernel), tf.convert_to_tensor(dense.bias)


def _maps(stream: StreamParts, clips: Any) -> tf.Tensor:
    """The backbone's maps; in a head the inputs are such maps."""
    clips = tf.convert_to_tensor(clips)
    backbone = stream.backbone_layer
    return clips if backbone is None else backbone(clips, training=False)


def _trained_maps(stream: StreamParts, maps: tf.Tensor) -> tf.Tensor:
    return maps if stream.trained_maps is None else stream.trained_maps(maps)


def _descriptor_parts(stream: StreamParts, clips: Any) -> tf.Tensor:
    """What each frame adds to the descriptor, float32 `(B, T, M)`."""
    maps = _maps(stream, clips)
    weights = None if stream.attention is None else _attention(stream, maps)
    maps = _trained_maps(stream, maps)
    vlad, gru = stream.vlad, stream.temporal
    if vlad is not None and gru is not None:
        vectors, _ = vlad(maps, weights)
        states, _ = gru(stream.frame_vlad(vectors))
        changes = _state_changes(tf.cast(states, tf.float32), gru)
        return _normalized(changes, stream.descriptor.intra_normalize)
    if vlad is not None:
        changes = _frame_vlad(vlad, maps, weights)
        if stream.segments is not None:
            return _normalized(_in_segments(changes, stream.segments), True)
        return _normalized(changes, vlad.intra_normalize, vlad.normalize_descriptor)
    features = tf.cast(stream.features(maps), tf.float32)
    if stream.segments is not None:
        means = tf.reduce_mean(features, axis=(2, 3))[:, :, tf.newaxis]
        return ops.flatten_clusters(_in_segments(means, stream.segments))
    if isinstance(stream.descriptor, keras.layers.GlobalAveragePooling3D):
        return tf.reduce_mean(features, axis=(2, 3)) / tf.cast(tf.shape(maps)[1], tf.float32)
    maxima = tf.reduce_max(features, axis=(1, 2, 3), keepdims=True)
    hits = tf.reduce_sum(tf.cast(features == maxima, tf.float32), axis=(2, 3))
    return maxima[:, :, 0, 0] * hits / tf.reduce_sum(hits, axis=1, keepdims=True)


def _in_segments(changes: tf.Tensor, segments: SegmentPooling) -> tf.Tensor:
    """`(B, T, K, D) -> (B, T, S*K, D)`: what each frame adds to its segment, and to the others."""
    batch, time, clusters, channels = tf.unstack(tf.shape(changes))
    weights = segments.frame_weights(tf.ones([1, time], tf.bool))[0]
    # (T, S, 1, 1) * (B, T, 1, K, D)
    placed = tf.transpose(weights)[..., tf.newaxis, tf.newaxis] * changes[:, :, tf.newaxis]
    return tf.reshape(placed, [batch, time, segments.num_segments * clusters, channels])


def _attention(stream: StreamParts, maps: tf.Tensor) -> tf.Tensor:
    attention: Any = stream.attention
    if stream.frozen_maps is None:
        return attention(stream.features(maps))
    return attention(stream.frozen_features(stream.frozen_maps(maps)))


def _frame_vlad(vlad: keras.layers.Layer, maps: tf.Tensor, weights: tf.Tensor | None) -> tf.Tensor:
    """The VLAD of each frame before any norm, `(B, T, K, D)`."""
    shape = tf.shape(maps)
    locations = shape[2] * shape[3]
    # (B, T, h, w, D) -> (B, T, h*w, D)
    features = tf.reshape(maps, [shape[0], shape[1], locations, maps.shape[-1]])
    features = ops.l2_normalize(features) if vlad.normalize_input else features
    mass = ops.soft_assign(features, vlad.kernel, vlad.bias)
    if weights is not None:
        mass *= tf.cast(tf.reshape(weights, [shape[0], shape[1], locations, 1]), tf.float32)
    return ops.aggregate_residuals(features, mass, vlad.centers)


def _state_changes(states: tf.Tensor, gru: keras.layers.Layer) -> tf.Tensor:
    """The change of the states `(B, T, K, U)` at each frame, from zeros, in reading order."""
    units = gru.units
    changes = [states[..., :units] - tf.pad(states[:, :-1, :, :units], _BEFORE)]
    if gru.bidirectional:
        changes.append(states[..., units:] - tf.pad(states[:, 1:, :, units:], _AFTER))
    return tf.concat(changes, axis=-1)


_BEFORE = [[0, 0], [1, 0], [0, 0], [0, 0]]
_AFTER = [[0, 0], [0, 1], [0, 0], [0, 0]]


def _normalized(
    changes: tf.Tensor, intra_normalize: bool, normalize_descriptor: bool = True
) -> tf.Tensor:
    """`(B, T, K, D) -> (B, T, K*D)`, divided by the norms of the sum over the frames."""
    for axes, wanted in (((-1,), intra_normalize), ((-2, -1), normalize_descriptor)):
        if wanted:
            total = tf.reduce_sum(changes, axis=1, keepdims=True)
            squares = tf.reduce_sum(total**2, axis=axes, keepdims=True)
            changes *= tf.math.rsqrt(tf.maximum(squares, ops.EPSILON))
    return ops.flatten_clusters(changes)
