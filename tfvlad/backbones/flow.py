"""Backbones for optical flow, made from those for RGB frames."""

from dataclasses import replace

import keras
import numpy as np

from tfvlad.backbones.backbone import Backbone, check_backbone
from tfvlad.layers.image_normalization import ImageNormalization

# The middle of 0..255: a pixel that does not move.
_NO_MOTION = 127.5


def flow_backbone(backbone: Backbone, stack_frames: int = 10) -> Backbone:
    """A backbone for stacks of optical flow with the weights of one for RGB frames.

    Cross-modality initialisation: the first convolution's kernel is averaged over the colours and
    repeated for each channel of the stack. The normalization in front becomes `(x - 127.5) / std`
    with one `std` for all channels, the mean of the colours'. All else is copied: the two backbones
    share nothing. The batch norms begin with the statistics of RGB frames; the paper estimates the
    first one's anew (`batch_norm` of a `tfvlad.training.Stage` that frees all blocks).

    Args:
        backbone: that begins with `ImageNormalization` or `keras.layers.Rescaling` and a `Conv2D`.
        stack_frames: flow fields L of a stack.

    Returns:
        A backbone from stacks `(B, H, W, 2L)`, x and y of each field in turn, values 0..255 with
        no motion at 127.5. Blocks and classifier are those of `backbone`.

    Raises:
        ValueError: when the backbone begins otherwise, or `stack_frames` is not a positive integer.

    Reference:
        Wang et al., Temporal Segment Networks, ECCV 2016, section 3.2.
    """
    check_backbone(backbone)
    if not isinstance(stack_frames, int) or stack_frames < 1:
        raise ValueError(
            f"`stack_frames` must be a positive integer. Received: stack_frames={stack_frames}."
        )
    if backbone.has_frozen_copy:
        raise ValueError(
            f"'{backbone.name}' has a frozen copy already. Make the copy of the flow backbone: "
            "with_frozen_copy(flow_backbone(backbone), block)."
        )
    normalization, convolution = _first_layers(backbone)
    num_channels = 2 * stack_frames

    def renewed(layer: keras.layers.Layer) -> keras.layers.Layer:
        if layer is normalization:
            return _flow_normalization(layer)
        return type(layer).from_config(layer.get_config())

    stack = keras.Input((*backbone.image_size, num_channels), name="flow")
    copy = keras.models.clone_model(backbone.model, input_tensors=stack, clone_function=renewed)
    for layer in backbone.model.layers:
        weights = layer.get_weights()
        if layer is convolution:
            weights[0] = np.repeat(weights[0].mean(axis=2, keepdims=True), num_channels, axis=2)
        if weights:
            copy.get_layer(layer.name).set_weights(weights)
    name = f"{backbone.name}_flow"
    model = keras.Model(copy.inputs[0], copy.outputs[0], name=name)
    return replace(backbone, name=name, model=model)


def _first_layers(backbone: Backbone) -> tuple[keras.layers.Layer, keras.layers.Layer]:
    """The normalization and the first convolution."""
    _, normalization, *others = backbone.model.layers
    first = next((layer for layer in others if layer.weights), None)
    if (
        not isinstance(normalization, ImageNormalization | keras.layers.Rescaling)
        or not isinstance(first, keras.layers.Conv2D)
        or first.kernel.shape[2] != 3
    ):
        kind = "no layer with weights" if first is None else type(first).__name__
        raise ValueError(
            "`backbone` must take RGB frames and begin with ImageNormalization or Rescaling and "
            f"a Conv2D. Received: '{backbone.name}', which takes {backbone.model.input_shape[-1]} "
            f"channels and begins with {type(normalization).__name__} and {kind}."
        )
    return normalization, first


def _flow_normalization(layer: keras.layers.Layer) -> keras.layers.Layer:
    config = layer.get_config()
    if isinstance(layer, ImageNormalization):
        settings = {"mean": _NO_MOTION, "std": float(np.mean(layer.std)), "channel_order": "rgb"}
    else:
        scale = float(np.mean(layer.scale))
        settings = {"scale": scale, "offset": -_NO_MOTION * scale}
    return type(layer).from_config({**config, **settings})
