"""Training: k-means centres, stages, cached features, resumable runs."""

from tfvlad.training.clip_source import ClipSource, FeatureSource
from tfvlad.training.clusters import initialize_clusters
from tfvlad.training.feature_cache import CachedClips, FeatureCache
from tfvlad.training.feature_fitting import fit_on_features, predict_on_features
from tfvlad.training.fitting import fit_in_stages
from tfvlad.training.frame_orders import (
    frame_order,
    predict_features_in_orders,
    predict_in_orders,
)
from tfvlad.training.networks import check_one_bag, frozen_part, predict_logits, trained_part
from tfvlad.training.stage_run import hash_of
from tfvlad.training.stages import (
    Stage,
    action_vlad_stages,
    attention_lstm_stage,
    hollywood2_stage,
    ta_vlad_stages,
)
from tfvlad.training.streams import PairedStreams

__all__ = [
    "CachedClips",
    "ClipSource",
    "FeatureCache",
    "FeatureSource",
    "PairedStreams",
    "Stage",
    "action_vlad_stages",
    "attention_lstm_stage",
    "check_one_bag",
    "fit_in_stages",
    "fit_on_features",
    "frame_order",
    "frozen_part",
    "hash_of",
    "hollywood2_stage",
    "initialize_clusters",
    "predict_features_in_orders",
    "predict_in_orders",
    "predict_logits",
    "predict_on_features",
    "ta_vlad_stages",
    "trained_part",
]
