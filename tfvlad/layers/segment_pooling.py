"""SegmentPooling: the frames of a clip's consecutive segments, summed or averaged."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

_REDUCTIONS = ("sum", "mean")


@keras.saving.register_keras_serializable(package="tfvlad")
class SegmentPooling(keras.layers.Layer):
    """The sum, or the mean, over each of S consecutive segments of a clip, in float32.

    ```
    y[s] = sum over the frames t with floor(t S / T) = s of x[t]
    ```

    The order of the segments is kept: a classifier on all of them can tell a movement from the
    same movement backwards, which the sum over the whole clip cannot.

    Args:
        num_segments: number of segments S. A segment of a clip with fewer frames than S may hold
            none; it is zero then.
        reduction: of a segment's frames, "sum" or "mean".

    Call arguments:
        inputs: vectors or maps of the frames.
        mask: optional boolean `(B, T)`: the segments are those of the frames that it leaves.

    Input shape:
        `(B, T, ...)`.

    Output shape:
        `(B, S, ...)`.

    Example:
        >>> SegmentPooling(4)(tf.random.normal((2, 25, 64, 512))).shape
        TensorShape([2, 4, 64, 512])

    Reference:
        The levels of time in Laptev et al., "Learning realistic human actions from movies".
    """

    def __init__(self, num_segments: int, *, reduction: str = "sum", **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        if not isinstance(num_segments, int) or num_segments < 1:
            raise ValueError(
                f"`num_segments` must be a positive integer. Received: num_segments={num_segments}."
            )
        if reduction not in _REDUCTIONS:
            raise ValueError(
                f"`reduction` must be one of {_REDUCTIONS}. Received: reduction={reduction!r}."
            )
        self.num_segments = num_segments
        self.reduction = reduction
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        shape = tuple(input_shape)
        if len(shape) < 3:
            raise ValueError(
                f"`SegmentPooling` needs inputs of shape (B, T, ...). Received: shape={shape}."
            )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        shape = tf.shape(inputs)
        if mask is None:
            mask = tf.ones([1, shape[1]], tf.bool)
        weights = self.frame_weights(mask)
        # (B, T, ...) -> (B, T, F); -1 would refuse an empty batch
        flat = tf.reshape(inputs, [shape[0], shape[1], tf.reduce_prod(shape[2:])])
        pooled = tf.matmul(weights, tf.cast(flat, tf.float32))
        pooled = tf.reshape(pooled, tf.concat([shape[:1], [self.num_segments], shape[2:]], axis=0))
        return tf.cast(
            tf.ensure_shape(pooled, self.compute_output_shape(inputs.shape)), self.compute_dtype
        )

    def frame_weights(self, mask: tf.Tensor) -> tf.Tensor:
        """What each frame weighs in each segment, float32 `(B, S, T)`.

        Args:
            mask: boolean `(B, T)`, the frames that count.
        """
        counted = tf.cast(mask, tf.int32)
        num_frames = tf.maximum(tf.reduce_sum(counted, axis=1, keepdims=True), 1)
        position = tf.cumsum(counted, axis=1) - 1
        segment = position * self.num_segments // num_frames
        # (B, 1, T) against (S, 1)
        inside = segment[:, tf.newaxis] == tf.range(self.num_segments)[:, tf.newaxis]
        weights = tf.cast(inside & tf.cast(mask, tf.bool)[:, tf.newaxis], tf.float32)
        if self.reduction == "mean":
            weights = tf.math.divide_no_nan(weights, tf.reduce_sum(weights, axis=2, keepdims=True))
        return weights

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        return None

    def compute_output_shape(self, input_shape: Any) -> tuple:
        batch, _, *rest = input_shape
        return (batch, self.num_segments, *rest)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_segments": self.num_segments,
            "reduction": self.reduction,
        }
