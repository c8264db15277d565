"""What `SharedGRU` and `SeparateGRUs` have in common: all but whose weights a cluster has."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfvlad import ops


@keras.saving.register_keras_serializable(package="tfvlad")
class UpdateGateBias(keras.initializers.Initializer):
    """First biases of a GRU, `(2, 3U)` with `reset_after=True`: those of the update gate alone.

    A state that nothing else moves keeps the share `sigmoid(value)` of itself from frame to frame.

    Args:
        value: of the update gate's biases; the other gates' are zero.
    """

    def __init__(self, value: float = 0.0):
        self.value = value

    def __call__(self, shape: Sequence[int], dtype: Any = None, **kwargs: Any) -> tf.Tensor:
        bias = np.zeros(shape)
        bias[0, : shape[-1] // 3] = self.value  # the gates are update, reset, candidate
        return tf.constant(bias, dtype or "float32")

    def get_config(self) -> dict[str, Any]:
        return {"value": self.value}


class ClusterGRU(keras.layers.Layer):
    """A GRU that gives each cluster of `(B, T, K, D)` a state of its own, see `SharedGRU`.

    A subclass lays out the clusters of the batch so that one matrix product serves them all.
    """

    # The sizes of (B, T, K, D) that the weights depend on.
    _known_sizes: tuple[str, ...] = ("D",)

    def __init__(
        self,
        units: int,
        *,
        bidirectional: bool = False,
        update_bias: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if not isinstance(units, int) or units < 1:
            raise ValueError(f"`units` must be a positive integer. Received: units={units}.")
        if not math.isfinite(update_bias):
            raise ValueError(
                f"`update_bias` must be a finite number. Received: update_bias={update_bias}."
            )
        self.units = units
        self.bidirectional = bidirectional
        self.update_bias = update_bias
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.supports_masking = True

    @abstractmethod
    def _add_gru_weight(self, name: str, shape: tuple, initializer: Any, clusters: Any) -> Any:
        """Add a weight that has the given shape in one GRU."""

    @abstractmethod
    def _to_rows(self, x: tf.Tensor) -> tf.Tensor:
        """`(..., B, K, F)` in the layout in which the loop computes."""

    @abstractmethod
    def _from_rows(self, rows: tf.Tensor, batch: tf.Tensor, clusters: tf.Tensor) -> tf.Tensor:
        """The way back to `(..., B, K, F)`."""

    @abstractmethod
    def _project(self, rows: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        """The input products `x W + b` of all steps, `(T, ..., D) -> (T, ..., 3U)`."""

    def build(self, input_shape: Any) -> None:
        shape = tuple(input_shape)
        sizes = dict(zip("BTKD", shape, strict=True)) if len(shape) == 4 else {}
        if any(sizes.get(name) is None for name in self._known_sizes):
            raise ValueError(
                f"`{type(self).__name__}` needs inputs of shape (B, T, K, D) with a known "
                f"{' and '.join(self._known_sizes)}. Received: shape={shape}."
            )
        names = ("forward", "backward") if self.bidirectional else ("forward",)
        self.directions = [self._add_direction(name, shape[2], int(shape[3])) for name in names]
        super().build(input_shape)

    def _add_direction(self, name: str, clusters: Any, channels: int) -> tuple[Any, Any, Any]:
        shapes = {
            "kernel": ((channels, 3 * self.units), "glorot_uniform"),
            "recurrent_kernel": ((self.units, 3 * self.units), "orthogonal"),
            "bias": ((2, 3 * self.units), UpdateGateBias(self.update_bias)),
        }
        kernel, recurrent_kernel, bias = (
            self._add_gru_weight(f"{name}_{part}", shape, initializer, clusters)
            for part, (shape, initializer) in shapes.items()
        )
        return kernel, recurrent_kernel, bias

    def call(
        self,
        inputs: tf.Tensor,
        initial_state: tf.Tensor | None = None,
        mask: tf.Tensor | None = None,
    ) -> Any:
        batch, _, clusters, _ = tf.unstack(tf.shape(inputs))
        num_directions = len(self.directions)
        if initial_state is None:
            zeros = tf.zeros([batch, clusters, self.units], inputs.dtype)
            states = [self._to_rows(zeros)] * num_directions
        else:
            rows = self._to_rows(tf.cast(initial_state, inputs.dtype))
            states = tf.split(rows, num_directions, axis=-1)
        if mask is not None:
            # (B, T) -> (T, B, K, 1)
            mask = tf.transpose(tf.cast(mask, tf.bool))[..., tf.newaxis, tf.newaxis]
            mask = self._to_rows(tf.repeat(mask, clusters, axis=2))
        rows = self._to_rows(tf.transpose(inputs, [1, 0, 2, 3]))
        sequences = [
            self._run(rows, direction, state, mask, reverse=number == 1)
            for number, (direction, state) in enumerate(zip(self.directions, states, strict=True))
        ]
        last = [seq[0 if number else -1] for number, seq in enumerate(sequences)]
        state = self._from_rows(tf.concat(last, axis=-1), batch, clusters)
        state = tf.ensure_shape(state, [None, inputs.shape[2], None])
        if not self.return_sequences:
            return (state, state) if self.return_state else state
        # (T, B, K, U) -> (B, T, K, U)
        sequence = self._from_rows(tf.concat(sequences, axis=-1), batch, clusters)
        sequence = tf.transpose(sequence, [1, 0, 2, 3])
        return (sequence, state) if self.return_state else sequence

    def _run(
        self,
        rows: tf.Tensor,
        direction: tuple[Any, Any, Any],
        state: tf.Tensor,
        mask: tf.Tensor | None,
        reverse: bool,
    ) -> tf.Tensor:
        kernel, recurrent_kernel, bias = (tf.cast(w, rows.dtype) for w in direction)
        input_bias, recurrent_bias = tf.split(bias, 2, axis=-2)  # (..., 1, 3U)
        projected = self._project(rows, kernel, input_bias)
        return ops.gru_states(projected, recurrent_kernel, recurrent_bias, state, mask, reverse)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        if isinstance(mask, (list, tuple)):
            mask = mask[0]
        output_mask = mask if self.return_sequences else None
        return (output_mask, None) if self.return_state else output_mask

    def compute_output_shape(self, inputs_shape: Any, initial_state_shape: Any = None) -> Any:
        batch, time, clusters, _ = inputs_shape
        units = self.units * (2 if self.bidirectional else 1)
        state = (batch, clusters, units)
        output = (batch, time, clusters, units) if self.return_sequences else state
        return (output, state) if self.return_state else output

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "bidirectional": self.bidirectional,
            "update_bias": self.update_bias,
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
        }
