"""ActionVLAD on two streams, RGB frames and optical flow, and three ways to fuse them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tfvlad.backbones import Backbone
from tfvlad.layers import ActionVLAD
from tfvlad.models.assembly import check_count, check_dropout, classified, stream
from tfvlad.models.ensemble import fused

_FUSIONS = ("concat", "early", "late")


def two_stream(
    rgb_backbone: Backbone,
    flow_backbone: Backbone,
    num_classes: int,
    *,
    fusion: str = "concat",
    num_frames: int | None = 25,
    num_clusters: int = 64,
    alpha: float | str = 1000.0,
    dropout: float = 0.5,
    weights: Sequence[float] | None = None,
    on: str = "logits",
    name: str = "two_stream",
) -> keras.Model:
    """ActionVLAD on RGB frames and on optical flow, trained together.

    * "concat": the descriptors of both streams, joined in front of one dense layer;
    * "early": the feature maps of both streams, joined along the channels in front of one
      ActionVLAD;
    * "late": a dense layer for each stream, and the weighted mean of their scores. Streams that are
      trained apart are joined by `late_fusion`.

    Args:
        rgb_backbone: of the frames.
        flow_backbone: of the flow, see `tfvlad.backbones.flow_backbone`.
        num_classes: number of action classes C.
        fusion: "concat", "early" or "late".
        num_frames: frames of a clip, and stacks of flow, None for any number.
        num_clusters: number of action words K of each VLAD layer.
        alpha: sharpness of the assignments, see `tfvlad.layers.NetVLAD`.
        dropout: rate in front of the dense layers.
        weights: of RGB and flow in the late fusion, see `late_fusion`.
        on: what the late fusion averages, "logits", or "probabilities" of classes that exclude each
            other.
        name: the model's name.

    Returns:
        A functional model from `[frames (B, T, H, W, 3), flow (B, T, H, W, 2L)]`, values 0..255, to
        logits `(B, C)`.

    Raises:
        ValueError: when an argument is out of range, or the maps of an early fusion differ in size.

    Reference:
        Girdhar et al., "ActionVLAD: Learning spatio-temporal aggregation for action
        classification", the study of how to fuse. On the poster, late is best (66.9 on split 1 of
        HMDB51; early 64.8, concat 56.0).
    """
    if fusion not in _FUSIONS:
        raise ValueError(f"`fusion` must be one of {_FUSIONS}. Received: fusion={fusion!r}.")
    if weights is not None and fusion != "late":
        raise ValueError(
            f'`weights` are of fusion="late". Received: weights={weights}, fusion={fusion!r}.'
        )
    check_count("num_classes", num_classes)
    check_count("num_frames", num_frames, or_none=True)
    check_dropout(dropout)
    frames, rgb = stream(rgb_backbone, num_frames, prefix="rgb_")
    flow_stacks, flow = stream(flow_backbone, num_frames, input_name="flow", prefix="flow_")
    pairs = (("rgb_", rgb.pre_activation), ("flow_", flow.pre_activation))

    def encoded(maps: Any, prefix: str = "") -> Any:
        layer = ActionVLAD(num_clusters, alpha=alpha, return_assignments=True, name=f"{prefix}vlad")
        return layer(maps)[0]

    if fusion == "late":
        scores = [
            classified(encoded(maps, prefix), num_classes, dropout, prefix=prefix)
            for prefix, maps in pairs
        ]
        logits = fused(scores, weights, on, multi_label=False)
    elif fusion == "early":
        _check_map_sizes(rgb_backbone, flow_backbone)
        joined = keras.layers.Concatenate(name="maps")([maps for _, maps in pairs])
        logits = classified(encoded(joined), num_classes, dropout)
    else:
        vectors = [encoded(maps, prefix) for prefix, maps in pairs]
        descriptor = keras.layers.Concatenate(name="descriptor")(vectors)
        logits = classified(descriptor, num_classes, dropout)
    return keras.Model([frames, flow_stacks], logits, name=name)


def _check_map_sizes(rgb_backbone: Backbone, flow_backbone: Backbone) -> None:
    backbones = (rgb_backbone, flow_backbone)
    rgb_size, flow_size = (tuple(backbone.model.output_shape[1:3]) for backbone in backbones)
    if rgb_size != flow_size:
        raise ValueError(
            'fusion="early" joins maps of the same height and width. '
            f"Received: {rgb_size} of '{rgb_backbone.name}' and {flow_size} of "
            f"'{flow_backbone.name}'. Give both backbones the same network and image size."
        )
