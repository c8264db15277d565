"""ChannelSlice: some of the channels of a tensor."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="tfvlad")
class ChannelSlice(keras.layers.Layer):
    """`x[..., start:stop]`.

    It takes the two halves of the maps of a backbone with a frozen copy apart.

    Args:
        start: the first channel.
        stop: the channel behind the last one.

    Call arguments:
        inputs: any tensor.

    Input shape:
        `(..., D)`.

    Output shape:
        `(..., stop - start)`.

    Example:
        >>> ChannelSlice(512, 1024)(tf.random.normal((2, 25, 7, 7, 1024))).shape
        TensorShape([2, 25, 7, 7, 512])
    """

    def __init__(self, start: int, stop: int, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0 <= start < stop:
            raise ValueError(
                "`start` and `stop` must be channels with start < stop. "
                f"Received: start={start}, stop={stop}."
            )
        self.start = start
        self.stop = stop
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        channels = input_shape[-1]
        if channels is None or channels < self.stop:
            raise ValueError(
                f"`ChannelSlice` needs inputs of at least {self.stop} channels. "
                f"Received: shape={tuple(input_shape)}."
            )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs[..., self.start : self.stop]

    def compute_output_shape(self, input_shape: Any) -> tuple:
        return (*input_shape[:-1], self.stop - self.start)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "start": self.start, "stop": self.stop}
