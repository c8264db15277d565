"""Preprocessing of raw frames inside the model."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable(package="tfvlad")
class ImageNormalization(keras.layers.Layer):
    """Brings raw frames to the value range a published network was trained on: `(x - mean) / std`.

    The arithmetic is float32 under every dtype policy, the output has the policy's compute dtype.

    Args:
        mean: what is subtracted, on the scale 0..255: one number or one a channel, in the order of
            `channel_order`.
        std: what the difference is divided by, likewise.
        channel_order: the order of the output's channels, "rgb" or "bgr". The input is RGB.

    Call arguments:
        images: raw RGB frames, values 0..255, float or integer.

    Input shape:
        `(..., 3)`; with "rgb" and single numbers, any channels.

    Output shape:
        The input's.

    Example:
        >>> mobilenet_v2_input = ImageNormalization(mean=127.5, std=127.5)(frames)  # -1..1

    Raises:
        ValueError: when `channel_order` is unknown, or `std` is not positive.
    """

    def __init__(
        self,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        *,
        channel_order: str = "rgb",
        **kwargs: Any,
    ):
        # Raw frames must reach `call` as they are: half precision would round them.
        super().__init__(autocast=False, **kwargs)
        if channel_order not in ("rgb", "bgr"):
            raise ValueError(
                "`channel_order` must be 'rgb' or 'bgr'. "
                f"Received: channel_order={channel_order!r}."
            )
        if np.min(std) <= 0:
            raise ValueError(f"`std` must be positive. Received: std={std}.")
        self.mean = mean
        self.std = std
        self.channel_order = channel_order

    def call(self, images: tf.Tensor) -> tf.Tensor:
        images = tf.cast(images, tf.float32)
        if self.channel_order == "bgr":
            images = tf.reverse(images, axis=[-1])
        return tf.cast((images - self.mean) / self.std, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "mean": self.mean,
            "std": self.std,
            "channel_order": self.channel_order,
        }
