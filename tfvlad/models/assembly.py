"""What every clip model shares: frames in, a frozen backbone on each, a dense layer at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from tfvlad import compat
from tfvlad.backbones import Backbone
from tfvlad.layers import FramewiseBackbone

# From the backbone's maps before and after their last activation to a descriptor of the clip.
Aggregation = Callable[[Any, Any], Any]

# Name, layer, index among the layer's outputs.
_INTERMEDIATES = (
    ("feature_map", "features", None),
    ("attention", "attention", None),
    ("attention", "attention_lstm", 1),
    ("assignments", "vlad", 1),
    ("frame_vlad", "frame_vlad", None),
    ("states", "shared_gru", 0),
    ("states", "attention_lstm", 0),
    ("states", "lstm", None),
)


def clip_model(
    backbone: Backbone,
    num_classes: int,
    num_frames: int | None,
    dropout: float,
    aggregate: Aggregation,
    name: str,
) -> keras.Model:
    """Frames `(B, T, H, W, 3)` -> maps -> `aggregate` -> dropout -> logits `(B, C)`."""
    for argument, value in (("num_classes", num_classes), ("num_frames", num_frames)):
        if (value is not None or argument == "num_classes") and (
            not isinstance(value, int) or value < 1
        ):
            raise ValueError(
                f"`{argument}` must be a positive integer. Received: {argument}={value}."
            )
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must be in [0, 1). Received: dropout={dropout}.")
    backbone.set_trainable(None)
    frames = keras.Input((num_frames, *backbone.model.input_shape[1:]), name="frames")
    pre_activation = FramewiseBackbone(backbone.model, name="backbone")(frames)
    features = backbone.activation_layer(name="features")(pre_activation)
    descriptor = aggregate(pre_activation, features)
    descriptor = keras.layers.Dropout(dropout, name="dropout")(descriptor)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(descriptor)
    return keras.Model(frames, logits, name=name)


def head_of(model: keras.Model) -> keras.Model:
    """The part of a clip model after its backbone, from `(B, T, h, w, D)` to logits.

    The layers are shared with `model`. A dataset of cached feature maps enters here.
    """
    maps = compat.first_output(model.get_layer("backbone"))
    return keras.Model(maps, model.output, name=f"{model.name}_head")


def intermediate_outputs(model: keras.Model, names: list[str] | None = None) -> keras.Model:
    """A model that shares the layers of `model` and returns its intermediate tensors by name.

    The names, as far as the model has them:

    * `feature_map` `(B, T, h, w, D)`: after the last activation;
    * `attention` `(B, T, h, w)`: top-down attention; of an attention LSTM `(B, N, T)`, what each of
      its steps attends to, `(B, 1, T)` with `attend="last_step"`;
    * `assignments` `(B, T, h, w, K)`: of each location to the action words;
    * `frame_vlad` `(B, T, K, D)`: VLAD of each frame, as the GRU reads it;
    * `states` `(B, T, K, U)`: of the shared GRU after each frame; of an LSTM `(B, N, U)`;
    * `descriptor`: of the clip, before dropout;
    * `step_logits` `(B, N, C)`: of the steps whose probabilities are averaged;
    * `logits` `(B, C)`: the model's output.

    Args:
        model: a model made by this package, or loaded from its file.
        names: which of them; all by default.

    Raises:
        ValueError: the model has no such intermediate output.
    """
    tensors = _intermediate_tensors(model)
    unknown = [name for name in names or () if name not in tensors]
    if unknown:
        raise ValueError(
            f"`names` must be among {list(tensors)} for '{model.name}'. Received: {unknown}."
        )
    outputs = {name: tensors[name] for name in names or tensors}
    return keras.Model(model.inputs, outputs, name=f"{model.name}_intermediates")


def _intermediate_tensors(model: keras.Model) -> dict[str, Any]:
    layers = {layer.name: layer for layer in model.layers}
    tensors = {}
    for name, layer, index in _INTERMEDIATES:
        if layer in layers:
            output = compat.first_output(layers[layer])
            tensors[name] = output if index is None else output[index]
    if "logits" in layers and "scores" in layers:
        tensors["step_logits"] = compat.first_output(layers["logits"])
    elif "dropout" in layers:
        tensors["descriptor"] = compat.first_input(layers["dropout"])
    return {**tensors, "logits": model.outputs[0]}
