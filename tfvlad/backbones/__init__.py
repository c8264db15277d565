"""Feature extractors: from raw frames to feature maps, and to the features of a named layer."""

from tfvlad.backbones.backbone import Backbone, fingerprint, from_model
from tfvlad.backbones.c3d_network import c3d
from tfvlad.backbones.catalog import build_extractor
from tfvlad.backbones.cut import aggregate_at, with_frozen_copy
from tfvlad.backbones.dense_vgg import dense_backbone, vgg16_dense, vgg19_dense
from tfvlad.backbones.extractors import FeatureExtractor, feature_extractor
from tfvlad.backbones.flow import flow_backbone
from tfvlad.backbones.keras_applications import mobilenet_v2, vgg16, vgg19
from tfvlad.backbones.resnet import resnet18, resnet34
from tfvlad.backbones.small_cnn_network import fit_small_cnn, small_cnn, small_cnn_backbone

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
