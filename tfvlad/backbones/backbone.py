"""What every frame feature extractor offers to the models."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from tfvlad.compat import walk_layers

# The name of the layers inside a backbone that are a copy of its last blocks, never trained.
FROZEN_COPY = "frozen_copy"


@dataclass(frozen=True, eq=False)
class Backbone:
    """A network from raw frames to its last convolutional feature map.

    `features = activation(pre_activation)`: the model returns the map before its last activation,
    which ActionVLAD and TA-VLAD encode, and `activation_layer` gives the map that the class
    activation map is taken from.

    Args:
        name: the network's name.
        model: from raw RGB frames `(B, H, W, 3)`, values 0..255, integer or float, to the feature
            map before its last activation, `(B, h, w, D)`. Preprocessing is inside. The stacks of
            a `flow_backbone` are `(B, H, W, 2L)`.
        activation: the name of the last activation, as `keras.activations.get` takes it.
        classifier_kernel: `(D, O)`, the dense layer from the averaged features to the scores of
            O classes; None for a network that has no such layer.
        classifier_bias: `(O,)`, its bias.
        blocks: from the name of each block to the names of its layers, in the order of the
            computation. The first layer of a block takes the one tensor that enters the block.

    Raises:
        ValueError: when the classifier or the blocks do not fit the model.
    """

    name: str
    model: keras.Model
    activation: str = "linear"
    classifier_kernel: np.ndarray | None = None
    classifier_bias: np.ndarray | None = None
    blocks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kernel, bias = self.classifier_kernel, self.classifier_bias
        if (kernel is None) != (bias is None):
            raise ValueError("`classifier_kernel` and `classifier_bias` must be given together.")
        if kernel is not None and bias is not None:
            num_classes = np.shape(kernel)[-1:]
            expected = (self.num_channels, *num_classes), num_classes
            if (np.shape(kernel), np.shape(bias)) != expected:
                raise ValueError(
                    f"`classifier_kernel` must have the shape ({self.num_channels}, classes) and "
                    "`classifier_bias` (classes,). "
                    f"Received: shapes {np.shape(kernel)} and {np.shape(bias)}."
                )
        known = {layer.name for layer in self.model.layers}
        for block, layers in self.blocks.items():
            unknown = sorted(set(layers) - known)
            if unknown or not layers:
                raise ValueError(
                    f"`blocks` must name layers of the model. Received: block '{block}' with "
                    + (f"unknown layers {unknown}." if unknown else "no layers.")
                )

    @property
    def image_size(self) -> tuple[int | None, int | None]:
        """(height, width) of the frames in pixels; None where any size will do."""
        return tuple(self.model.input_shape[1:3])

    @property
    def num_channels(self) -> int:
        """D, the channels of the feature map; those of a frozen copy do not count."""
        channels = self.model.output_shape[-1]
        return channels // 2 if self.has_frozen_copy else channels

    @property
    def has_frozen_copy(self) -> bool:
        """Whether the map has 2D channels, those of the trained layers and those of a copy.

        The copy is never trained; the attention is taken from it. See
        `tfvlad.backbones.with_frozen_copy`.
        """
        return any(layer.name == FROZEN_COPY for layer in self.model.layers)

    def activation_layer(self, name: str | None = None) -> keras.layers.Layer:
        """A new layer that takes the model's output to the features after the last activation."""
        return keras.layers.Activation(self.activation, name=name)

    def split_at(self, block: str) -> tuple[keras.Model, keras.Model]:
        """Splits the model in front of a block.

        Args:
            block: a name in `blocks`.

        Returns:
            `(frozen_part, freed_part)`, which share the layers of `model`:
            `freed_part(frozen_part(x))` equals `model(x)`.

        Raises:
            ValueError: when there is no such block, or more than one tensor enters it.
        """
        first = self.model.get_layer(self._layers_from(block)[0])
        try:
            return (
                keras.Model(self.model.input, first.input, name=f"{self.name}_before_{block}"),
                keras.Model(first.input, self.model.output, name=f"{self.name}_from_{block}"),
            )
        except ValueError as error:
            advice = (
                "The frozen copy begins before it: split where the copy begins, or earlier."
                if self.has_frozen_copy
                else "Name the layers of the block in `blocks` in the order of the computation."
            )
            raise ValueError(
                f"'{self.name}' cannot be split at '{block}': its layers need more than the one "
                f"tensor that enters '{first.name}'. {advice}"
            ) from error

    def set_trainable(self, block: str | None, *, batch_norm: bool = False) -> None:
        """Frees a block and everything after it, and freezes the rest.

        A frozen batch norm uses its moving statistics in training too and leaves them as they are.
        A model that is already compiled has to be compiled again.

        Args:
            block: the first block that is trained; None freezes the whole model.
            batch_norm: whether the freed blocks' batch norms are trained too.

        Raises:
            ValueError: when there is no such block.
        """
        freed = set() if block is None else set(self._layers_from(block))
        self.model.trainable = True
        for layer in self.model.layers:
            for inner in walk_layers(layer):
                is_batch_norm = isinstance(inner, keras.layers.BatchNormalization)
                inner.trainable = layer.name in freed and (batch_norm or not is_batch_norm)

    def fingerprint(self) -> str:
        """A hash of the model's layers and weights. See `fingerprint`."""
        return fingerprint(self.model)

    def _layers_from(self, block: str) -> list[str]:
        names = list(self.blocks)
        if not names:
            raise ValueError(
                f"'{self.name}' names no blocks and can only be frozen as a whole. Received: "
                f"block={block!r}. Give `blocks` to `tfvlad.backbones.from_model`; a model from a "
                "file that keeps none is built anew and reads the file by `model.load_weights`."
            )
        if block not in names:
            raise ValueError(
                f"`block` must be one of {names}, the blocks of '{self.name}'. "
                f"Received: block={block!r}."
            )
        return [layer for name in names[names.index(block) :] for layer in self.blocks[name]]


def from_model(
    model: keras.Model,
    *,
    name: str | None = None,
    classifier_kernel: np.ndarray | None = None,
    classifier_bias: np.ndarray | None = None,
    blocks: Mapping[str, tuple[str, ...]] | None = None,
) -> Backbone:
    """A backbone from any Keras model that maps raw frames to a feature map.

    An activation at the model's end is split off: a `ReLU` or `Activation` layer is left out, a
    last layer with an `activation` of its own is replaced by a copy without it. All other layers
    are shared with the given model.

    Args:
        model: a functional or sequential model from raw RGB frames `(B, H, W, 3)`, values 0..255,
            to a feature map `(B, h, w, D)`. Where the network expects other values, begin it with
            `tfvlad.layers.ImageNormalization` or `keras.layers.Rescaling`.
        name: the backbone's name, by default the model's.
        classifier_kernel: `(D, O)`, see `Backbone`.
        classifier_bias: `(O,)`, see `Backbone`.
        blocks: see `Backbone`. Without it, the model can only be frozen as a whole.

    Raises:
        TypeError: when `model` is not a Keras model.
        ValueError: when it does not map images to feature maps.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a keras.Model. Received: {type(model).__name__}.")
    shapes = model.input_shape, model.output_shape
    if any(not isinstance(shape, tuple) or len(shape) != 4 for shape in shapes):
        raise ValueError(
            "`model` must map images (batch, height, width, channels) to feature maps of the same "
            f"rank. Received: {shapes[0]} -> {shapes[1]}. End it in front of its pooling layer: "
            "keras.Model(model.input, model.get_layer(NAME).output)."
        )
    name = name or model.name
    activation, pre_activation = split_last_activation(model)
    return Backbone(
        name=name,
        # A Sequential model of Keras 3 has no `input`.
        model=keras.Model(model.inputs[0], pre_activation, name=name),
        activation=activation,
        classifier_kernel=classifier_kernel,
        classifier_bias=classifier_bias,
        blocks=blocks or {},
    )


def check_backbone(backbone: Any, argument: str = "backbone") -> None:
    """Refuses what is no backbone, such as a bare Keras model.

    A model is not wrapped unasked: whether it takes raw frames cannot be seen from it.

    Args:
        backbone: what was given.
        argument: the argument's name.

    Raises:
        TypeError: when it is no `Backbone`.
    """
    if not isinstance(backbone, Backbone):
        is_model = isinstance(backbone, keras.Model)
        received = f"the model '{backbone.name}'" if is_model else type(backbone).__name__
        raise TypeError(
            f"`{argument}` must be a Backbone, which `tfvlad.backbones.from_model` makes of a "
            f"keras.Model that takes raw frames, values 0..255. Received: {received}."
        )


def input_images(image_size: int | tuple[int, int]) -> Any:
    """The symbolic input of a backbone: RGB frames of the given size in pixels.

    Args:
        image_size: the side of a square, or (height, width).

    Raises:
        ValueError: when a side is not an integer of at least 32 pixels.
    """
    sides = image_size if isinstance(image_size, tuple | list) else (image_size, image_size)
    if len(sides) != 2 or any(not isinstance(side, int) or side < 32 for side in sides):
        raise ValueError(
            "`image_size` must be an integer of at least 32 pixels or a pair (height, width) of "
            f"such. Received: image_size={image_size}."
        )
    return keras.Input((*sides, 3), name="images")


def fingerprint(model: keras.Model) -> str:
    """A hash of what a model computes, to key caches of its outputs by.

    It covers the layers' classes, arguments and weights in the order of the computation, not
    their names nor what is trainable.
    """
    digest = hashlib.sha256()
    for layer in walk_layers(model):
        if isinstance(layer, keras.Model):
            continue
        config = {
            key: value
            for key, value in layer.get_config().items()
            if key not in ("name", "trainable")
        }
        digest.update(type(layer).__name__.encode())
        digest.update(json.dumps(config, sort_keys=True, default=str).encode())
        for weight in layer.get_weights():
            digest.update(weight.tobytes())
    return digest.hexdigest()


def split_last_activation(model: keras.Model) -> tuple[str, Any]:
    """The name of a model's last activation and the tensor in front of it."""
    last = model.layers[-1]
    config = last.get_config()
    if isinstance(last, keras.layers.ReLU):
        is_plain = last.negative_slope == 0 and last.threshold == 0
        name = "relu" if last.max_value is None else f"relu{last.max_value:g}"
        activation = name if is_plain and name in ("relu", "relu6") else None
    else:
        activation = config.get("activation")
    # Functions without a name stay inside the model.
    if not isinstance(activation, str) or activation == "linear":
        return "linear", model.outputs[0]
    if isinstance(last, keras.layers.ReLU | keras.layers.Activation):
        return activation, last.input
    copy = type(last).from_config({**config, "activation": "linear"})
    pre_activation = copy(last.input)
    copy.set_weights(last.get_weights())
    return activation, pre_activation
