"""The baselines: average and maximum of the features over space and time."""

from __future__ import annotations

import keras

from tfvlad.backbones import Backbone
from tfvlad.models.assembly import clip_model


def average_pooling(
    backbone: Backbone,
    num_classes: int,
    *,
    num_frames: int | None = 25,
    dropout: float = 0.5,
    name: str = "average_pooling",
) -> keras.Model:
    """Average of the features over space and time, then one dense layer.

    Args:
        backbone: frame feature extractor.
        num_classes: number of action classes C.
        num_frames: frames of a clip, None for any number.
        dropout: rate in front of the dense layer.
        name: the model's name.

    Returns:
        A functional model from RGB frames `(B, T, H, W, 3)`, values 0..255, to logits `(B, C)`.

    Reference:
        The baseline "Average" of the ActionVLAD poster's table of pooling strategies.
    """
    pool = keras.layers.GlobalAveragePooling3D(name="descriptor")
    return clip_model(
        backbone, num_classes, num_frames, dropout, lambda maps: pool(maps.features), name
    )


def max_pooling(
    backbone: Backbone,
    num_classes: int,
    *,
    num_frames: int | None = 25,
    dropout: float = 0.5,
    name: str = "max_pooling",
) -> keras.Model:
    """Maximum of the features over space and time, then one dense layer.

    The arguments and the result are those of `average_pooling`.

    Reference:
        The baseline "Max" of the ActionVLAD poster's table of pooling strategies.
    """
    pool = keras.layers.GlobalMaxPooling3D(name="descriptor")
    return clip_model(
        backbone, num_classes, num_frames, dropout, lambda maps: pool(maps.features), name
    )
