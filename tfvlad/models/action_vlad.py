"""ActionVLAD: one VLAD descriptor over all locations of all frames of a clip."""

from __future__ import annotations

from typing import Any

import keras

from tfvlad.backbones import Backbone
from tfvlad.layers import ActionVLAD, DescriptorNormalization, NetVLAD, SegmentPooling
from tfvlad.models.assembly import StreamMaps, check_segments, clip_model
from tfvlad.models.attention import top_down_attention


def action_vlad(
    backbone: Backbone,
    num_classes: int,
    *,
    num_frames: int | None = 25,
    num_clusters: int = 64,
    num_segments: int = 1,
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
        num_segments: the clip is cut into as many consecutive segments of equal length, whose
            descriptors are joined in their order. With 1 the order of the frames has no influence.
        alpha: sharpness of the assignments, see `tfvlad.layers.NetVLAD`.
        attention: weight the locations by top-down attention ("TA-ActionVLAD"); the backbone needs
            a classifier.
        attention_temperature: see `ta_vlad`.
        dropout: rate in front of the dense layer.
        name: the model's name.

    Returns:
        A functional model from RGB frames `(B, T, H, W, 3)`, values 0..255, to logits `(B, C)`.

    Raises:
        ValueError: when attention is asked of a backbone that has no classifier, or there are fewer
            frames than segments.

    Reference:
        Girdhar et al., "ActionVLAD: Learning spatio-temporal aggregation for action
        classification"; the attention: Sudhakaran and Lanz, section 4.2.
    """
    check_segments(num_segments, num_frames)
    arguments: dict[str, Any] = {"alpha": alpha, "return_assignments": True, "name": "vlad"}

    def aggregate(maps: StreamMaps) -> Any:
        weights = (
            top_down_attention(backbone, maps.attended, attention_temperature)
            if attention
            else None
        )
        if num_segments == 1:
            descriptor, _ = ActionVLAD(num_clusters, **arguments)(maps.pre_activation, weights)
            return descriptor
        of_frames = NetVLAD(
            num_clusters, intra_normalize=False, normalize_descriptor=False, **arguments
        )
        vectors, _ = of_frames(maps.pre_activation, weights)
        segments = SegmentPooling(num_segments, name="segments")(vectors)
        # Each segment's clusters are clusters of the clip.
        shape = (num_segments * num_clusters, backbone.num_channels)
        return DescriptorNormalization(name="descriptor")(keras.layers.Reshape(shape)(segments))

    return clip_model(backbone, num_classes, num_frames, dropout, aggregate, name)
