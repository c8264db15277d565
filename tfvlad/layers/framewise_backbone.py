"""A model of single frames, applied to every frame of a clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="tfvlad")
class FramewiseBackbone(keras.layers.Layer):
    """Applies a model to every frame of a clip by folding the frames into the batch.

    Equal to `keras.layers.TimeDistributed(model)`, but the wrapped model is called once on
    `(B*T, ...)`, where Keras 3 calls it T times. What is trainable inside the wrapped model stays
    so when the layer is saved and loaded.

    The layer also keeps, for `tfvlad.models.parts_of`, what else is known of a backbone, so that a
    model that was read from a file can be trained further. It computes nothing with it.

    Args:
        model: a built `keras.Model` with one input and one output, such as `Backbone.model` or a
            part of it from `Backbone.split_at`.
        activation: the name of the activation that follows on `model`, see `Backbone`.
        blocks: from the name of each block of `model` to the names of its layers, see `Backbone`.

    Call arguments:
        clips: one input of `model` for each of T frames. Integer frames are cast.
        training: passed to `model`.

    Input shape:
        `(B, T, ...)`, the dots being the input shape of `model`. B and T may be unknown, and must
        be at least 1 where `model` has convolutions: what TensorFlow's convolutions make of an
        empty batch differs between processors.

    Output shape:
        `(B, T, ...)`, the dots being the output shape of `model`.

    Example:
        >>> features = FramewiseBackbone(mobilenet_v2().model)(clips)  # (B, T, 7, 7, 1280)

    Raises:
        ValueError: when the frames do not have the shape that `model` takes.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        activation: str = "linear",
        blocks: Mapping[str, Sequence[str]] | None = None,
        **kwargs: Any,
    ):
        # The wrapped model casts by itself: half precision would round raw frames.
        super().__init__(autocast=False, **kwargs)
        self.model = model
        self.activation = activation
        self.blocks = {name: tuple(layers) for name, layers in (blocks or {}).items()}

    def build(self, input_shape: tuple) -> None:
        frame_shape = tuple(self.model.input_shape[1:])
        if not tf.TensorShape(input_shape).is_compatible_with((None, None, *frame_shape)):
            sizes = ", ".join(map(str, frame_shape))
            raise ValueError(
                f"`clips` must have the shape (batch, frames, {sizes}), as '{self.model.name}' "
                f"takes ({sizes}). Received: shape {tuple(input_shape)}."
            )
        super().build(input_shape)

    def call(self, clips: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        frames = tf.reshape(clips, (-1, *_sizes(clips, start=2)))
        frames = tf.cast(frames, self.model.inputs[0].dtype)
        features = self.model(frames, training=training)
        # (B*T, ...) -> (B, T, ...)
        return tf.reshape(features, (*_sizes(clips, stop=2), *_sizes(features, start=1)))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        frame_shape = (None, *input_shape[2:])
        return (*input_shape[:2], *self.model.compute_output_shape(frame_shape)[1:])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "model": keras.saving.serialize_keras_object(self.model),
            "activation": self.activation,
            "blocks": {name: list(layers) for name, layers in self.blocks.items()},
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FramewiseBackbone:
        model = keras.saving.deserialize_keras_object(config["model"])
        return cls(**{**config, "model": model})


def _sizes(tensor: tf.Tensor, start: int = 0, stop: int | None = None) -> list:
    """The tensor's sizes from axis `start` to `stop`: integers where they are known."""
    static, dynamic = tensor.shape.as_list(), tf.shape(tensor)
    sizes = [dynamic[axis] if size is None else size for axis, size in enumerate(static)]
    return sizes[start:stop]
