"""How much each frame of a clip adds to a class score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfvlad import ops


def frame_attributions(
    model: keras.Model,
    inputs: np.ndarray | tf.Tensor,
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

    The bias is spread evenly over the frames, so that a clip's attributions add up to its logit.

    For the models that sum over time it is the exact share of the frame in the sum; since the norms
    are held, it is not how the logit would change without the frame. For the GRU it is a statement
    about the memory: a later frame that makes it forget is charged with what is forgotten, and the
    frame that wrote it keeps the credit.

    Call it inside a `tf.function` where the same model sees many clips.

    Args:
        model: `average_pooling`, `max_pooling`, `action_vlad` or `ta_vlad`, not with a flattened
            GRU, built or loaded, or its `head_of`.
        inputs: frames `(B, T, H, W, 3)`; for a head, feature maps `(B, T, h, w, D)`.
        class_index: the class, one for all clips or one for each, or "all". Defaults to the top
            class of each clip.

    Returns:
        float32 attributions `(B, T)`, of "all" classes `(B, T, C)`, and logits `(B, C)`.

    Raises:
        ValueError: the model is none of these, or there is no such class.
    """
    parts = _descriptor_parts(model, inputs)
    dense = model.get_layer("logits")
    logits = dense(tf.reduce_sum(parts, axis=1))
    num_frames = tf.cast(tf.shape(parts)[1], tf.float32)
    kernel, bias = (tf.convert_to_tensor(weight) for weight in (dense.kernel, dense.bias))
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


def _descriptor_parts(model: keras.Model, inputs: np.ndarray | tf.Tensor) -> tf.Tensor:
    """What each frame adds to the descriptor, float32 `(B, T, M)`."""
    layers = {layer.name: layer for layer in model.layers}
    descriptor: Any = layers.get("descriptor")
    _check(model, layers)
    maps = tf.convert_to_tensor(inputs)
    if "backbone" in layers:
        maps = layers["backbone"](maps, training=False)
    weights = _attention(layers, maps) if "attention" in layers else None
    if "trained_maps" in layers:
        maps = layers["trained_maps"](maps)
    if "vlad" in layers:
        gru = layers.get("shared_gru", layers.get("separate_grus"))
        if gru is not None:
            vectors, _ = layers["vlad"](maps, weights)
            states, _ = gru(layers["frame_vlad"](vectors))
            changes = _state_changes(tf.cast(states, tf.float32), gru)
            return _normalized(changes, descriptor.intra_normalize)
        changes = _frame_vlad(layers["vlad"], maps, weights)
        return _normalized(
            changes, layers["vlad"].intra_normalize, layers["vlad"].normalize_descriptor
        )
    if isinstance(descriptor, keras.layers.GlobalAveragePooling3D):
        features = tf.cast(layers["features"](maps), tf.float32)
        return tf.reduce_mean(features, axis=(2, 3)) / tf.cast(tf.shape(maps)[1], tf.float32)
    if isinstance(descriptor, keras.layers.GlobalMaxPooling3D):
        features = tf.cast(layers["features"](maps), tf.float32)
        maxima = tf.reduce_max(features, axis=(1, 2, 3), keepdims=True)
        hits = tf.reduce_sum(tf.cast(features == maxima, tf.float32), axis=(2, 3))
        return maxima[:, :, 0, 0] * hits / tf.reduce_sum(hits, axis=1, keepdims=True)
    raise ValueError(
        "`frame_attributions` needs a model made by `average_pooling`, `max_pooling`, "
        f"`action_vlad` or `ta_vlad`. Received: '{model.name}'. The weights of an attention LSTM "
        'are in `intermediate_outputs(model, ["attention"])`.'
    )


def _check(model: keras.Model, layers: dict[str, Any]) -> None:
    if "flattened_gru" in layers:
        raise ValueError(
            "`frame_attributions` needs a state for each cluster. Received: "
            f"'{model.name}' with one GRU for all clusters together (temporal=\"flattened_gru\")."
        )
    if len(model.inputs) > 1 and "attention_lstm" not in layers:
        raise ValueError(
            "`frame_attributions` needs a model of one stream. Received: "
            f"'{model.name}' with {len(model.inputs)} inputs."
        )


def _attention(layers: dict[str, Any], maps: tf.Tensor) -> tf.Tensor:
    if "frozen_maps" in layers:
        features = layers["frozen_features"](layers["frozen_maps"](maps))
    else:
        features = layers["features"](maps)
    return layers["attention"](features)


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
