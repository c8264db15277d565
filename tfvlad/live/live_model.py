"""A model that sees one frame after the other, and keeps what it has seen."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfvlad.live.streaming import initial_state, streaming_model
from tfvlad.models import ClipModel

_MEMORY_SECONDS = 2.0


class Sight(NamedTuple):
    """The probabilities of the classes up to now, `(C,)`, and where the model looked, `(h, w)`."""

    probabilities: np.ndarray
    attention: np.ndarray | None


class LiveModel:
    """A model of clips that sees one frame after the other, and keeps what it has seen.

    Args:
        model: of clips of RGB frames, see `tfvlad.live.streaming_model` for which can stream.
        memory_seconds: half-life of a frame in a model that sums over time (ActionVLAD, average and
            maximum pooling); 2 by default. Recurrent models forget by themselves.

    Raises:
        ValueError: when the model cannot stream or sees optical flow, or `memory_seconds` is not
            positive or does not suit the model.

    Example:
        >>> live = LiveModel(clip_model)
        >>> for seconds, frame in frames:
        ...     print(live.see(frame, seconds).probabilities)
    """

    def __init__(self, model: ClipModel, memory_seconds: float | None = None):
        name = model.model.name
        if model.streams != ("frames",):
            raise ValueError(
                f"'{name}' does not see RGB frames alone, and optical flow is not computed live. "
                "Watch with a model of RGB frames."
            )
        self.clip_model = model
        self.stream = streaming_model(model.model)
        self._state = {
            name: tf.constant(value) for name, value in initial_state(self.stream).items()
        }
        self._half_life = self._checked(memory_seconds)
        self._last_seconds = 0.0
        # Traced before the first frame comes.
        self._step(tf.zeros((1, *self.frame_size, 3)), self._state, tf.constant(1.0))

    @property
    def frame_size(self) -> tuple[int, int]:
        """(height, width) of the frames in pixels."""
        _, height, width, _ = self.clip_model.inputs["frames"]
        return height, width

    def see(self, frame: np.ndarray, seconds: float) -> Sight:
        """Show the next frame.

        Args:
            frame: RGB, values 0..255, `(H, W, 3)`.
            seconds: its time. A slow machine sees fewer frames, and forgets no more slowly.
        """
        fade = 0.5 ** ((seconds - self._last_seconds) / self._half_life)
        self._last_seconds = seconds
        batch = tf.constant(frame[np.newaxis], tf.float32)
        outputs = self._step(batch, self._state, tf.constant(fade, tf.float32))
        self._state = {name: outputs[name] for name in self._state}
        attention = outputs["attention"][0].numpy() if "attention" in outputs else None
        return Sight(outputs["probabilities"][0].numpy(), attention)

    @tf.function(autograph=False)
    def _step(
        self, frame: tf.Tensor, state: dict[str, tf.Tensor], fade: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        faded = {name: fade * value for name, value in state.items()}
        outputs = self.stream({"frame": frame, **faded}, training=False)
        return {**outputs, "probabilities": self.clip_model.normalized(outputs.pop("scores"))}

    def _checked(self, memory_seconds: float | None) -> float:
        """The half-life of the states: infinite where they are no sums over time."""
        sums = any(name.endswith("_sum") or name == "feature_maximum" for name in self._state)
        if memory_seconds is None:
            return _MEMORY_SECONDS if sums else math.inf
        if not sums:
            raise ValueError(
                "`memory_seconds` is of models that sum over time (max-pooling; action-vlad and "
                f"average-pooling without segments); '{self.clip_model.model.name}' forgets by "
                "itself. "
                f"Received: memory_seconds={memory_seconds:g}."
            )
        if not memory_seconds > 0:
            raise ValueError(
                f"`memory_seconds` must be positive. Received: memory_seconds={memory_seconds:g}."
            )
        return memory_seconds
