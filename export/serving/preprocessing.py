"""From the clips that a client sends, of any size, to those that a model takes, as a graph."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import tensorflow as tf

from tfvlad.models import ClipModel


def crop_frames(frames: tf.Tensor, image_size: tuple[int, int], short_side: int) -> tf.Tensor:
    """The centre crops that the training pipeline takes for tests.

    As `pipelines` composes it: the box of whole pixels of the crop in a frame of the short side,
    resized at once; bilinear, or averaging where it shrinks to half or less.

    Args:
        frames: uint8 `(n, H, W, channels)` of any size, also none.
        image_size: (height, width) of the crops in pixels; frames of this size are not changed.
        short_side: the shorter side of the frame that the crop is taken from, not smaller than
            `image_size`.

    Returns:
        float32 `(n, height, width, channels)` of whole numbers 0..255.
    """
    sizes = tf.unstack(tf.shape(frames)[1:3])

    def resized() -> tf.Tensor:
        scale = short_side / tf.cast(tf.minimum(*sizes), tf.float64)
        boxes = [_box(*pair, short_side, scale) for pair in zip(sizes, image_size, strict=True)]
        (top, bottom), (left, right) = boxes
        crops = frames[:, top:bottom, left:right]
        shrinks = (bottom - top >= 2 * image_size[0]) & (right - left >= 2 * image_size[1])
        return tf.round(
            tf.cond(
                shrinks,
                lambda: tf.image.resize(crops, image_size, method="area"),
                lambda: tf.image.resize(crops, image_size),
            )
        )

    is_own_size = (sizes[0] == image_size[0]) & (sizes[1] == image_size[1])
    crops = tf.cond(is_own_size, lambda: tf.cast(frames, tf.float32), resized)
    return tf.ensure_shape(crops, (None, *image_size, frames.shape[-1]))


def _box(
    size: tf.Tensor, crop: int, short_side: int, scale: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """First and last pixel, exclusive, of a centred crop along one side of a frame."""
    # double precision, as Python's own numbers, so that ties are rounded alike
    pixels = tf.cast(size, tf.float64)
    resized = tf.maximum(tf.round(pixels * scale), short_side)
    start = tf.floor((resized - crop) / 2)
    first = tf.minimum(tf.round(start * pixels / resized), pixels - 1)
    last = tf.round((start + crop) * pixels / resized)
    last = tf.minimum(tf.maximum(last, first + 1), pixels)
    return tf.cast(first, tf.int32), tf.cast(last, tf.int32)


def own_clips(clip_model: ClipModel, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Clips `(B, T, H, W, channels)` of any size as those of the model's own size."""
    clips: dict[str, tf.Tensor] = {}
    for stream, (num_frames, height, width, channels) in clip_model.inputs.items():
        # A server does not compare what it is sent with the signature.
        given = tf.ensure_shape(inputs[stream], (None, num_frames, None, None, channels))
        shape = tf.shape(given)
        frames = tf.reshape(given, [shape[0] * num_frames, shape[2], shape[3], channels])
        crops = crop_frames(frames, (height, width), clip_model.short_side)
        clips[stream] = tf.reshape(crops, [shape[0], num_frames, height, width, channels])
    return clips


def decoded_clips(clip_model: ClipModel, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Clips of the model's own size from JPEG or PNG files, each of any size.

    Args:
        clip_model: what takes the clips.
        inputs: files of coloured `frames` `(B, T)`, and of `flow` `(B, T, 2L)`, a grey image for
            each channel.
    """
    clips: dict[str, tf.Tensor] = {}
    for stream, (num_frames, height, width, channels) in clip_model.inputs.items():
        is_flow = stream == "flow"
        shape = (num_frames, channels) if is_flow else (num_frames,)
        files = tf.ensure_shape(inputs[stream], (None, *shape))
        decode = partial(
            _decode,
            num_channels=1 if is_flow else 3,
            image_size=(height, width),
            short_side=clip_model.short_side,
        )
        image_spec = tf.TensorSpec((height, width, 1 if is_flow else 3), tf.float32)
        images = tf.map_fn(decode, tf.reshape(files, [-1]), fn_output_signature=image_spec)
        images = tf.reshape(images, [tf.shape(files)[0], *shape, *image_spec.shape])
        # (B, T, 2L, H, W, 1) -> (B, T, H, W, 2L)
        clips[stream] = tf.transpose(images[..., 0], [0, 1, 3, 4, 2]) if is_flow else images
    return clips


def _decode(
    file: tf.Tensor, num_channels: int, image_size: tuple[int, int], short_side: int
) -> tf.Tensor:
    image = tf.io.decode_image(file, channels=num_channels, expand_animations=False)
    image = tf.ensure_shape(image, (None, None, num_channels))
    return crop_frames(image[tf.newaxis], image_size, short_side)[0]
