"""ActionVLAD: one VLAD descriptor over all locations of all frames of a clip."""

from __future__ import annotations

from typing import Any

import keras

from tfvlad.backbones import Backbone
from tfvlad.layers import ActionVLAD
from tfvlad.models.assembly import StreamMaps, clip_model
from tfvlad.models.attention import top_down_attention


def action_vlad(
    backbone: Backbone,
    num_classes: int,
    *,
    num_frames: int | None = 25,
    num_clusters: int = 64,
    alpha: float | str = 1000.0,
    attention: bool = False,
    attention_temperature: float = 4.0,
    dropout: float = 0.5,
    name: str = "action_vlad",
) -> keras.Model:
    """ActionVLAD over the features before the backbone's last activation, then one dense layer.

    Give the clusters k-means centres with `tfvlad.training.initialize_clusters` before training;
    `tfvlad.training.fit_in_stages` does it.

    Args:
        backbone: frame feature extractor.
        num_classes: number of action classes C.
        num_frames: frames of a clip, None for any number.
        num_clusters: number of action words K.
        alpha: sharpness of the assignments, see `tfvlad.layers.NetVLAD`.
        attention: weight the locations by top-down attention ("TA-ActionVLAD"); the backbone needs
            a classifier.
        attention_temperature: see `ta_vlad`.
        dropout: rate in front of the dense layer.
        name: the model's name.

    Returns:
        A functional model from RGB frames `(B, T, H, W, 3)`, values 0..255, to logits `(B, C)`.

    Raises:
        ValueError: when attention is asked of a backbone that has no classifier.

    Reference:
        Girdhar et al., "ActionVLAD: Learning spatio-temporal aggregation for action
        classification"; the attention: Sudhakaran and Lanz, section 4.2.
    """
    vlad = ActionVLAD(num_clusters, alpha=alpha, return_assignments=True, name="vlad")

    def aggregate(maps: StreamMaps) -> Any:
        weights = (
            top_down_attention(backbone, maps.attended, attention_temperature)
            if attention
            else None
        )
        descriptor, _ = vlad(maps.pre_activation, weights)
        return descriptor

    return clip_model(backbone, num_classes, num_frames, dropout, aggregate, name)
