"""Feature extractors: from raw frames to feature maps, and to the features of a named layer."""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfvlad.backbones.backbone import Backbone, fingerprint, from_model
    from tfvlad.backbones.c3d import c3d
    from tfvlad.backbones.cut import aggregate_at, with_frozen_copy
    from tfvlad.backbones.dense_vgg import dense_backbone, vgg16_dense, vgg19_dense
    from tfvlad.backbones.feature_extractor import (
        FeatureExtractor,
        build_extractor,
        feature_extractor,
    )
    from tfvlad.backbones.flow import flow_backbone
    from tfvlad.backbones.keras_applications import mobilenet_v2, vgg16, vgg19
    from tfvlad.backbones.resnet import resnet18, resnet34
    from tfvlad.backbones.small_cnn import fit_small_cnn, small_cnn, small_cnn_backbone

__all__ = [
    "Backbone",
    "FeatureExtractor",
    "aggregate_at",
    "build_extractor",
    "c3d",
    "dense_backbone",
    "feature_extractor",
    "fingerprint",
    "fit_small_cnn",
    "flow_backbone",
    "from_model",
    "mobilenet_v2",
    "resnet18",
    "resnet34",
    "small_cnn",
    "small_cnn_backbone",
    "vgg16",
    "vgg16_dense",
    "vgg19",
    "vgg19_dense",
    "with_frozen_copy",
]

_MODULES = {
    "Backbone": "backbone",
    "FeatureExtractor": "feature_extractor",
    "aggregate_at": "cut",
    "build_extractor": "feature_extractor",
    "c3d": "c3d",
    "dense_backbone": "dense_vgg",
    "feature_extractor": "feature_extractor",
    "fingerprint": "backbone",
    "fit_small_cnn": "small_cnn",
    "flow_backbone": "flow",
    "from_model": "backbone",
    "mobilenet_v2": "keras_applications",
    "resnet18": "resnet",
    "resnet34": "resnet",
    "small_cnn": "small_cnn",
    "small_cnn_backbone": "small_cnn",
    "vgg16": "keras_applications",
    "vgg16_dense": "dense_vgg",
    "vgg19": "keras_applications",
    "vgg19_dense": "dense_vgg",
    "with_frozen_copy": "cut",
}


# TensorFlow is imported only when a backbone is asked for.
def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


class _Package(ModuleType):
    # The import of a module sets it as an attribute here, which would hide the function that is
    # named as its module.
    def __setattr__(self, name, value):
        if name not in _MODULES or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
