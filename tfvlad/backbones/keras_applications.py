"""MobileNetV2 and VGG from `keras.applications`."""

import os
from collections.abc import Callable
from typing import Any

import keras

from tfvlad.backbones.backbone import Backbone, from_model, input_images
from tfvlad.layers.image_normalization import ImageNormalization


def mobilenet_v2(
    *, weights: str | os.PathLike[str] | None = "imagenet", image_size: int | tuple[int, int] = 224
) -> Backbone:
    """MobileNetV2 (width 1.0), up to the batch norm of `Conv_1`: a map of 1,280 channels, 1/32.

    Blocks: "stem", "block_1" to "block_16", "conv_1". The classifier is the `predictions` layer's
    1,000 ImageNet classes.

    Args:
        weights: "imagenet" (downloaded by Keras), the path of an `.h5` file in Keras' layout with
            its `predictions` layer, or None for random weights.
        image_size: size of the frames in pixels: the side of a square, or (height, width).

    Raises:
        ValueError: when `weights` is neither a file nor known, or does not fit.

    Reference:
        Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018.
    """
    classifier = _build(
        keras.applications.MobileNetV2,
        weights,
        images=ImageNormalization(127.5, 127.5, name="normalization")(input_images(image_size)),
        advice="It must be saved with the `predictions` layer.",
        classifier_activation=None,
    )
    blocks: dict[str, tuple[str, ...]] = {}
    features = keras.Model(classifier.input, classifier.get_layer("out_relu").output)
    for layer in features.layers[2:-1]:  # without the input, the normalization and the last ReLU
        if layer.name.startswith("block_"):
            block = "_".join(layer.name.split("_")[:2])
        else:
            block = "conv_1" if layer.name.startswith("Conv_1") else "stem"
        blocks[block] = (*blocks.get(block, ()), layer.name)
    kernel, bias = classifier.get_layer("predictions").get_weights()
    return from_model(
        features,
        name="mobilenet_v2",
        classifier_kernel=kernel,
        classifier_bias=bias,
        blocks=blocks,
    )


def vgg16(
    *, weights: str | os.PathLike[str] | None = "imagenet", image_size: int | tuple[int, int] = 224
) -> Backbone:
    """VGG-16 up to `block5_conv3`, as ActionVLAD uses it: a map of 512 channels, 1/16.

    Blocks: "block1" to "block5". There is no classifier on averaged features.

    Args:
        weights: "imagenet" (downloaded by Keras), the path of an `.h5` file in Keras' layout
            without the dense layers (`..._notop.h5`), or None for random weights.
        image_size: size of the frames in pixels: the side of a square, or (height, width).

    Raises:
        ValueError: when `weights` is neither a file nor known, or does not fit.

    Reference:
        Simonyan, Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition,
        ICLR 2015.
    """
    return _vgg("vgg16", keras.applications.VGG16, "block5_conv3", weights, image_size)


def vgg19(
    *, weights: str | os.PathLike[str] | None = "imagenet", image_size: int | tuple[int, int] = 224
) -> Backbone:
    """VGG-19 up to `block5_conv4`: a map of 512 channels, 1/16. See `vgg16`."""
    return _vgg("vgg19", keras.applications.VGG19, "block5_conv4", weights, image_size)


def caffe_normalization() -> ImageNormalization:
    """BGR less the mean of ImageNet, as in the Caffe release of VGG's weights and in Keras."""
    return ImageNormalization(
        mean=(103.939, 116.779, 123.68), channel_order="bgr", name="normalization"
    )


def _vgg(
    name: str,
    application: Callable[..., keras.Model],
    last_layer: str,
    weights: str | os.PathLike[str] | None,
    image_size: int | tuple[int, int],
) -> Backbone:
    network = _build(
        application,
        weights,
        images=caffe_normalization()(input_images(image_size)),
        advice="It must be saved without the dense layers: the `notop` file.",
        include_top=False,
    )
    features = keras.Model(network.input, network.get_layer(last_layer).output)
    return from_model(features, name=name, blocks=vgg_blocks(features))


def vgg_blocks(network: keras.Model) -> dict[str, tuple[str, ...]]:
    """The convolutional blocks of a VGG whose first layers are the input and the normalization."""
    blocks: dict[str, tuple[str, ...]] = {}
    number = 1
    for layer in network.layers[2:]:
        # Each block but the first begins with the pooling layer named after the one before.
        number += layer.name.endswith("_pool")
        if number < 6:
            blocks[f"block{number}"] = (*blocks.get(f"block{number}", ()), layer.name)
    return blocks


def _build(
    application: Callable[..., keras.Model],
    weights: str | os.PathLike[str] | None,
    *,
    images: Any,
    advice: str,
    **kwargs: Any,
) -> keras.Model:
    weights = None if weights is None else str(weights)
    try:
        return application(input_tensor=images, weights=weights, **kwargs)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"`weights` must be 'imagenet', None or an .h5 file of {application.__name__} in "
            f"Keras' layout. {advice} Received: weights={weights!r} ({error})."
        ) from error
