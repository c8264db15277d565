"""TA-VLAD: top-down attention, VLAD of each frame, one GRU shared by all clusters."""

from __future__ import annotations

from typing import Any

import keras

from tfvlad.backbones import Backbone
from tfvlad.layers import DescriptorNormalization, NetVLAD, SharedGRU
from tfvlad.models.assembly import clip_model
from tfvlad.models.attention import top_down_attention


def ta_vlad(
    backbone: Backbone,
    num_classes: int,
    *,
    num_frames: int | None = 25,
    num_clusters: int = 64,
    units: int = 256,
    alpha: float | str = 1000.0,
    attention: bool = True,
    bidirectional: bool = False,
    intra_normalize: bool = True,
    dropout: float = 0.5,
    name: str = "ta_vlad",
) -> keras.Model:
    """TA-VLAD: what each action word looks like, where it matters, followed over time.

    Class activation maps weight the locations of each frame, VLAD encodes the features before the
    backbone's last activation, one GRU follows every cluster with a state of its own, and the last
    states, intra-normalised, flattened and L2-normalised, go through dropout to one dense layer.

    Args:
        backbone: frame feature extractor; with attention it needs a classifier.
        num_classes: number of action classes C.
        num_frames: frames of a clip, None for any number.
        num_clusters: number of action words K.
        units: size U of a cluster's state.
        alpha: sharpness of the assignments, see `tfvlad.layers.NetVLAD`.
        attention: False leaves every location the same weight ("VLAD-GRU").
        bidirectional: a second GRU reads the frames backwards, 2U states a cluster.
        intra_normalize: L2-normalise each cluster's vector of a frame, times the square root of D,
            before the GRU. The paper does not say; the raw vectors are so small (the attention of a
            frame sums to 1 over all its clusters) that the GRU hardly trains on them.
        dropout: rate in front of the dense layer.
        name: the model's name.

    Returns:
        A functional model from RGB frames `(B, T, H, W, 3)`, values 0..255, to logits `(B, C)`.

    Raises:
        ValueError: attention with a backbone that has no classifier.

    Reference:
        Sudhakaran and Lanz, "Top-down Attention Recurrent VLAD Encoding for Action Recognition in
        Videos", section 3. It says only that the tensor of the last convolutional layer goes to
        both branches; here the attention is taken after the last activation and VLAD before it.
    """
    vlad = NetVLAD(
        num_clusters,
        alpha=alpha,
        intra_normalize=intra_normalize,
        normalize_descriptor=False,
        return_assignments=True,
        name="vlad",
    )
    gru = SharedGRU(
        units,
        bidirectional=bidirectional,
        return_sequences=True,
        return_state=True,
        name="shared_gru",
    )

    def aggregate(pre_activation: Any, features: Any) -> Any:
        weights = top_down_attention(backbone, features) if attention else None
        vectors, _ = vlad(pre_activation, weights)
        scale = backbone.num_channels**0.5 if intra_normalize else 1.0
        vectors = keras.layers.Rescaling(scale, name="frame_vlad")(vectors)
        _, states = gru(vectors)
        return DescriptorNormalization(name="descriptor")(states)

    return clip_model(backbone, num_classes, num_frames, dropout, aggregate, name)
