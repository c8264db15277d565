"""Training: k-means centres, stages, cached features, resumable runs."""

from tfvlad.training.clip_source import ClipSource
from tfvlad.training.clusters import initialize_clusters
from tfvlad.training.feature_cache import CachedClips, FeatureCache
from tfvlad.training.fitting import fit_in_stages
from tfvlad.training.networks import predict_logits, split_networks
from tfvlad.training.stages import Stage, action_vlad_stages, ta_vlad_stages

__all__ = [
    "CachedClips",
    "ClipSource",
    "FeatureCache",
    "Stage",
    "action_vlad_stages",
    "fit_in_stages",
    "initialize_clusters",
    "predict_logits",
    "split_networks",
    "ta_vlad_stages",
]
