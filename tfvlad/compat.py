"""The differences between the two supported stacks, each with a line on what differs."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# The addons stack has Keras 2.15, the current one Keras 3.
KERAS_3 = int(keras.__version__.split(".")[0]) >= 3

if KERAS_3 and keras.backend.backend() != "tensorflow":
    raise ImportError(
        "tfvlad needs the TensorFlow backend of Keras. "
        f"Received: KERAS_BACKEND={keras.backend.backend()}. "
        "Set the environment variable KERAS_BACKEND=tensorflow before Keras is imported."
    )

# For `add_weight` of a layer that computes in float32: even with the layer's `autocast=False`,
# mixed precision rounds a variable to half precision unless it says no, under another name on each.
NO_AUTOCAST = {"autocast": False} if KERAS_3 else {"experimental_autocast": False}


# tensorflow-addons has no release for Keras 3.
_HAS_ADDONS = not KERAS_3 and importlib.util.find_spec("tensorflow_addons") is not None

# The optimizers of a training stage.
OPTIMIZERS = ("adam", "sgd", *(("rectified_adam", "lookahead") if _HAS_ADDONS else ()))


class _OneReplica:
    """What keeps an optimizer from summing the gradients of one replica.

    TensorFlow keeps a custom gradient of every traced sum for ever, and with it the graph of the
    training: tens of megabytes a model. Keras 3 leaves the sum out where `apply` runs across
    replicas, Keras 2.15 has a method for it. With a distribution strategy the sum stays.
    """

    def apply(self, grads: list, trainable_variables: list | None = None) -> None:
        """Update the variables: Keras 3 calls it in a replica."""
        apply = super().apply  # type: ignore[misc]
        replica = tf.distribute.get_replica_context()
        if replica is None or tf.distribute.has_strategy():
            apply(grads, trainable_variables)
        else:
            replica.merge_call(lambda strategy: apply(grads, trainable_variables))

    def aggregate_gradients(self, grads_and_vars: list) -> list:
        """The gradients to apply: Keras 2.15 calls it."""
        if tf.distribute.has_strategy():
            return super().aggregate_gradients(grads_and_vars)  # type: ignore[misc]
        return grads_and_vars


@keras.saving.register_keras_serializable(package="tfvlad")
class Adam(_OneReplica, keras.optimizers.Adam):
    """Keras' Adam, whose graphs end with their model."""


@keras.saving.register_keras_serializable(package="tfvlad")
class SGD(_OneReplica, keras.optimizers.SGD):
    """Keras' SGD, whose graphs end with their model."""


def make_optimizer(
    name: str,
    learning_rate: float,
    *,
    momentum: float,
    epsilon: float,
    clip_norm: float | None,
    weight_decay: float | None,
) -> keras.optimizers.Optimizer:
    """An optimizer of `OPTIMIZERS`: two of them are tensorflow-addons', on Keras' legacy class.

    "lookahead" is that of Zhang et al. (6 steps, step size 0.5) around rectified Adam.
    """
    shared: dict[str, Any] = {} if clip_norm is None else {"clipnorm": clip_norm}
    if name == "adam":
        return Adam(learning_rate, epsilon=epsilon, weight_decay=weight_decay, **shared)
    if name == "sgd":
        return SGD(learning_rate, momentum=momentum, weight_decay=weight_decay, **shared)
    import tensorflow_addons as tfa

    rectified = tfa.optimizers.RectifiedAdam(
        learning_rate, epsilon=epsilon, weight_decay=weight_decay or 0.0, **shared
    )
    return rectified if name == "rectified_adam" else tfa.optimizers.Lookahead(rectified)


def optimizer_variables(optimizer: keras.optimizers.Optimizer) -> list[tf.Variable]:
    """The variables of a built optimizer.

    A property in Keras 3, a callable list in Keras 2.15, and without those of a wrapped optimizer
    in its legacy class.
    """
    variables = optimizer.variables
    if not callable(variables) or isinstance(variables, list):
        return list(variables)
    return list(optimizer.weights)


def first_input(layer: keras.layers.Layer) -> Any:
    """Symbolic input of a layer's first call: `.input` refuses a shared layer in Keras 2.15."""
    return layer.input if KERAS_3 else layer.get_input_at(0)


def first_output(layer: keras.layers.Layer) -> Any:
    """Symbolic output of a layer's first call: `.output` refuses a shared layer in Keras 2.15."""
    return layer.output if KERAS_3 else layer.get_output_at(0)


def input_names(model: keras.Model) -> list[str]:
    """Names of a model's inputs: in Keras 2.15 a tensor in front of a layer has another one."""
    return [x.name for x in model.inputs] if KERAS_3 else list(model.input_names)


def build_optimizer(model: keras.Model) -> None:
    """Create the optimizer's slots; Keras 2.15's legacy class does with the first step.

    That step may change the model's weights: set them afterwards.
    """
    if not hasattr(model.optimizer, "build"):
        zeros = [(tf.zeros_like(variable), variable) for variable in model.trainable_variables]
        model.optimizer.apply_gradients(zeros)
    elif not getattr(model.optimizer, "built", False):
        model.optimizer.build(model.trainable_variables)


def walk_layers(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """The layer and all layers inside it: `_flatten_layers` is private in both versions."""
    seen: set[int] = set()
    queue = [layer]
    while queue:
        current = queue.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        children = getattr(current, "layers", None)
        if children is None:
            children = [
                value for value in vars(current).values() if isinstance(value, keras.layers.Layer)
            ]
        queue.extend(children)


def reseed(model: keras.Model, seed: int) -> None:
    """Restart the random streams of the model's dropout layers from `seed`.

    Keras 3 keeps a stream as a seed-generator variable, which can be assigned. Keras 2.15 keeps it
    in a `tf.random.Generator` where there is one, and else inside the operation, out of reach.
    """
    for number, layer in enumerate(walk_layers(model)):
        generator: Any = getattr(layer, "seed_generator", None)
        if generator is not None:
            state = np.array([(seed + 7919 * number) % 2**31, 0])
            generator.state.assign(state.astype("uint32"))
            continue
        random = getattr(getattr(layer, "_random_generator", None), "_generator", None)
        if random is not None:
            random.reset_from_seed((seed + 7919 * number) % 2**31)
