"""AttentionWindow: an attention LSTM that is run again over the last frames after each frame."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfvlad.layers import AttentionLSTM

Tensors = dict[str, tf.Tensor]


@keras.saving.register_keras_serializable(package="tfvlad")
class AttentionWindow(keras.layers.Layer):
    """Runs an `AttentionLSTM` over the last T frames of a stream.

    Every step attends to all frames of the window, so each new frame changes every step. What the
    LSTM reads of a frame does not depend on its state: the projections of each frame are computed
    once and kept, and only the loop over the states is run again.

    Args:
        lstm: the layer, built; input data and attended data have one step for each frame.
        carry_state: start each run from the state after the frame that left the window last,
            instead of zeros.

    Call arguments:
        inputs: a dict of the data of the new frame, `input_data` `(B, 1, Dv)` and `attended_data`
            `(B, 1, Da)`, and of the frames before it, oldest first: `filled` `(B, T)`, 1 for a
            frame and 0 for none, `input_gates` `(B, T, 4U)`, `attended_keys` `(B, T, M)` and
            `attended_gates` `(B, T, 4U)`; with `carry_state` also `hidden` and `cell` `(B, U)`.

    Output shape:
        A dict of what is kept for the next frame, under the same names; `steps`, the LSTM's states
        `(B, T, U)`, or `(B, 1, U)` where it attends at its last step alone; and `frame_weights`
        `(B, T)`, the mean attention of the steps.

    Reference:
        `tfvlad.layers.AttentionLSTM`.
    """

    def __init__(self, lstm: AttentionLSTM, *, carry_state: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.lstm = lstm
        self.carry_state = carry_state

    def call(self, inputs: Tensors) -> Tensors:
        cell = self.lstm.cell
        new = {
            "filled": tf.ones_like(inputs["filled"][:, :1]),
            "input_gates": cell.input_projection(inputs["input_data"]),
            "attended_keys": cell.memory_projection(inputs["attended_data"]),
            "attended_gates": cell.context_projection(inputs["attended_data"]),
        }
        window = {name: tf.concat([inputs[name][:, 1:], row], axis=1) for name, row in new.items()}
        filled = window["filled"] > 0
        if self.carry_state:
            carry = (inputs["hidden"], inputs["cell"])
        else:
            zeros = tf.zeros_like(window["input_gates"][:, 0, : self.lstm.units])
            carry = (zeros, zeros)
        carries, attention = self._run(carry, window, filled)
        hidden = tf.stack([hidden for hidden, _ in carries], axis=1)
        every_step = self.lstm.attend == "every_step"
        num_steps = tf.reduce_sum(window["filled"], axis=1, keepdims=True) if every_step else 1.0
        outputs = {
            **window,
            "steps": hidden if every_step else hidden[:, -1:],
            "frame_weights": tf.add_n(attention) / num_steps,
        }
        if self.carry_state:
            # The oldest frame leaves when the next one comes.
            outputs["hidden"], outputs["cell"] = carries[0]
        return outputs

    def _run(
        self, carry: tuple[tf.Tensor, tf.Tensor], window: Tensors, filled: tf.Tensor
    ) -> tuple[list[tuple[tf.Tensor, tf.Tensor]], list[tf.Tensor]]:
        """The LSTM's h and c after each step, and the attention of the steps that attend."""
        cell = self.lstm.cell
        keys, values = window["attended_keys"], window["attended_gates"]
        carries, maps = [], []
        all_gates = tf.unstack(window["input_gates"], axis=1)
        for number, gates in enumerate(all_gates, 1):
            is_step = filled[:, number - 1, tf.newaxis]
            if self.lstm.attend == "every_step" or number == len(all_gates):
                attention = cell.attend(carry[0], keys, filled)
                gates += tf.linalg.matvec(values, attention, transpose_a=True)
                maps.append(tf.where(is_step, attention, 0.0))
            new = cell.update(gates, carry)
            carry = tuple(tf.where(is_step, *pair) for pair in zip(new, carry, strict=True))
            carries.append(carry)
        return carries, maps

    def compute_output_shape(self, input_shape: dict[str, tuple]) -> dict[str, tuple]:
        batch, num_frames = input_shape["filled"]
        shapes = {
            name: shape
            for name, shape in input_shape.items()
            if name not in ("input_data", "attended_data")
        }
        num_steps = num_frames if self.lstm.attend == "every_step" else 1
        shapes["steps"] = (batch, num_steps, self.lstm.units)
        shapes["frame_weights"] = (batch, num_frames)
        return shapes

    def get_config(self) -> dict[str, Any]:
        lstm = keras.saving.serialize_keras_object(self.lstm)
        return {**super().get_config(), "lstm": lstm, "carry_state": self.carry_state}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> AttentionWindow:
        return cls(**{**config, "lstm": keras.saving.deserialize_keras_object(config["lstm"])})
