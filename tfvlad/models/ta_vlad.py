"""TA-VLAD: top-down attention, VLAD of each frame, a GRU that follows the clusters."""

from __future__ import annotations

from typing import Any

import keras

from tfvlad.backbones import Backbone
from tfvlad.layers import DescriptorNormalization, NetVLAD, SeparateGRUs, SharedGRU
from tfvlad.layers.cluster_gru import UpdateGateBias
from tfvlad.models.assembly import StreamMaps, clip_model
from tfvlad.models.attention import top_down_attention

_CLUSTER_GRUS = {"shared_gru": SharedGRU, "separate_grus": SeparateGRUs}
_TEMPORAL = ("shared_gru", "flattened_gru", "separate_grus")


def ta_vlad(
    backbone: Backbone,
    num_classes: int,
    *,
    num_frames: int | None = 25,
    num_clusters: int = 64,
    units: int = 256,
    alpha: float | str = 1000.0,
    attention: bool = True,
    attention_temperature: float = 4.0,
    temporal: str = "shared_gru",
    bidirectional: bool = False,
    intra_normalize: bool = True,
    input_scale: float | str = 1.0,
    update_bias: float = 2.0,
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
        units: size U of a cluster's state, or of a flattened GRU's.
        alpha: sharpness of the assignments, see `tfvlad.layers.NetVLAD`.
        attention: False leaves every location the same weight ("VLAD-GRU").
        attention_temperature: the class activation map is divided by it before the softmax. The
            paper's is 1, which leaves 2 of MobileNetV2's 49 locations.
        temporal: what follows the clusters over time: "shared_gru"; "separate_grus", K GRUs with
            weights of their own; or "flattened_gru", one `keras.layers.GRU` on the K vectors of a
            frame as one of length K*D. Its last state has no clusters left to intra-normalise: the
            descriptor is the state, L2-normalised, U long.
        bidirectional: a second GRU reads the frames backwards, 2U in the place of U.
        intra_normalize: L2-normalise each cluster's vector of a frame before the GRU. The paper
            does not say; the raw vectors are so small (the attention of a frame sums to 1 over all
            its clusters) that the GRU hardly trains on them.
        input_scale: the vectors are multiplied by it before the GRU, a number or "sqrt_channels",
            the square root of D. At the paper's learning rate the latter drives half of the update
            gates to 0 or 1 within 20 steps.
        update_bias: first value of the GRU's update gate, see `tfvlad.layers.SharedGRU`. The paper
            does not say: Keras' is 0.
        dropout: rate in front of the dense layer.
        name: the model's name.

    Returns:
        A functional model from RGB frames `(B, T, H, W, 3)`, values 0..255, to logits `(B, C)`.

    Raises:
        ValueError: when attention is asked of a backbone that has no classifier, or `temporal` is
            unknown, or `input_scale` is neither a positive number nor "sqrt_channels".

    Reference:
        Sudhakaran and Lanz, "Top-down Attention Recurrent VLAD Encoding for Action Recognition in
        Videos", section 3; the other values of `temporal`: section 4.2. It says only that the
        tensor of the last convolutional layer goes to both branches; here the attention is taken
        after the last activation and VLAD before it.
    """
    if temporal not in _TEMPORAL:
        raise ValueError(f"`temporal` must be one of {_TEMPORAL}. Received: temporal={temporal!r}.")
    is_number = isinstance(input_scale, (int, float)) and 0 < input_scale < float("inf")
    if input_scale != "sqrt_channels" and not is_number:
        raise ValueError(
            '`input_scale` must be a positive number or "sqrt_channels". '
            f"Received: input_scale={input_scale!r}."
        )
    vlad = NetVLAD(
        num_clusters,
        alpha=alpha,
        intra_normalize=intra_normalize,
        normalize_descriptor=False,
        return_assignments=True,
        name="vlad",
    )

    def aggregate(maps: StreamMaps) -> Any:
        weights = (
            top_down_attention(backbone, maps.attended, attention_temperature)
            if attention
            else None
        )
        vectors, _ = vlad(maps.pre_activation, weights)
        scale = backbone.num_channels**0.5 if input_scale == "sqrt_channels" else input_scale
        vectors = keras.layers.Rescaling(scale, name="frame_vlad")(vectors)
        if temporal == "flattened_gru":
            states = _flattened_gru(vectors, units, bidirectional, update_bias)
        else:
            gru = _CLUSTER_GRUS[temporal](
                units,
                bidirectional=bidirectional,
                update_bias=update_bias,
                return_sequences=True,
                return_state=True,
                name=temporal,
            )
            _, states = gru(vectors)
        return DescriptorNormalization(name="descriptor")(states)

    return clip_model(backbone, num_classes, num_frames, dropout, aggregate, name)


def _flattened_gru(vectors: Any, units: int, bidirectional: bool, update_bias: float) -> Any:
    """The last state `(B, 1, U)` of one GRU over `(B, T, K, D)`, the K vectors joined."""
    num_clusters, channels = vectors.shape[2:]
    # Not the number of frames: the layer must suit clips of another number.
    flat = keras.layers.Reshape((-1, num_clusters * channels), name="flat_vlad")(vectors)
    gru = keras.layers.GRU(
        units,
        bias_initializer=UpdateGateBias(update_bias),
        return_sequences=True,
        return_state=True,
        name="flattened_gru",
    )
    if bidirectional:
        gru = keras.layers.Bidirectional(gru, name="flattened_gru")
    _, *states = gru(flat)
    state = keras.layers.Concatenate(name="last_states")(states) if bidirectional else states[0]
    return keras.layers.Reshape((1, state.shape[-1]), name="last_state")(state)
