"""Fine-tuning of a model for backbones that compute in 8 bits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from export.device.precision import MIN_INT8_CHANNELS
from tfvlad import compat
from tfvlad.layers import FramewiseBackbone
from tfvlad.models import ClipModel, parts_of

# What computes on 8 bits; what a convolution is followed by is computed with it.
_INTEGER_LAYERS = (
    keras.layers.Conv2D,
    keras.layers.Dense,
    keras.layers.Add,
    keras.layers.AveragePooling2D,
    keras.layers.GlobalAveragePooling2D,
)


def quantization_aware(
    clip_model: ClipModel, calibration_clips: Iterable[Mapping[str, np.ndarray]]
) -> keras.Model:
    """The same model with backbones that round as an int8 LiteRT file does.

    Weights of convolutions are rounded to 8 bits with one scale for each output channel (which a
    batch norm that is folded into them does not change), what they read and the backbone's map
    with one range for each map. The gradient passes the rounding unchanged. The weights are shared
    with the given model: fine-tune what this function returns and export what it was given.

    Fine-tuning the head alone on the rounded maps costs little, because they are computed once:

        aware = quantization_aware(clip_model, clips)
        maps = tfvlad.models.parts_of(aware).backbone_layers[0](frames)
        head = tfvlad.models.head_of(clip_model.model)    # compile, and fit on the maps
        export.litert(clip_model, "actions.tflite", precision="int8", clips=clips)

    Args:
        clip_model: what is to be exported, trained.
        calibration_clips: some 32 training clips by stream, uint8 `(T, H, W, channels)`.

    Returns:
        A model of the same inputs and scores. Layers inside a frozen copy do not round.

    Raises:
        ValueError: when there is no backbone with two-dimensional convolutions, or there are no
            clips.

    Reference:
        Jacob et al., "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference", section 3.
    """
    model = clip_model.model
    clips = list(calibration_clips)
    if not clips:
        raise ValueError("`calibration_clips` must hold at least one clip. Received: none.")
    parts = parts_of(model)
    of_streams = [
        *zip(parts.backbone_layers, clip_model.streams, strict=False),
        *((extractor, clip_model.streams[0]) for extractor in parts.extractors),
    ]
    of_streams = [(layer, stream) for layer, stream in of_streams if _has_convolutions(layer)]
    if not of_streams:
        raise ValueError(
            f"'{model.name}' has no backbone of two-dimensional convolutions of its own. Fine-tune "
            "the models of an ensemble or a fusion one by one."
        )
    rounded = {}
    for layer, stream in of_streams:
        frames = [np.reshape(clip[stream], (-1, *layer.model.input_shape[1:])) for clip in clips]
        rounded[layer.name] = FramewiseBackbone(_rounded(layer.model, frames), name=layer.name)
    return keras.models.clone_model(
        model, clone_function=lambda layer: rounded.get(layer.name, layer)
    )


def _has_convolutions(layer: keras.layers.Layer) -> bool:
    return any(isinstance(inner, keras.layers.Conv2D) for inner in compat.walk_layers(layer))


def _rounded(network: keras.Model, clips: Sequence[np.ndarray]) -> keras.Model:
    extractor = network.layers[-1]
    if isinstance(extractor, keras.Model):
        # `end_to_end` chooses the frames of a window in front of it.
        before = _with_last(network, keras.Model(extractor.inputs, extractor.inputs))
        frames = [before(clip.astype("float32")).numpy() for clip in clips]
        return _with_last(network, _rounded(extractor, frames))
    layers = _integer_layers(network)
    inputs = {layer.name: tf.nest.flatten(compat.first_input(layer)) for layer in layers}
    inputs["map"] = list(network.outputs)
    maps = keras.Model(network.inputs, inputs)
    ranges = _ranges(maps([clip.astype("float32")], training=False) for clip in clips)
    copies = {
        layer.name: FakeQuantization(layer, ranges[layer.name], name=layer.name) for layer in layers
    }
    copy = keras.models.clone_model(
        network, clone_function=lambda layer: copies.get(layer.name, layer)
    )
    last = FakeQuantization(keras.layers.Identity(), ranges["map"], name="rounded_map")
    return keras.Model(copy.inputs, last(copy.outputs[0]), name=network.name)


def _with_last(network: keras.Model, last: keras.layers.Layer) -> keras.Model:
    """The same layers but for the last one."""
    old = network.layers[-1]
    return keras.models.clone_model(
        network, clone_function=lambda layer: last if layer is old else layer
    )


def _ranges(clips: Iterable[dict[str, list[tf.Tensor]]]) -> dict[str, list[list[float]]]:
    """The smallest and largest value of each named map, averaged over clips."""
    extremes = [
        {name: [[np.min(x), np.max(x)] for x in maps] for name, maps in clip.items()}
        for clip in clips
    ]
    ranges = {}
    for name in extremes[0]:
        low, high = np.moveaxis(np.mean([clip[name] for clip in extremes], axis=0), -1, 0)
        # Zero, which pads the borders, must be among the values.
        ranges[name] = np.stack([np.minimum(low, 0), np.maximum(high, 1e-6)], axis=-1).tolist()
    return ranges


def _integer_layers(network: keras.Model) -> list[keras.layers.Layer]:
    """What computes in 8 bits in an int8 file, see `export.device.precision`."""

    def channels(layer: keras.layers.Layer) -> int:
        is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        if not isinstance(layer, keras.layers.Conv2D) or is_depthwise:
            return 0
        return compat.first_input(layer).shape[-1]

    many = min(MIN_INT8_CHANNELS, max(map(channels, network.layers)))
    first = {id(x) for x in network.inputs}
    chosen = []
    for layer in network.layers:
        inputs = tf.nest.flatten(compat.first_input(layer))
        if first.issuperset(map(id, inputs)) and channels(layer) < many:
            first.update(map(id, tf.nest.flatten(compat.first_output(layer))))
        elif isinstance(layer, (*_INTEGER_LAYERS, keras.layers.DepthwiseConv2D)):
            chosen.append(layer)
    return chosen


@keras.saving.register_keras_serializable(package="tfvlad")
class FakeQuantization(keras.layers.Layer):
    """A layer whose inputs and kernel are rounded to 8 bits.

    Args:
        layer: the layer.
        ranges: the smallest and the largest value of each of its inputs.

    Call arguments:
        inputs: those of the layer.

    Output shape:
        That of the layer.

    Reference:
        Jacob et al., "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference", equation 12.
    """

    def __init__(self, layer: keras.layers.Layer, ranges: Sequence[Sequence[float]], **kwargs: Any):
        super().__init__(**kwargs)
        self.layer = layer
        self.ranges = [tuple(pair) for pair in ranges]

    def build(self, input_shape: Any) -> None:
        if not self.layer.built:
            self.layer.build(input_shape)
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        given = [
            tf.quantization.fake_quant_with_min_max_args(x, low, high)
            for x, (low, high) in zip(tf.nest.flatten(inputs), self.ranges, strict=True)
        ]
        kernel = getattr(self.layer, "kernel", None)
        variables = [
            [_rounded_kernel(v) if v is kernel else v for v in group]
            for group in (self.layer.trainable_variables, self.layer.non_trainable_variables)
        ]
        outputs, _ = self.layer.stateless_call(*variables, given if len(given) > 1 else given[0])
        return outputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.layer.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        layer = keras.saving.serialize_keras_object(self.layer)
        return {**super().get_config(), "layer": layer, "ranges": self.ranges}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FakeQuantization:
        layer = keras.saving.deserialize_keras_object(config["layer"])
        return cls(**{**config, "layer": layer})


def _rounded_kernel(kernel: Any) -> tf.Tensor:
    """The kernel with one symmetric scale for each output channel."""
    weights = tf.convert_to_tensor(kernel)
    # (h, w, D, D') -> (h * w * D, D'), of a depthwise convolution (h, w, D, 1) -> (h * w, D)
    is_depthwise = weights.shape.rank == 4 and weights.shape[-1] == 1
    num_channels = weights.shape[-2 if is_depthwise else -1]
    columns = tf.reshape(weights, [-1, num_channels])
    limit = tf.maximum(tf.reduce_max(tf.abs(columns), axis=0), 1e-12)
    limit = tf.stop_gradient(limit)
    columns = tf.quantization.fake_quant_with_min_max_vars_per_channel(
        columns, -limit, limit, narrow_range=True
    )
    return tf.reshape(columns, weights.shape)
