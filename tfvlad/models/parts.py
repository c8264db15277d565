"""The parts of a model: the one place that finds its layers by their types and names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from tfvlad.backbones import Backbone
from tfvlad.layers import (
    AttentionLSTM,
    FramewiseBackbone,
    MeanScore,
    NetVLAD,
    SegmentPooling,
    SeparateGRUs,
    SharedGRU,
    TopDownAttention,
)

# One GRU for all clusters together, see `ta_vlad`.
FLATTENED_GRUS = (keras.layers.GRU, keras.layers.Bidirectional)

# Names of layers that a training stage lists.
GRU_NAMES = ("shared_gru", "separate_grus", "flattened_gru")
CLASSIFIER_NAMES = ("logits", "rgb_logits", "flow_logits")

_TEMPORAL = (SharedGRU, SeparateGRUs, *FLATTENED_GRUS, AttentionLSTM, keras.layers.LSTM)
_STREAMS = ("rgb_", "flow_")
_EXTRACTORS = ("input_extractor", "attended_extractor")


@dataclass(frozen=True, eq=False)
class StreamParts:
    """The layers of one stream of a model, in their order; None for what it does not have.

    Attributes:
        prefix: of its layers' names: "rgb_" or "flow_" in a model of two streams, else "".
        backbone_layer: from frames to maps `(B, T, h, w, D)`; none in a `head_of` a model.
        trained_maps: the first D of 2D channels, where the backbone has a frozen copy.
        frozen_maps: the others, those of the copy.
        features: the last activation.
        frozen_features: the last activation of the copy.
        attention: top-down attention.
        vlad: `NetVLAD` or `ActionVLAD`.
        frame_vlad: what scales the VLAD of each frame.
        segments: what pools the frames of a clip's segments.
        input_dense: the dense layer in front of an LSTM of features.
        temporal: what reads frames, or features, in their order.
        descriptor: what the descriptor comes from, where that is not the VLAD layer.
        dropout: in front of the classifier.
        classifier: the dense layer to the classes.
    """

    prefix: str
    backbone_layer: FramewiseBackbone | None
    trained_maps: Any
    frozen_maps: Any
    features: Any
    frozen_features: Any
    attention: TopDownAttention | None
    vlad: NetVLAD | None
    frame_vlad: Any
    segments: SegmentPooling | None
    input_dense: Any
    temporal: Any
    descriptor: Any
    dropout: Any
    classifier: Any


@dataclass(frozen=True, eq=False)
class ModelParts:
    """What a model of `tfvlad.models` consists of.

    Attributes:
        streams: RGB and flow of a `two_stream` model; one stream of any other.
        backbone_layers: the layer that wraps each stream's backbone; none in a head or a fusion.
        joint: of a `two_stream` model what follows where its streams are joined; else the stream.
        joined_maps: joins the streams' maps, with fusion="early".
        shares: of each stream, or member, in a fusion of logits; else none.
        members: the models of a `late_fusion`, in the order of its inputs.
        fuses_probabilities: whether it is a fusion of probabilities.
        mean_score: what averages the probabilities of steps, streams or members.
        extractors: in front of a model of features: of its input data, and of its attended data
            where that is another one.
        feature_model: the model of features behind them.
        head_layers: all layers but those that wrap a backbone or an extractor.
        vlad_layers: the VLAD layers of all streams.
        classifiers: the dense layer to the classes, or that of each stream.
    """

    streams: tuple[StreamParts, ...]
    joint: StreamParts
    backbone_layers: tuple[FramewiseBackbone, ...]
    joined_maps: Any
    shares: tuple[float, ...]
    members: tuple[keras.Model, ...]
    fuses_probabilities: bool
    mean_score: MeanScore | None
    extractors: tuple[FramewiseBackbone, ...]
    feature_model: keras.Model | None
    head_layers: tuple[keras.layers.Layer, ...]
    vlad_layers: tuple[NetVLAD, ...]
    classifiers: tuple[keras.layers.Layer, ...]

    @property
    def backbones(self) -> tuple[Backbone, ...]:
        """The backbone of each stream; none in a head or a fusion.

        They share their weights with the model. Their classifier is not kept: it has become the
        weights of the attention.
        """
        return tuple(
            Backbone(layer.model.name, layer.model, layer.activation, blocks=dict(layer.blocks))
            for layer in self.backbone_layers
        )


def parts_of(model: keras.Model) -> ModelParts:
    """Finds the parts of a model that `tfvlad.models` made, or that was loaded from its file.

    A model of your own is understood as far as its layers are those of `tfvlad.layers`.

    Raises:
        TypeError: when `model` is not a Keras model.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a keras.Model. Received: {type(model).__name__}.")
    layers = {layer.name: layer for layer in model.layers}
    maps = layers.get("maps")
    joined_maps = maps if isinstance(maps, keras.layers.Concatenate) else None
    is_two_stream = joined_maps is not None or "rgb_backbone" in layers or "rgb_vlad" in layers
    prefixes = _STREAMS if is_two_stream else ("",)
    streams = tuple(_stream(prefix, layers) for prefix in prefixes)
    shared = {name: x for name, x in layers.items() if not name.startswith(_STREAMS)}
    inner = [layer for layer in layers.values() if isinstance(layer, keras.Model)]
    extractors = tuple(layers[name] for name in _EXTRACTORS if name in layers)
    wrapped = [layer for layer in layers.values() if isinstance(layer, FramewiseBackbone)]
    backbones = [layer for layer in wrapped if layer not in extractors]
    weighted = [layer for name, layer in layers.items() if name.startswith("weighted_scores_")]
    fuses_probabilities = "model_scores" in layers
    is_fusion = bool(weighted) or fuses_probabilities
    return ModelParts(
        streams=streams,
        joint=_stream("", shared) if is_two_stream else streams[0],
        backbone_layers=tuple(sorted(backbones, key=lambda x: x.name.startswith(_STREAMS[1]))),
        joined_maps=joined_maps,
        shares=tuple(layer.scale for layer in sorted(weighted, key=_number)),
        members=tuple(sorted(inner, key=_number)) if is_fusion else (),
        fuses_probabilities=fuses_probabilities,
        mean_score=next((x for x in layers.values() if isinstance(x, MeanScore)), None),
        extractors=extractors,
        feature_model=inner[0] if extractors and inner else None,
        head_layers=tuple(x for x in layers.values() if not isinstance(x, FramewiseBackbone)),
        vlad_layers=tuple(x for x in layers.values() if isinstance(x, NetVLAD)),
        classifiers=tuple(layers[name] for name in CLASSIFIER_NAMES if name in layers),
    )


def _stream(prefix: str, layers: Mapping[str, Any]) -> StreamParts:
    """The parts among the layers whose names begin with the prefix."""
    own = {
        name[len(prefix) :]: layer
        for name, layer in layers.items()
        if name.startswith(prefix) and name not in _EXTRACTORS
    }

    def of_type(*types: type) -> Any:
        return next((layer for layer in own.values() if isinstance(layer, types)), None)

    return StreamParts(
        prefix=prefix,
        backbone_layer=of_type(FramewiseBackbone),
        trained_maps=own.get("trained_maps"),
        frozen_maps=own.get("frozen_maps"),
        features=own.get("features"),
        frozen_features=own.get("frozen_features"),
        attention=of_type(TopDownAttention),
        vlad=of_type(NetVLAD),
        frame_vlad=own.get("frame_vlad"),
        segments=of_type(SegmentPooling),
        input_dense=own.get("input_dense"),
        temporal=of_type(*_TEMPORAL),
        descriptor=own.get("descriptor"),
        dropout=own.get("dropout"),
        classifier=own.get("logits"),
    )


def _number(layer: keras.layers.Layer) -> int:
    """At the end of the name of a fusion's member, or of its weighted scores."""
    return int(layer.name.rsplit("_", 1)[1])
