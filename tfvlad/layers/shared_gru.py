"""SharedGRU: one GRU over time, shared by all clusters, a memory state for each."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfvlad import ops


@keras.saving.register_keras_serializable(package="tfvlad")
class SharedGRU(keras.layers.Layer):
    """A GRU with one set of weights that follows each cluster of a VLAD descriptor over time.

    ```
    h_t[k] = GRU(V_t[k], h_{t-1}[k])
    ```

    The clusters are folded into the batch and the input products of all steps are one matrix
    product outside the loop. Weights and equations are those of `keras.layers.GRU` (with
    `reset_after=True`): `TimeDistributed(GRU(units))` over the cluster axis gives the same.

    Args:
        units: size U of the state of a cluster.
        bidirectional: a second GRU reads the frames from last to first; the states are concatenated
            to 2U.
        return_sequences: return the state after each frame instead of the last one.
        return_state: return `(output, state)`; the state can be given back as `initial_state` to go
            on with the next frames.

    Call arguments:
        inputs: VLAD vectors of the frames.
        initial_state: optional `(B, K, U)` (2U when bidirectional); zeros by default.
        mask: optional boolean `(B, T)`; the states pass over a masked frame unchanged. Keras 3
            hands on a mask by itself only to a layer called with one tensor: give it by name
            together with `initial_state`.

    Input shape:
        `(B, T, K, D)`.

    Output shape:
        `(B, K, U)`; with `return_sequences`, `(B, T, K, U)`. The state is `(B, K, U)`. 2U in the
        place of U when bidirectional.

    Example:
    >>> layer = SharedGRU(256)
    >>> layer(tf.random.normal((2, 25, 64, 512))).shape
    TensorShape([2, 64, 256])

    Reference:
        Sudhakaran and Lanz, "Top-down Attention Recurrent VLAD Encoding for Action Recognition in
        Videos", section 3 (temporal aggregation).
    """

    def __init__(
        self,
        units: int,
        *,
        bidirectional: bool = False,
        return_sequences: bool = False,
        return_state: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if not isinstance(units, int) or units < 1:
            raise ValueError(f"`units` must be a positive integer. Received: units={units}.")
        self.units = units
        self.bidirectional = bidirectional
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        shape = tuple(input_shape)
        if len(shape) != 4 or shape[-1] is None:
            raise ValueError(
                "`SharedGRU` needs inputs of shape (B, T, K, D) with a known D. "
                f"Received: shape={shape}."
            )
        directions = ("forward", "backward") if self.bidirectional else ("forward",)
        self.directions = [self._add_direction(name, int(shape[-1])) for name in directions]
        super().build(input_shape)

    def _add_direction(self, name: str, channels: int) -> tuple[Any, Any, Any]:
        shapes = {
            "kernel": ((channels, 3 * self.units), "glorot_uniform"),
            "recurrent_kernel": ((self.units, 3 * self.units), "orthogonal"),
            "bias": ((2, 3 * self.units), "zeros"),
        }
        kernel, recurrent_kernel, bias = (
            self.add_weight(name=f"{name}_{part}", shape=shape, initializer=initializer)
            for part, (shape, initializer) in shapes.items()
        )
        return kernel, recurrent_kernel, bias

    def call(
        self,
        inputs: tf.Tensor,
        initial_state: tf.Tensor | None = None,
        mask: tf.Tensor | None = None,
    ) -> Any:
        batch, time, clusters, _ = tf.unstack(tf.shape(inputs))
        rows = batch * clusters
        num_directions = len(self.directions)
        units = num_directions * self.units
        if initial_state is None:
            states = [tf.zeros([rows, self.units], inputs.dtype)] * num_directions
        else:
            flat = tf.reshape(tf.cast(initial_state, inputs.dtype), [rows, units])
            states = tf.split(flat, num_directions, axis=-1)
        if mask is not None:
            # (B, T) -> (T, B*K, 1)
            mask = tf.repeat(tf.transpose(tf.cast(mask, tf.bool)), clusters, axis=1)[
                ..., tf.newaxis
            ]
        sequences = [
            self._run(inputs, direction, state, mask, reverse=number == 1)
            for number, (direction, state) in enumerate(zip(self.directions, states, strict=True))
        ]
        last = [seq[0 if number else -1] for number, seq in enumerate(sequences)]
        state = tf.reshape(tf.concat(last, axis=-1), [batch, clusters, units])
        state = tf.ensure_shape(state, [None, inputs.shape[2], None])
        if not self.return_sequences:
            return (state, state) if self.return_state else state
        # (T, B*K, U) -> (B, T, K, U)
        sequence = tf.concat(sequences, axis=-1)
        sequence = tf.reshape(sequence, [time, batch, clusters, units])
        sequence = tf.transpose(sequence, [1, 0, 2, 3])
        return (sequence, state) if self.return_state else sequence

    def _run(
        self,
        inputs: tf.Tensor,
        direction: tuple[Any, Any, Any],
        state: tf.Tensor,
        mask: tf.Tensor | None,
        reverse: bool,
    ) -> tf.Tensor:
        kernel, recurrent_kernel, bias = (tf.cast(w, inputs.dtype) for w in direction)
        batch, time, clusters, _ = tf.unstack(tf.shape(inputs))
        # (B, T, K, D) -> (T*B*K, D): a product of two matrices has the cheapest gradient
        rows = tf.reshape(
            tf.transpose(inputs, [1, 0, 2, 3]), [time * batch * clusters, inputs.shape[-1]]
        )
        projected = tf.matmul(rows, kernel) + bias[0]
        projected = tf.reshape(projected, [time, batch * clusters, 3 * self.units])
        projected = tf.ensure_shape(projected, [inputs.shape[1], None, 3 * self.units])
        return ops.gru_states(projected, recurrent_kernel, bias[1], state, mask, reverse)

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
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
        }
