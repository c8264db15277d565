"""Networks by their names."""

import os
from collections.abc import Callable

from tfvlad.backbones.backbone import Backbone
from tfvlad.backbones.c3d_network import c3d
from tfvlad.backbones.dense_vgg import DENSE_LAYERS, vgg16_dense, vgg19_dense
from tfvlad.backbones.extractors import FeatureExtractor, feature_extractor
from tfvlad.backbones.keras_applications import mobilenet_v2, vgg16, vgg19
from tfvlad.backbones.resnet import resnet18, resnet34

BACKBONES: dict[str, Callable[..., Backbone]] = {
    "mobilenet_v2": mobilenet_v2,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "vgg16": vgg16,
    "vgg19": vgg19,
}


def build_extractor(
    network: str,
    layer: str,
    *,
    weights: str | os.PathLike[str] | None,
    image_size: int | tuple[int, int] | None = None,
) -> FeatureExtractor:
    """A feature extractor by the names of its network and layer.

    Args:
        network: "mobilenet_v2", "resnet18", "resnet34", "vgg16", "vgg19" or "c3d".
        layer: for C3D see `c3d`; of a VGG "fc6", "fc7" or "fc8", see `vgg19_dense`; else see
            `feature_extractor`.
        weights: a file of the layout that the network's function takes: of a VGG the one with the
            dense layers for "fc6", "fc7" and "fc8" and the one without them for other layers.
            None for random weights.
        image_size: size of the frames in pixels, the side of a square or (height, width); by
            default the published one. Dense layers of VGG (224) and C3D (112) take no other.

    Raises:
        ValueError: when there is no such network or layer, or it does not take the image size or
            the file.
    """
    networks = (*BACKBONES, "c3d")
    if network not in networks:
        raise ValueError(
            f"`network` must be one of {', '.join(networks)}. Received: network={network!r}."
        )
    is_vgg = network in ("vgg16", "vgg19")
    if network == "c3d" or (is_vgg and layer in DENSE_LAYERS):
        side = 112 if network == "c3d" else 224
        if image_size not in (None, side, (side, side)):
            raise ValueError(
                f"`image_size` of {network}'s dense layers must be {side}. "
                f"Received: image_size={image_size}."
            )
        build = {"c3d": c3d, "vgg16": vgg16_dense, "vgg19": vgg19_dense}[network]
        return build(layer, weights=weights)
    if is_vgg and layer == "scores":
        raise ValueError(
            f"'{network}' has no classifier on averaged features. The scores of its dense layers "
            "are layer='fc8'."
        )
    backbone = BACKBONES[network](weights=weights, image_size=image_size or 224)
    return feature_extractor(backbone, layer)
