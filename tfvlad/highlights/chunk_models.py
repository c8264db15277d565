"""Keras models made into models of chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfvlad.highlights.chunks import ArrayInput, ChunkInput, ChunkModel
from tfvlad.models import frame_attributions, head_of, intermediate_outputs, parts_of


def clip_chunk_model(
    model: keras.Model,
    class_names: Sequence[str],
    *,
    chunk_frames: int,
    repeats: bool = False,
    multi_label: bool = False,
    short_side: int = 256,
    batch_size: int = 4,
) -> ChunkModel:
    """A model of RGB clips whose frame attributions are the weights.

    The backbone sees each frame once, however many chunks share it.

    Args:
        model: from clips `(B, T, H, W, 3)` to logits, see `tfvlad.models.frame_attributions`.
        class_names: of the C classes.
        chunk_frames: frames of a chunk, such as the median length of the training clips; the T
            steps are spread over them.
        repeats: see `ChunkModel`.
        multi_label: whether a clip may have several classes.
        short_side: shorter side, in pixels, of the frame that the model's crop is taken from.
        batch_size: chunks predicted at a time.

    Raises:
        ValueError: when the model does not take RGB clips of a known size, or has no backbone.
    """
    shape = model.input_shape
    if not isinstance(shape, tuple) or len(shape) != 5 or shape[-1] != 3 or None in shape[1:]:
        raise ValueError(
            "`model` must take RGB clips (batch, frames, height, width, 3) of a known size. "
            f"Received: a model of {shape}."
        )
    head = head_of(model)
    (backbone,) = parts_of(model).backbone_layers
    _, num_frames, height, width, _ = shape

    @tf.function(reduce_retracing=True, autograph=False)
    def maps(frames: tf.Tensor) -> tf.Tensor:
        # (b, H, W, 3) -> (b, 1, H, W, 3) -> (b, h, w, D)
        return backbone(frames[:, tf.newaxis], training=False)[:, 0]

    @tf.function(reduce_retracing=True, autograph=False)
    def predict(steps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return frame_attributions(head, steps, "all")

    frames = ChunkInput(
        lambda windows: maps(tf.constant(windows)).numpy(),
        num_frames,
        frame_step=1,
        window_frames=1,
        image_size=(height, width),
        short_side=short_side,
    )
    return ChunkModel(
        tuple(class_names),
        multi_label,
        chunk_frames,
        repeats,
        [frames],
        lambda steps: _arrays(predict(tf.constant(steps[0]))),
        batch_size,
    )


def attention_chunk_model(
    model: keras.Model,
    inputs: Sequence[ChunkInput | ArrayInput],
    class_names: Sequence[str],
    *,
    chunk_frames: int,
    repeats: bool = False,
    multi_label: bool = False,
    batch_size: int = 32,
) -> ChunkModel:
    """An attention LSTM, whose attention to the steps of its attended input is the weights.

    Args:
        model: `tfvlad.models.attention_lstm`, built or loaded.
        inputs: its input-data and its attended-data.
        class_names: of the C classes.
        chunk_frames: frames of a chunk.
        repeats: see `ChunkModel`.
        multi_label: whether a clip may have several classes.
        batch_size: chunks predicted at a time.

    Raises:
        ValueError: when the model has no attention over time.
    """
    return ChunkModel(
        tuple(class_names),
        multi_label,
        chunk_frames,
        repeats,
        inputs,
        attending(model),
        batch_size,
    )


def attending(
    model: keras.Model,
) -> Callable[[Sequence[np.ndarray]], tuple[np.ndarray, ...]]:
    """An attention LSTM as a `ChunkModel` predicts with it."""
    network = intermediate_outputs(model, ["attention", "logits"])

    @tf.function(reduce_retracing=True, autograph=False)
    def predict(steps: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        outputs = network(list(steps), training=False)
        # (b, N, T) -> (b, T, 1)
        return tf.reduce_mean(outputs["attention"], axis=1)[..., tf.newaxis], outputs["logits"]

    return lambda steps: _arrays(predict([tf.constant(one) for one in steps]))


def _arrays(tensors: Sequence[tf.Tensor]) -> tuple[np.ndarray, ...]:
    return tuple(tensor.numpy() for tensor in tensors)
