"""What every clip model shares: frames in, a frozen backbone on each, a dense layer at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from tfvlad import compat
from tfvlad.backbones import Backbone
from tfvlad.backbones.backbone import check_backbone
from tfvlad.layers import AttentionLSTM, ChannelSlice, FramewiseBackbone
from tfvlad.models.parts import StreamParts, parts_of


class StreamMaps(NamedTuple):
    """A backbone's maps of the frames, `(B, T, h, w, D)`.

    Attributes:
        pre_activation: before the last activation: what VLAD encodes.
        features: after it.
        attended: what the attention is computed from: the features, or those of the frozen copy.
    """

    pre_activation: Any
    features: Any
    attended: Any


# From a backbone's maps to a descriptor of the clip.
Aggregation = Callable[[StreamMaps], Any]


def check_count(name: str, value: int | None, *, or_none: bool = False) -> None:
    """Refuses what is not a positive integer, or, where it may be, None."""
    if not (isinstance(value, int) and value > 0) and not (value is None and or_none):
        raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value}.")


def check_segments(num_segments: int, num_frames: int | None) -> None:
    """Refuses more segments than frames."""
    check_count("num_segments", num_segments)
    check_count("num_frames", num_frames, or_none=True)
    if num_frames is not None and num_segments > num_frames:
        raise ValueError(
            f"`num_segments` must be at most the number of frames, {num_frames}. "
            f"Received: num_segments={num_segments}."
        )


def check_dropout(dropout: float) -> None:
    """Refuses a rate outside [0, 1)."""
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must be in [0, 1). Received: dropout={dropout}.")


def clip_model(
    backbone: Backbone,
    num_classes: int,
    num_frames: int | None,
    dropout: float,
    aggregate: Aggregation,
    name: str,
) -> keras.Model:
    """Frames `(B, T, H, W, 3)` -> maps -> `aggregate` -> dropout -> logits `(B, C)`."""
    check_count("num_classes", num_classes)
    check_count("num_frames", num_frames, or_none=True)
    check_dropout(dropout)
    frames, maps = stream(backbone, num_frames)
    logits = classified(aggregate(maps), num_classes, dropout)
    return keras.Model(frames, logits, name=name)


def stream(
    backbone: Backbone, num_frames: int | None, *, input_name: str = "frames", prefix: str = ""
) -> tuple[Any, StreamMaps]:
    """The input of a clip and the frozen backbone's maps of it."""
    check_backbone(backbone, f"{prefix}backbone")
    backbone.set_trainable(None)
    frames = keras.Input((num_frames, *backbone.model.input_shape[1:]), name=input_name)
    wrapped = FramewiseBackbone(
        backbone.model,
        activation=backbone.activation,
        blocks=backbone.blocks,
        name=f"{prefix}backbone",
    )
    maps = wrapped(frames)
    if not backbone.has_frozen_copy:
        features = backbone.activation_layer(name=f"{prefix}features")(maps)
        return frames, StreamMaps(maps, features, features)
    channels = backbone.num_channels
    trained = ChannelSlice(0, channels, name=f"{prefix}trained_maps")(maps)
    frozen = ChannelSlice(channels, 2 * channels, name=f"{prefix}frozen_maps")(maps)
    features = backbone.activation_layer(name=f"{prefix}features")(trained)
    attended = backbone.activation_layer(name=f"{prefix}frozen_features")(frozen)
    return frames, StreamMaps(trained, features, attended)


def classified(descriptor: Any, num_classes: int, dropout: float, *, prefix: str = "") -> Any:
    """Dropout and one dense layer."""
    descriptor = keras.layers.Dropout(dropout, name=f"{prefix}dropout")(descriptor)
    return keras.layers.Dense(num_classes, dtype="float32", name=f"{prefix}logits")(descriptor)


def head_of(model: keras.Model) -> keras.Model:
    """The part of a clip model after its backbone, from `(B, T, h, w, D)` to logits.

    The layers are shared with `model`. A dataset of cached feature maps enters here; of a
    two-stream model the maps of both streams, `[rgb maps, flow maps]`.

    Raises:
        ValueError: when the model has no backbone.
    """
    backbones = parts_of(model).backbone_layers
    if not backbones:
        raise ValueError(f"'{model.name}' has no backbone in front of a head.")
    maps = [compat.first_output(layer) for layer in backbones]
    head = keras.Model(one_or_all(maps), _output(model), name=f"{model.name}_head")
    return _as_long_as(model, head)


def with_num_frames(model: keras.Model, num_frames: int | None) -> keras.Model:
    """The same layers on clips of another number of frames.

    So the frames of all test crops of a clip become one bag of `num_crops * num_frames` frames.

    Args:
        model: made by this package from frames, or its `head_of`.
        num_frames: frames of a clip, None for any number.

    Raises:
        ValueError: when `num_frames` is not a positive integer or None.
    """
    check_count("num_frames", num_frames, or_none=True)
    inputs = [
        keras.Input((num_frames, *x.shape[2:]), dtype=x.dtype, name=name)
        for x, name in zip(model.inputs, compat.input_names(model), strict=True)
    ]
    return keras.models.clone_model(
        model,
        input_tensors=inputs if isinstance(model.input, (list, tuple)) else inputs[0],
        # The models of a fusion are nested.
        clone_function=lambda layer: (
            with_num_frames(layer, num_frames) if isinstance(layer, keras.Model) else layer
        ),
    )


def one_or_all(tensors: list[Any]) -> Any:
    """The tensor of a model with one input, the list of one with several.

    Keras warns when a model made from a list of one tensor is called with that tensor.
    """
    return tensors[0] if len(tensors) == 1 else tensors


def _output(model: keras.Model) -> Any:
    """The model's output in the layers' first graph, see `_as_long_as`."""
    has_backbone = bool(parts_of(model).backbone_layers)
    return compat.first_output(model.layers[-1]) if has_backbone else model.outputs[0]


def _as_long_as(model: keras.Model, part: keras.Model) -> keras.Model:
    """A part cut from the layers' first graph; `with_num_frames` calls them a second time."""
    num_frames = model.inputs[0].shape[1]
    same = part.inputs[0].shape[1] == num_frames
    return part if same else with_num_frames(part, num_frames)


def intermediate_outputs(model: keras.Model, names: list[str] | None = None) -> keras.Model:
    """A model that shares the layers of `model` and returns its intermediate tensors by name.

    The names, as far as the model has them:

    * `feature_map` `(B, T, h, w, D)`: after the last activation; before it in a model that reads
      nothing else, such as ActionVLAD;
    * `attention` `(B, T, h, w)`: top-down attention; of an attention LSTM `(B, N, T)`, what each of
      its steps attends to, `(B, 1, T)` with `attend="last_step"`;
    * `assignments` `(B, T, h, w, K)`: of each location to the action words;
    * `frame_vlad` `(B, T, K, D)`: VLAD of each frame, as the GRU reads it;
    * `states` `(B, T, K, U)`: of the clusters' GRU after each frame; of a flattened GRU
      `(B, T, U)`, of an LSTM `(B, N, U)`;
    * `descriptor`: of the clip, before dropout;
    * `step_logits` `(B, N, C)`: of the steps whose probabilities are averaged;
    * `logits` `(B, C)`: the model's output.

    What a two-stream model has of each stream is named after the stream: `rgb_assignments`,
    `flow_assignments`, with late fusion also `rgb_logits` and `flow_descriptor`.

    Args:
        model: a model made by this package, or loaded from its file.
        names: which of them; all by default.

    Raises:
        ValueError: when the model has no such intermediate output.
    """
    tensors = _intermediate_tensors(model)
    unknown = [name for name in names or () if name not in tensors]
    if unknown:
        raise ValueError(
            f"`names` must be among {list(tensors)} for '{model.name}'. Received: {unknown}."
        )
    outputs = {name: tensors[name] for name in names or tensors}
    inputs = [compat.first_input(layer) for layer in parts_of(model).backbone_layers]
    inputs = one_or_all(inputs or model.inputs)
    part = keras.Model(inputs, outputs, name=f"{model.name}_intermediates")
    return _as_long_as(model, part)


def _intermediate_tensors(model: keras.Model) -> dict[str, Any]:
    parts = parts_of(model)
    tensors: dict[str, Any] = {}
    # Of two streams, what follows where they are joined comes first.
    for branch in dict.fromkeys((parts.joint, *parts.streams)):
        has_steps = parts.mean_score is not None and not branch.prefix
        named = _branch_tensors(branch, has_steps=has_steps)
        tensors |= {f"{branch.prefix}{name}": tensor for name, tensor in named.items()}
    return {**tensors, "logits": _output(model)}


def _branch_tensors(branch: StreamParts, *, has_steps: bool) -> dict[str, Any]:
    """The intermediate tensors of a stream by name, those of its steps where it has some."""
    has_assignments = branch.vlad is not None and branch.vlad.return_assignments
    is_lstm = isinstance(branch.temporal, AttentionLSTM)
    # The layer, and the index of the tensor where the layer has several outputs.
    sources = {
        "feature_map": (branch.features or branch.trained_maps or branch.backbone_layer, 0),
        "attention": (branch.temporal, 1) if is_lstm else (branch.attention, 0),
        "assignments": (branch.vlad if has_assignments else None, 1),
        "frame_vlad": (branch.frame_vlad, 0),
        "states": (branch.temporal, 0),
    }
    outputs = {
        name: (compat.first_output(layer), index)
        for name, (layer, index) in sources.items()
        if layer is not None
    }
    found = {
        name: output[index] if isinstance(output, list | tuple) else output
        for name, (output, index) in outputs.items()
    }
    if branch.dropout is not None and not has_steps:
        found["descriptor"] = compat.first_input(branch.dropout)
    if branch.classifier is not None:
        found["step_logits" if has_steps else "logits"] = compat.first_output(branch.classifier)
    return found
