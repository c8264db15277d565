"""Networks from frames, or windows of frames, to one feature vector each."""

from dataclasses import dataclass

import keras

from tfvlad.backbones.backbone import Backbone, check_backbone, fingerprint
from tfvlad.compat import first_output

_AVERAGES = {
    3: keras.layers.GlobalAveragePooling1D,
    4: keras.layers.GlobalAveragePooling2D,
    5: keras.layers.GlobalAveragePooling3D,
}


@dataclass(frozen=True, eq=False)
class FeatureExtractor:
    """A network from raw frames to the features of one of its layers.

    Args:
        name: the network and the layer, such as "mobilenet_v2/pooled".
        model: from raw RGB frames `(B, H, W, 3)`, values 0..255, integer or float, to features
            `(B, D)`; with `window_frames` above 1 from windows `(B, window_frames, H, W, 3)`.
            Preprocessing is inside.
        window_frames: how many consecutive frames one feature vector describes.

    Raises:
        ValueError: when the model does not map such frames to feature vectors.
    """

    name: str
    model: keras.Model
    window_frames: int = 1

    def __post_init__(self) -> None:
        windows = () if self.window_frames == 1 else (self.window_frames,)
        frames, features = self.model.input_shape, self.model.output_shape
        fits = len(frames) == 4 + len(windows) and tuple(frames[1:-3]) == windows
        if not fits or len(features) != 2:
            raise ValueError(
                f"`model` must map frames {('batch', *windows, 'height', 'width', 3)} to features "
                f"('batch', 'channels') with window_frames={self.window_frames}. "
                f"Received: {frames} -> {features}."
            )

    @property
    def image_size(self) -> tuple[int | None, int | None]:
        """(height, width) of the frames in pixels; None where any size will do."""
        return tuple(self.model.input_shape[-3:-1])

    @property
    def num_channels(self) -> int:
        """D, the length of a feature vector."""
        return self.model.output_shape[-1]

    def fingerprint(self) -> str:
        """A hash of the model's layers and weights. See `tfvlad.backbones.fingerprint`."""
        return fingerprint(self.model)


def feature_extractor(backbone: Backbone, layer: str = "pooled") -> FeatureExtractor:
    """The features of a layer of a backbone, averaged over space.

    Args:
        backbone: a frame backbone.
        layer: "pooled" for the features after the last activation, "scores" for the logits of the
            network's own classifier on these, or the name of a layer of `backbone.model`.

    Raises:
        ValueError: when there is no such layer, or no classifier on averaged features.
    """
    check_backbone(backbone)
    if layer not in ("pooled", "scores"):
        return extractor_at(
            backbone.model, layer, network=backbone.name, others=("pooled", "scores")
        )
    kernel, bias = backbone.classifier_kernel, backbone.classifier_bias
    features = backbone.activation_layer(name="last_activation")(backbone.model.output)
    features = keras.layers.GlobalAveragePooling2D(name="pooled")(features)
    if layer == "scores":
        if kernel is None:
            raise ValueError(
                f"'{backbone.name}' has no classifier on averaged features. Use layer='pooled'."
            )
        scores = keras.layers.Dense(kernel.shape[-1], name="scores")
        features = scores(features)
        scores.set_weights([kernel, bias])
    model = keras.Model(backbone.model.input, features, name=f"{backbone.name}_{layer}")
    return FeatureExtractor(f"{backbone.name}/{layer}", model)


def extractor_at(
    model: keras.Model,
    layer: str,
    *,
    network: str,
    window_frames: int = 1,
    others: tuple[str, ...] = (),
) -> FeatureExtractor:
    """The output of a model's layer; a map is averaged over space, or over space and time.

    Args:
        model: from frames or windows, see `FeatureExtractor`.
        layer: the layer's name.
        network: the network's name.
        window_frames: see `FeatureExtractor`.
        others: further names to offer where there is no such layer.

    Raises:
        ValueError: when there is no such layer.
    """
    names = [inner.name for inner in model.layers[1:]]
    if layer not in names:
        raise ValueError(
            f"`layer` must be one of {', '.join((*others, *names))} of '{network}'. "
            f"Received: layer={layer!r}."
        )
    features = first_output(model.get_layer(layer))
    if len(features.shape) > 2:
        features = _AVERAGES[len(features.shape)](name="pooled")(features)
    model = keras.Model(model.input, features, name=f"{network}_{layer}")
    return FeatureExtractor(f"{network}/{layer}", model, window_frames)
