"""The dense layers of VGG-16 and VGG-19."""

import os

import keras
from keras import layers

from tfvlad.backbones.backbone import Backbone, input_images, split_last_activation
from tfvlad.backbones.extractors import FeatureExtractor, extractor_at
from tfvlad.backbones.keras_applications import caffe_normalization, vgg_blocks
from tfvlad.backbones.published_weights import is_keras_layout, read_tensors, set_weights
from tfvlad.backbones.resnet import torchvision_normalization

DENSE_LAYERS = ("fc6", "fc7", "fc8")

_FILTERS = (64, 128, 256, 512, 512)
_NUM_UNITS = 4096
# The names of the dense layers in the published files.
_KERAS_NAMES = ("fc1", "fc2", "predictions")
_TORCHVISION_NAMES = ("classifier.0", "classifier.3", "classifier.6")
_TIMM_NAMES = ("pre_logits.fc1", "pre_logits.fc2", "head.fc")


def vgg19_dense(layer: str = "fc6", *, weights: str | os.PathLike[str] | None) -> FeatureExtractor:
    """Features of a dense layer of VGG-19, a vector for each RGB frame of 224x224 pixels.

    Args:
        layer: "fc6" or "fc7", 4,096 channels after the ReLU, or "fc8", the scores before the
            softmax.
        weights: a published file with the dense layers: an `.h5` file of Keras, such as
            `vgg19_weights_tf_dim_ordering_tf_kernels.h5`, or a file with torchvision's or timm's
            tensor names, such as `vgg19-dcbb9e9d.pth` (needs PyTorch) or `model.safetensors` of
            `timm/vgg19.tv_in1k` on the Hugging Face hub (does not). The number of classes is the
            file's: 1,000 objects, 205 scenes or any other. The layout tells the preprocessing:
            Keras' and Caffe's (BGR, mean subtracted) for `.h5`, else torchvision's (RGB, mean and
            standard deviation). None for random weights, 1,000 classes and Keras' preprocessing.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when there is no such layer, or a tensor in the file is missing, not expected or
            of another shape.

    Reference:
        Simonyan, Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition,
        ICLR 2015.
    """
    return _vgg_dense("vgg19", (2, 2, 4, 4, 4), layer, weights)


def vgg16_dense(layer: str = "fc6", *, weights: str | os.PathLike[str] | None) -> FeatureExtractor:
    """Features of a dense layer of VGG-16. See `vgg19_dense`."""
    return _vgg_dense("vgg16", (2, 2, 3, 3, 3), layer, weights)


def dense_backbone(
    network: str,
    layer: str = "fc7",
    *,
    weights: str | os.PathLike[str] | None,
    image_size: int | tuple[int, int] = 224,
) -> Backbone:
    """VGG up to a dense layer, before its ReLU, as a map of one location, `(B, 1, 1, 4096)`.

    Blocks: "block1" to "block5", "fc6" and, with it, "fc7". There is no classifier.

    Args:
        network: "vgg16" or "vgg19".
        layer: "fc6" or "fc7".
        weights: see `vgg19_dense`.
        image_size: 224 pixels, the only size that the dense layers take.

    Raises:
        ValueError: when there is no such network or layer, or it does not take the image size or
            the file.

    Reference:
        Girdhar et al., ActionVLAD, the study of where to aggregate (fc7).
    """
    for argument, value, values in (
        ("network", network, ("vgg16", "vgg19")),
        ("layer", layer, ("fc6", "fc7")),
    ):
        if value not in values:
            raise ValueError(
                f"`{argument}` must be {' or '.join(values)}. Received: {argument}={value!r}."
            )
    if image_size not in (224, (224, 224)):
        raise ValueError(
            f"`image_size` of {network}'s dense layers must be 224. "
            f"Received: image_size={image_size}."
        )
    build = vgg16_dense if network == "vgg16" else vgg19_dense
    features = build(layer, weights=weights).model
    activation, pre_activation = split_last_activation(features)
    maps = layers.Reshape((1, 1, _NUM_UNITS), name="one_location")(pre_activation)
    name = f"{network}_{layer}"
    blocks = {**vgg_blocks(features), "fc6": ("block5_pool", "flatten", "fc6")}
    if layer == "fc7":
        blocks["fc7"] = ("fc7",)
    return Backbone(name, keras.Model(features.input, maps, name=name), activation, blocks=blocks)


def _vgg_dense(
    name: str, num_convolutions: tuple[int, ...], layer: str, weights: str | os.PathLike[str] | None
) -> FeatureExtractor:
    if layer not in DENSE_LAYERS:
        raise ValueError(
            f"`layer` must be one of {', '.join(DENSE_LAYERS)}. Received: layer={layer!r}."
        )
    if weights is None:
        model = _build(name, num_convolutions, 1000, caffe_normalization())
        return extractor_at(model, layer, network=name)
    tensors = read_tensors(weights)
    if is_keras_layout(tensors):
        normalization = caffe_normalization()
        modules = dict(zip(DENSE_LAYERS, _KERAS_NAMES, strict=True))
        bias = tensors.get("predictions/bias", ())
    else:
        normalization = torchvision_normalization()
        is_timm = any(tensor.startswith("pre_logits.") for tensor in tensors)
        names = _TIMM_NAMES if is_timm else _TORCHVISION_NAMES
        modules = dict(zip(DENSE_LAYERS, names, strict=True))
        modules |= _torch_convolutions(num_convolutions)
        bias = tensors.get(f"{names[-1]}.bias", ())
        # Timm's first two dense layers are convolutions over the whole map.
        tensors |= {
            tensor: value.reshape(len(value), -1)
            for tensor, value in tensors.items()
            if tensor.startswith("pre_logits.") and value.ndim > 1
        }
    model = _build(name, num_convolutions, len(bias) or 1000, normalization)
    set_weights(
        model,
        tensors,
        path=weights,
        modules=modules,
        advice=f"Keras', torchvision's and timm's files of {name} with the dense layers fit.",
    )
    return extractor_at(model, layer, network=name)


def _torch_convolutions(num_convolutions: tuple[int, ...]) -> dict[str, str]:
    """From the names of the convolutions to torchvision's, which number every ReLU and pooling."""
    modules, number = {}, 0
    for block, num_layers in enumerate(num_convolutions, start=1):
        for index in range(1, num_layers + 1):
            modules[f"block{block}_conv{index}"] = f"features.{number}"
            number += 2
        number += 1
    return modules


def _build(
    name: str,
    num_convolutions: tuple[int, ...],
    num_classes: int,
    normalization: keras.layers.Layer,
) -> keras.Model:
    images = input_images(224)
    x = normalization(images)
    for block, num_layers in enumerate(num_convolutions, start=1):
        for index in range(1, num_layers + 1):
            x = layers.Conv2D(
                _FILTERS[block - 1],
                3,
                padding="same",
                activation="relu",
                name=f"block{block}_conv{index}",
            )(x)
        x = layers.MaxPooling2D(name=f"block{block}_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(_NUM_UNITS, activation="relu", name="fc6")(x)
    x = layers.Dense(_NUM_UNITS, activation="relu", name="fc7")(x)
    return keras.Model(images, layers.Dense(num_classes, name="fc8")(x), name=name)
