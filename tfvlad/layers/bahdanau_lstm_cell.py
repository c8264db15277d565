"""One step of the attention LSTM: look back at a memory, then update an LSTM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="tfvlad")
class BahdanauLSTMCell(keras.layers.Layer):
    """One step of an LSTM that attends to a memory.

    ```
    m_i = s . tanh(W_h h_{t-1} + W_a a_i + b)        w = softmax_i m_i        k_t = sum_i w_i a_i
    i, f, g, o = W_v v_t + W_k k_t + U h_{t-1} + b   (sigmoid; tanh for g)
    c_t = f c_{t-1} + i g        h_t = o tanh(c_t)
    ```

    Gates, their order and their start (a forget bias of one) are those of `keras.layers.LSTM`. The
    softmax is computed in float32. `AttentionLSTM` drives the cell over a sequence and takes the
    products that do not depend on the state out of the loop.

    Args:
        units: size U of the states.
        matching_units: size M of the vector in which state and memory are matched; U by default.

    Call arguments:
        inputs: `(B, Dv)`, the input data v_t of the step.
        states: `[h, c]` before the step, each `(B, U)`.
        memory: `(B, T, Da)`, the attended data a_1 .. a_T.
        keys: optional `memory_projection(memory)`, `(B, T, M)`, the same for every step.
        mask: optional boolean `(B, T)`; masked entries of the memory weigh zero, and a memory that
            is masked as a whole gives a context of zero.

    Output shape:
        The output h_t `(B, U)`, the states `[h_t, c_t]` and the attention w `(B, T)`.

    Example:
        >>> cell = BahdanauLSTMCell(512)
        >>> states = [tf.zeros((2, 512)), tf.zeros((2, 512))]
        >>> output, states, attention = cell(tf.ones((2, 64)), states, tf.ones((2, 12, 32)))
        >>> attention.shape
        TensorShape([2, 12])

    Reference:
        Torabi and Sigal, "Action Classification and Highlighting in Videos", equations 3 to 5 and 7
        to 12. They leave the matching function open and cite Bahdanau et al., "Neural Machine
        Translation by Jointly Learning to Align and Translate", whose additive one this is, and say
        that the context is "distributed across the input data": here each gate adds a projection of
        both.
    """

    def __init__(self, units: int, *, matching_units: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        matching_units = units if matching_units is None else matching_units
        for name, value in (("units", units), ("matching_units", matching_units)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value}.")
        self.units = units
        self.matching_units = matching_units
        self.supports_masking = True
        self.input_projection = self._dense(
            "input_projection", 4 * units, bias_initializer=_UnitForgetBias()
        )
        self.context_projection = self._dense("context_projection", 4 * units, use_bias=False)
        self.recurrent_projection = self._dense(
            "recurrent_projection", 4 * units, use_bias=False, kernel_initializer="orthogonal"
        )
        self.memory_projection = self._dense("memory_projection", matching_units, use_bias=False)
        self.query_projection = self._dense("query_projection", matching_units)
        self.score_projection = self._dense("score_projection", 1, use_bias=False, dtype="float32")

    def _dense(self, name: str, units: int, **arguments: Any) -> keras.layers.Dense:
        return keras.layers.Dense(units, name=name, **{"dtype": self.dtype_policy, **arguments})

    def build(self, inputs_shape: Any, memory_shape: Any = None) -> None:
        channels = {
            self.input_projection: inputs_shape[-1],
            self.recurrent_projection: self.units,
            self.query_projection: self.units,
            self.score_projection: self.matching_units,
        }
        # Keras 2.15 tells the first shape alone: there, the first call builds the other two.
        if memory_shape is not None:
            channels[self.context_projection] = memory_shape[-1]
            channels[self.memory_projection] = memory_shape[-1]
        for projection, size in channels.items():
            with tf.name_scope(projection.name):
                projection.build((None, size))
        self.built = True

    def call(
        self,
        inputs: tf.Tensor,
        states: Sequence[tf.Tensor],
        memory: tf.Tensor,
        keys: tf.Tensor | None = None,
        mask: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor]:
        keys = self.memory_projection(memory) if keys is None else keys
        attention = self.attend(states[0], keys, mask)
        context = weighted_sum(attention, tf.cast(memory, attention.dtype))
        gates = self.input_projection(inputs) + self.context_projection(context)
        hidden, cell = self.update(gates, states)
        return hidden, [hidden, cell], attention

    def attend(
        self, hidden: tf.Tensor, keys: tf.Tensor, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Attention `(B, T)` of the state h `(B, U)` over the keys `(B, T, M)`."""
        matching = tf.tanh(keys + self.query_projection(hidden)[:, tf.newaxis])
        scores = self.score_projection(matching)[..., 0]
        if mask is None:
            return tf.cast(tf.nn.softmax(scores), self.compute_dtype)
        mask = tf.cast(mask, tf.bool)
        weights = tf.nn.softmax(tf.where(mask, scores, -1e9)) * tf.cast(mask, tf.float32)
        return tf.cast(weights, self.compute_dtype)

    def update(self, gates: tf.Tensor, states: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """States h, c after a step, from the products of its input and context `(B, 4U)`."""
        hidden, cell = (tf.cast(state, self.compute_dtype) for state in states)
        gates += self.recurrent_projection(hidden)
        enter, forget, candidate, leave = tf.split(gates, 4, axis=-1)
        cell = tf.sigmoid(forget) * cell + tf.sigmoid(enter) * tf.tanh(candidate)
        return tf.sigmoid(leave) * tf.tanh(cell), cell

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        return None

    def compute_output_shape(
        self, inputs_shape: Any, states_shape: Any = None, memory_shape: Any = None
    ) -> tuple:
        state = (inputs_shape[0], self.units)
        return state, [state, state], (inputs_shape[0], memory_shape[1])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "matching_units": self.matching_units,
        }


def weighted_sum(weights: tf.Tensor, vectors: tf.Tensor) -> tf.Tensor:
    """`sum_i w_i x_i` of weights `(B, T)` and vectors `(B, T, D)`: `(B, D)`."""
    return tf.matmul(weights[:, tf.newaxis], vectors)[:, 0]


class _UnitForgetBias(keras.initializers.Initializer):
    def __call__(self, shape: Sequence[int], dtype: Any = None, **kwargs: Any) -> tf.Tensor:
        return tf.repeat(tf.constant([0, 1, 0, 0], dtype), shape[0] // 4)
