"""ResNet-18 and ResNet-34 with torchvision's definition."""

import os
from typing import Any

import keras
from keras import layers

from tfvlad.backbones.backbone import Backbone, from_model, input_images
from tfvlad.backbones.published_weights import load_torch_weights
from tfvlad.layers.image_normalization import ImageNormalization


def resnet18(
    *, weights: str | os.PathLike[str] | None = None, image_size: int | tuple[int, int] = 224
) -> Backbone:
    """ResNet-18. See `resnet34`, from which it differs in having 2 residual units a block."""
    return _resnet("resnet18", (2, 2, 2, 2), weights, image_size)


def resnet34(
    *, weights: str | os.PathLike[str] | None = None, image_size: int | tuple[int, int] = 224
) -> Backbone:
    """ResNet-34 up to the sum of its last residual unit: a map of 512 channels, 1/32.

    Torchvision's definition: explicit padding as in PyTorch, batch norms with epsilon 1e-5. Layers
    are named as in the published files. Blocks: "stem", "layer1" to "layer4". The classifier is
    `fc`.

    Args:
        weights: a published file with torchvision's or timm's tensor names, such as
            `resnet34-b627a593.pth` of torchvision (needs PyTorch) or `model.safetensors` of
            `timm/resnet34.tv_in1k` on the Hugging Face hub (does not). None for random weights and
            1,000 classes.
        image_size: size of the frames in pixels: the side of a square, or (height, width).

    Raises:
        ValueError: when a tensor in the file is missing, not expected or of another shape.

    Reference:
        He et al., Deep Residual Learning for Image Recognition, CVPR 2016.
    """
    return _resnet("resnet34", (3, 4, 6, 3), weights, image_size)


def torchvision_normalization() -> ImageNormalization:
    """RGB with the mean 0 and the standard deviation 1 on ImageNet, as torchvision has it."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return ImageNormalization(
        tuple(255 * value for value in mean),
        tuple(255 * value for value in std),
        name="normalization",
    )


def _resnet(
    name: str,
    num_units: tuple[int, ...],
    weights: str | os.PathLike[str] | None,
    image_size: int | tuple[int, int],
) -> Backbone:
    images = input_images(image_size)
    x = torchvision_normalization()(images)
    x = _convolution(x, 64, kernel_size=7, strides=2, name="conv1")
    x = _batch_norm(x, "bn1")
    x = layers.ReLU(name="relu")(x)
    # Zeros instead of PyTorch's minus infinity: there are no values below 0 behind the ReLU.
    x = layers.ZeroPadding2D(1, name="maxpool.pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="maxpool")(x)
    for index, units in enumerate(num_units):
        for unit in range(units):
            strides = 2 if index > 0 and unit == 0 else 1
            x = _residual_unit(x, 64 * 2**index, strides, f"layer{index + 1}.{unit}")
    model = keras.Model(images, x, name=name)

    classifier = layers.Dense(1000)
    classifier.build((None, 512))
    kernel, bias = classifier.get_weights()
    if weights is not None:
        kernel, bias = load_torch_weights(model, weights)

    blocks: dict[str, tuple[str, ...]] = {}
    for layer in model.layers[2:-1]:  # without the input, the normalization and the last ReLU
        prefix = layer.name.split(".")[0]
        block = prefix if prefix.startswith("layer") else "stem"
        blocks[block] = (*blocks.get(block, ()), layer.name)
    return from_model(model, classifier_kernel=kernel, classifier_bias=bias, blocks=blocks)


def _residual_unit(x: Any, filters: int, strides: int, name: str) -> Any:
    shortcut = x
    x = _convolution(x, filters, kernel_size=3, strides=strides, name=f"{name}.conv1")
    x = _batch_norm(x, f"{name}.bn1")
    x = layers.ReLU(name=f"{name}.relu1")(x)
    x = _convolution(x, filters, kernel_size=3, strides=1, name=f"{name}.conv2")
    x = _batch_norm(x, f"{name}.bn2")
    if strides > 1:
        shortcut = _convolution(
            shortcut, filters, kernel_size=1, strides=strides, name=f"{name}.downsample.0"
        )
        shortcut = _batch_norm(shortcut, f"{name}.downsample.1")
    x = layers.Add(name=f"{name}.add")([x, shortcut])
    return layers.ReLU(name=f"{name}.relu2")(x)


def _convolution(x: Any, filters: int, *, kernel_size: int, strides: int, name: str) -> Any:
    # "same" pads strided convolutions on other sides than PyTorch does.
    if kernel_size > 1:
        x = layers.ZeroPadding2D(kernel_size // 2, name=f"{name}.pad")(x)
    return layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)


def _batch_norm(x: Any, name: str) -> Any:
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)
