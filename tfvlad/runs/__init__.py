"""A run: a training into a folder, and what its model answers."""

from tfvlad.runs.answers.pictures import Pictures
from tfvlad.runs.answers.predictions import Prediction, Predictions
from tfvlad.runs.answers.testing import Evaluation
from tfvlad.runs.feature_networks import extract_features
from tfvlad.runs.run import Run, load
from tfvlad.runs.settings import FeatureSettings, VideoSettings
from tfvlad.runs.training.run_training import train

__all__ = [
    "Evaluation",
    "FeatureSettings",
    "Pictures",
    "Prediction",
    "Predictions",
    "Run",
    "VideoSettings",
    "extract_features",
    "load",
    "train",
]
