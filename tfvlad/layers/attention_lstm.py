"""AttentionLSTM: an LSTM over the input data that attends to other data of the same clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfvlad.layers.bahdanau_lstm_cell import BahdanauLSTMCell, weighted_sum

_ATTEND = ("every_step", "last_step")

# h and c (B, U), and the attention (B, T) where the step attends.
Carry = tuple[tf.Tensor, ...]
# From a step's gates (B, 4U) and the carry before it to the carry after it.
Step = Callable[[tf.Tensor, Carry], Carry]


@keras.saving.register_keras_serializable(package="tfvlad")
class AttentionLSTM(keras.layers.Layer):
    """Runs a `BahdanauLSTMCell` over the input data v_1 .. v_N of a clip.

    Before each step, or before the last one alone, the state is matched with the attended data
    a_1 .. a_T of the same clip; their sum, weighted by the attention, enters the step. The products
    that do not depend on the state are taken for all steps at once, outside the loop. The loop is
    unrolled where N is known.

    Args:
        units: size U of the states.
        matching_units: size of the vectors in which states and attended data are matched; U by
            default.
        attend: "every_step", or "last_step": the steps before the last one are those of a plain
            LSTM (their context is zero), which is the paper's variant (b).
        return_state: also return the last states h and c, to be given as `initial_state` with the
            next piece of a sequence. With "every_step", pieces give what the whole gives; with
            "last_step", each piece attends at its own last step.

    Call arguments:
        input_data: `(B, N, Dv)`.
        attended_data: `(B, T, Da)`, T may differ from N.
        initial_state: optional `[h, c]`, each `(B, U)`; zeros by default.
        mask: optional boolean `(B, N)`. The states pass over a masked step unchanged and its
            attention is zero. The "last step" is the last one that is not masked, in right-padded
            data the clip's own; the states after it repeat. Keras 3 hands on a mask by itself only
            to a layer called with one tensor: give it by name.
        attended_mask: optional boolean `(B, T)`; masked attended data weigh zero. A clip whose
            attended data are all masked has zero attention and a context of zero.

    Output shape:
        `(states, attention)`: the states h_1 .. h_N `(B, N, U)` and the attention `(B, N, T)`,
        `(B, 1, T)` with "last_step". With `return_state`, `(states, attention, h, c)`.

    Example:
        >>> layer = AttentionLSTM(512)
        >>> states, attention = layer(tf.ones((2, 12, 64)), tf.ones((2, 24, 32)))
        >>> states.shape, attention.shape
        (TensorShape([2, 12, 512]), TensorShape([2, 12, 24]))

    Reference:
        Torabi and Sigal, "Action Classification and Highlighting in Videos", sections 3.3, 3.4 and
        4.3; see `BahdanauLSTMCell`.
    """

    def __init__(
        self,
        units: int,
        *,
        matching_units: int | None = None,
        attend: str = "every_step",
        return_state: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if attend not in _ATTEND:
            raise ValueError(f"`attend` must be one of {_ATTEND}. Received: attend={attend!r}.")
        self.cell = BahdanauLSTMCell(
            units, matching_units=matching_units, dtype=self.dtype_policy, name="cell"
        )
        self.units = units
        self.matching_units = self.cell.matching_units
        self.attend = attend
        self.return_state = return_state
        self.supports_masking = True

    def build(self, input_data_shape: Any, attended_data_shape: Any = None) -> None:
        shapes = {"input_data": input_data_shape, "attended_data": attended_data_shape}
        for name, shape in shapes.items():
            if shape is not None and (len(shape) != 3 or shape[-1] is None):
                raise ValueError(
                    f"`AttentionLSTM` needs `{name}` of shape (batch, steps, channels) with a "
                    f"known number of channels. Received: shape={tuple(shape)}."
                )
        self.cell.build(input_data_shape, attended_data_shape)
        self.built = True

    def call(
        self,
        input_data: tf.Tensor,
        attended_data: tf.Tensor,
        initial_state: Sequence[tf.Tensor] | None = None,
        mask: tf.Tensor | None = None,
        attended_mask: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, ...]:
        gates = self.cell.input_projection(input_data)
        attended_data = tf.cast(attended_data, gates.dtype)
        if initial_state is None:
            initial_state = [tf.zeros([tf.shape(gates)[0], self.units], gates.dtype)] * 2
        hidden, cell = (tf.cast(state, gates.dtype) for state in initial_state)
        carry = (hidden, cell, tf.zeros_like(attended_data[..., 0]))
        mask = None if mask is None else tf.cast(mask, tf.bool)
        step = self._attended_step(attended_data, attended_mask, gates.shape[1])
        if self.attend == "every_step":
            hiddens, cells, attention = _run(step, carry, gates, mask)
            if mask is not None:
                attention = tf.where(mask[..., tf.newaxis], attention, 0)
        else:
            hiddens, cells, attention = self._run_plain_then(step, carry, gates, mask)
        if self.return_state:
            return hiddens, attention, hiddens[:, -1], cells[:, -1]
        return hiddens, attention

    def _attended_step(
        self, attended_data: tf.Tensor, attended_mask: tf.Tensor | None, num_steps: int | None
    ) -> Step:
        cell = self.cell
        keys = cell.memory_projection(attended_data)
        num_contexts = num_steps if self.attend == "every_step" else 1
        num_attended = attended_data.shape[1]
        # W (sum_i w_i a_i) = sum_i w_i (W a_i): one product of all a_i is the cheaper form for all
        # steps as long as there are no more a_i than steps, and its gradient is one product too.
        project_first = (
            num_contexts is not None and num_attended is not None and num_attended <= num_contexts
        )
        values = cell.context_projection(attended_data) if project_first else attended_data

        def step(gates: tf.Tensor, carry: Carry) -> Carry:
            attention = cell.attend(carry[0], keys, attended_mask)
            context = weighted_sum(attention, values)
            if not project_first:
                context = cell.context_projection(context)
            return (*cell.update(gates + context, carry[:2]), attention)

        return step

    def _run_plain_then(
        self, attended_step: Step, carry: Carry, gates: tf.Tensor, mask: tf.Tensor | None
    ) -> tuple[tf.Tensor, ...]:
        """A plain LSTM up to the last step of each clip, which attends."""
        if mask is None:
            mask = tf.ones(tf.shape(gates)[:2], tf.bool)
        num_later = tf.cumsum(tf.cast(mask, tf.int32), axis=1, exclusive=True, reverse=True)
        is_last = mask & (num_later == 0)
        # The states pass over the last step too, so that the final ones are those before it.
        hiddens, cells = _run(self.cell.update, carry[:2], gates, mask & ~is_last)
        last = tf.argmax(tf.cast(is_last, tf.int32), axis=1)
        before = (hiddens[:, -1], cells[:, -1], carry[2])
        after = attended_step(tf.gather(gates, last, batch_dims=1), before)
        # A clip that is masked as a whole has no last step.
        has_last = tf.reduce_any(is_last, axis=1)[:, tf.newaxis]
        hidden, cell, attention = (
            tf.where(has_last, new, old)[:, tf.newaxis]
            for new, old in zip(after, before, strict=True)
        )
        from_last_on = (num_later == 0)[..., tf.newaxis]
        return (
            tf.where(from_last_on, hidden, hiddens),
            tf.where(from_last_on, cell, cells),
            attention,
        )

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        if isinstance(mask, (list, tuple)):
            mask = mask[0]
        masks = (mask, mask if self.attend == "every_step" else None)
        return (*masks, None, None) if self.return_state else masks

    def compute_output_shape(
        self,
        input_data_shape: Any,
        attended_data_shape: Any = None,
        initial_state_shape: Any = None,
    ) -> tuple:
        batch, num_steps, _ = input_data_shape
        num_maps = num_steps if self.attend == "every_step" else 1
        state = (batch, self.units)
        outputs = (batch, num_steps, self.units), (batch, num_maps, attended_data_shape[1])
        return (*outputs, state, state) if self.return_state else outputs

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "matching_units": self.matching_units,
            "attend": self.attend,
            "return_state": self.return_state,
        }


def _run(step: Step, carry: Carry, gates: tf.Tensor, mask: tf.Tensor | None) -> Carry:
    """The carries after each of the N steps, stacked along axis 1."""

    def masked_step(carry: Carry, inputs: Sequence[tf.Tensor]) -> Carry:
        new = step(inputs[0], carry)
        if mask is None:
            return new
        return tuple(tf.where(inputs[1], *pair) for pair in zip(new, carry, strict=True))

    sequences = [gates] if mask is None else [gates, mask[..., tf.newaxis]]
    if gates.shape[1] is None:
        # (B, N, ...) -> (N, B, ...)
        steps = tuple(tf.transpose(sequence, [1, 0, 2]) for sequence in sequences)
        stacked = tf.scan(masked_step, steps, initializer=carry)
        return tuple(tf.transpose(part, [1, 0, 2]) for part in stacked)
    carries = []
    for inputs in zip(*(tf.unstack(sequence, axis=1) for sequence in sequences), strict=True):
        carry = masked_step(carry, inputs)
        carries.append(carry)
    return tuple(tf.stack(parts, axis=1) for parts in zip(*carries, strict=True))
