"""The baselines: average and maximum of the features over space and time."""

from __future__ import annotations

from typing import Any

import keras

from tfvlad.backbones import Backbone
from tfvlad.layers import SegmentPooling
from tfvlad.models.assembly import StreamMaps, check_segments, clip_model


def average_pooling(
    backbone: Backbone,
    num_classes: int,
    *,
    num_frames: int | None = 25,
    num_segments: int = 1,
    dropout: float = 0.5,
    name: str = "average_pooling",
) -> keras.Model:
    """Average of the features over space and time, then one dense layer.

    Args:
        backbone: frame feature extractor.
        num_classes: number of action classes C.
        num_frames: frames of a clip, None for any number.
        num_segments: consecutive segments of equal length, whose averages are joined in their
            order.
        dropout: rate in front of the dense layer.
        name: the model's name.

    Returns:
        A functional model from RGB frames `(B, T, H, W, 3)`, values 0..255, to logits `(B, C)`.

    Raises:
        ValueError: when there are fewer frames than segments.

    Reference:
        The baseline "Average" of the ActionVLAD poster's table of pooling strategies.
    """
    check_segments(num_segments, num_frames)

    def aggregate(maps: StreamMaps) -> Any:
        if num_segments == 1:
            return keras.layers.GlobalAveragePooling3D(name="descriptor")(maps.features)
        x = SegmentPooling(num_segments, reduction="mean", name="segments")(maps.features)
        *_, height, width, channels = x.shape
        # (B, S, h, w, D) -> (B, S, h*w, D) -> (B, h*w, S, D) -> (B, h*w, S*D)
        x = keras.layers.Reshape((num_segments, height * width, channels))(x)
        x = keras.layers.Permute((2, 1, 3))(x)
        x = keras.layers.Reshape((height * width, num_segments * channels))(x)
        return keras.layers.GlobalAveragePooling1D(name="descriptor")(x)

    return clip_model(backbone, num_classes, num_frames, dropout, aggregate, name)


def max_pooling(
    backbone: Backbone,
    num_classes: int,
    *,
    num_frames: int | None = 25,
    dropout: float = 0.5,
    name: str = "max_pooling",
) -> keras.Model:
    """Maximum of the features over space and time, then one dense layer.

    The arguments and the result are those of `average_pooling`, without segments.

    Reference:
        The baseline "Max" of the ActionVLAD poster's table of pooling strategies.
    """
    pool = keras.layers.GlobalMaxPooling3D(name="descriptor")
    return clip_model(
        backbone, num_classes, num_frames, dropout, lambda maps: pool(maps.features), name
    )
