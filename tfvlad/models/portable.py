"""A model as it can be exported from any machine: in float32, without cuDNN."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from tfvlad import compat


@contextmanager
def single_precision() -> Iterator[None]:
    """New layers, models of them included, are of float32: half precision cannot sum for long."""
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("float32")
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(policy)


@single_precision()
def portable(model: keras.Model) -> keras.Model:
    """The same model in single precision, with recurrences that any machine computes.

    Half precision is a matter of the machine that trains; and a recurrent layer of Keras that is
    traced where there is a GPU is tied to cuDNN.

    Args:
        model: built, of any precision.

    Returns:
        The model itself where it is so already, else a copy with the same weights.
    """
    layers = list(compat.walk_layers(model))
    is_float32 = all(layer.compute_dtype == "float32" for layer in layers)
    if is_float32 and not any(getattr(layer, "use_cudnn", False) for layer in layers):
        return model
    config = _in_float32(keras.saving.serialize_keras_object(model))
    copy = keras.saving.deserialize_keras_object(config)
    _copy_weights(model, copy)
    for layer in compat.walk_layers(copy):
        if hasattr(layer, "use_cudnn"):
            layer.use_cudnn = False
    return copy


def _copy_weights(model: keras.Model, copy: keras.Model) -> None:
    """Layer by layer: models of a fusion that share layers have copies of their own."""
    for layer, other in zip(model.layers, copy.layers, strict=True):
        if isinstance(layer, keras.Model):
            _copy_weights(layer, other)
        else:
            other.set_weights(layer.get_weights())


def _in_float32(config: Any) -> Any:
    """A model's configuration with every layer's dtype policy replaced."""
    if isinstance(config, (list, tuple)):
        return type(config)(_in_float32(value) for value in config)
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy":
        return "float32"
    return {key: _in_float32(value) for key, value in config.items()}
