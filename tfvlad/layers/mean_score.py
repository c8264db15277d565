"""MeanScore: the score of a clip from the class logits of its steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable(package="tfvlad")
class MeanScore(keras.layers.Layer):
    """Averages class probabilities over steps and gives their mean back as logits.

    ```
    score = log( mean_t softmax(x_t) )
    score = logit( mean_t sigmoid(x_t) )        with multi_label
    ```

    The softmax or sigmoid of the scores is the mean probability: losses and metrics take them
    with `from_logits=True`. Computed in float32 without leaving the logarithms, so that a sure
    step gives no infinity.

    Args:
        multi_label: the classes of a clip do not exclude each other.
        step_weights: of the N steps in a weighted mean, not negative. Equal by default.

    Call arguments:
        inputs: logits of the steps.
        mask: optional boolean `(B, N)`; masked steps do not count. A clip whose steps are all
            masked is averaged over all of them.

    Input shape:
        `(B, N, C)`.

    Output shape:
        `(B, C)`.

    Example:
        >>> layer = MeanScore()
        >>> tf.nn.softmax(layer(tf.math.log([[[0.2, 0.8], [0.4, 0.6]]]))).numpy().round(4)
        array([[0.3, 0.7]], dtype=float32)

    Reference:
        Torabi and Sigal, "Action Classification and Highlighting in Videos", section 3.4 (action
        classification); the sigmoid for several labels is our choice.
    """

    def __init__(
        self,
        *,
        multi_label: bool = False,
        step_weights: Sequence[float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if step_weights is not None and (min(step_weights) < 0 or not sum(step_weights) > 0):
            raise ValueError(
                "`step_weights` must be numbers, none of them negative and not all zero. "
                f"Received: step_weights={step_weights}."
            )
        self.multi_label = multi_label
        self.step_weights = None if step_weights is None else tuple(step_weights)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        if len(input_shape) != 3:
            raise ValueError(
                "`MeanScore` needs inputs of shape (batch, steps, classes). "
                f"Received: shape={tuple(input_shape)}."
            )
        if self.step_weights is not None and input_shape[1] != len(self.step_weights):
            raise ValueError(
                f"`step_weights` must be one for each of {input_shape[1]} steps. "
                f"Received: step_weights={self.step_weights}."
            )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        logits = tf.cast(inputs, tf.float32)
        if mask is None:
            log_weights = tf.zeros_like(logits[..., :1])
        else:
            mask = tf.cast(mask, tf.bool)
            mask |= ~tf.reduce_any(mask, axis=1, keepdims=True)
            log_weights = tf.where(mask, 0.0, -1e9)[..., tf.newaxis]
        if self.step_weights is not None:
            # The logarithm of zero would be minus infinity.
            log_weights += np.log(np.maximum(self.step_weights, 1e-30), dtype="float32")[:, None]
        if self.multi_label:
            # The logarithm of the weights' sum cancels out.
            present = tf.reduce_logsumexp(tf.math.log_sigmoid(logits) + log_weights, axis=1)
            absent = tf.reduce_logsumexp(tf.math.log_sigmoid(-logits) + log_weights, axis=1)
            return tf.cast(present - absent, self.compute_dtype)
        sums = tf.reduce_logsumexp(tf.nn.log_softmax(logits) + log_weights, axis=1)
        return tf.cast(sums - tf.reduce_logsumexp(log_weights, axis=1), self.compute_dtype)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        return None

    def compute_output_shape(self, input_shape: Any) -> tuple:
        return (input_shape[0], input_shape[2])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "multi_label": self.multi_label,
            "step_weights": self.step_weights,
        }
