"""A trained model together with what its callers have to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from tfvlad.models.portable import portable

_STREAMS = ("frames", "flow")


@dataclass(frozen=True, eq=False)
class ClipModel:
    """What is exported: a model of clips, its classes and its preprocessing.

    Args:
        model: from clips `(B, T, H, W, channels)`, values 0..255, to scores `(B, C)`, made or
            loaded by `tfvlad`; T and the frames' size are known.
        class_names: names of the C classes.
        streams: which stream each of the model's inputs takes: "frames", RGB, or "flow", stacks of
            optical flow. The models of an ensemble may share one.
        multi_label: the classes of a clip do not exclude each other: sigmoid instead of softmax.
        short_side: the shorter side, in pixels, that frames of another size are resized to before
            the centre crop; that of the training pipeline.
        description: how the model was made and measured, for the model card: JSON values.

    Raises:
        ValueError: when the parts do not fit each other.
    """

    model: keras.Model
    class_names: tuple[str, ...]
    streams: tuple[str, ...] = ("frames",)
    multi_label: bool = False
    short_side: int = 256
    description: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", portable(self.model))
        object.__setattr__(self, "class_names", tuple(self.class_names))
        num_scores = self.model.output_shape[-1]
        if len(self.class_names) != num_scores or len(set(self.class_names)) != num_scores:
            raise ValueError(
                f"`class_names` must be {num_scores} different names, one for each of the model's "
                f"scores. Received: {len(self.class_names)} names, {list(self.class_names)[:5]}."
            )
        broken = [name for name in self.class_names if name.splitlines() != [name]]
        if broken:
            raise ValueError(
                f"`class_names` must be single lines of text. Received: {broken[0]!r}."
            )
        if len(self.streams) != len(self.model.inputs) or set(self.streams) - set(_STREAMS):
            raise ValueError(
                f"`streams` must be one of {_STREAMS} for each of the model's "
                f"{len(self.model.inputs)} inputs. Received: streams={self.streams}."
            )
        shapes: dict[str, tuple] = {}
        for stream, x in zip(self.streams, self.model.inputs, strict=True):
            shape = tuple(x.shape[1:])
            if len(shape) != 4 or None in shape:
                raise ValueError(
                    f"`model` must take clips (batch, frames, height, width, channels) of a known "
                    f"size. Received: {(None, *shape)} for '{stream}'. "
                    "`tfvlad.models.with_num_frames` sets the number of frames; features need "
                    "`tfvlad.models.end_to_end`."
                )
            if shapes.setdefault(stream, shape) != shape:
                raise ValueError(
                    f"Models that share a stream must take clips of one shape. Received: {shape} "
                    f"and {shapes[stream]} for '{stream}'."
                )
        side = max(max(shape[1:3]) for shape in shapes.values())
        if self.short_side < side:
            raise ValueError(
                f"`short_side` must be at least the model's image size of {side} pixels. "
                f"Received: short_side={self.short_side}."
            )

    @property
    def inputs(self) -> dict[str, tuple[int, int, int, int]]:
        """From each stream to the shape `(T, H, W, channels)` of its clips."""
        shapes = (tuple(x.shape[1:]) for x in self.model.inputs)
        return dict(zip(self.streams, shapes, strict=True))

    @property
    def num_classes(self) -> int:
        """C, the number of classes."""
        return len(self.class_names)

    def model_inputs(self, clips: Mapping[str, tf.Tensor]) -> Any:
        """Clips by stream as `model` takes them, float32."""
        inputs = [tf.cast(clips[stream], tf.float32) for stream in self.streams]
        return inputs if len(inputs) > 1 else inputs[0]

    def probabilities(self, clips: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Class probabilities `(B, C)` of clips of the model's own size, by stream."""
        return self.normalized(self.model(self.model_inputs(clips), training=False))

    def normalized(self, scores: tf.Tensor) -> tf.Tensor:
        """The softmax, or sigmoid, of scores."""
        scores = tf.cast(scores, tf.float32)
        return tf.sigmoid(scores) if self.multi_label else tf.nn.softmax(scores)
