"""tfvlad: recognise and highlight actions in videos with VLAD pooling and attention in Keras.

Importing it registers its layers with Keras, so that `keras.models.load_model` needs no
`custom_objects`.
"""

from importlib.metadata import version

from tfvlad import (
    backbones,
    evaluation,
    highlights,
    layers,
    live,
    models,
    ops,
    studies,
    training,
    visualization,
)
from tfvlad.runs import FeatureSettings, Run, VideoSettings, extract_features, load, train

__version__ = version("tfvlad")

__all__ = [
    "FeatureSettings",
    "Run",
    "VideoSettings",
    "__version__",
    "backbones",
    "evaluation",
    "extract_features",
    "highlights",
    "layers",
    "live",
    "load",
    "models",
    "ops",
    "studies",
    "train",
    "training",
    "visualization",
]
