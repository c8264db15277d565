"""Frame feature extractors: from raw frames to feature maps."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfvlad.backbones.backbone import Backbone, fingerprint, from_model
    from tfvlad.backbones.keras_applications import mobilenet_v2, vgg16, vgg19
    from tfvlad.backbones.resnet import resnet18, resnet34
    from tfvlad.backbones.small_cnn import fit_small_cnn, small_cnn, small_cnn_backbone

__all__ = [
    "Backbone",
    "fingerprint",
    "fit_small_cnn",
    "from_model",
    "mobilenet_v2",
    "resnet18",
    "resnet34",
    "small_cnn",
    "small_cnn_backbone",
    "vgg16",
    "vgg19",
]

_MODULES = {
    "Backbone": "backbone",
    "fingerprint": "backbone",
    "fit_small_cnn": "small_cnn",
    "from_model": "backbone",
    "mobilenet_v2": "keras_applications",
    "resnet18": "resnet",
    "resnet34": "resnet",
    "small_cnn": "small_cnn",
    "small_cnn_backbone": "small_cnn",
    "vgg16": "keras_applications",
    "vgg19": "keras_applications",
}


# TensorFlow is imported only when a backbone is asked for.
def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
