"""What a training is asked for: one frozen object for a run on videos, one for a run on features.

The same object is passed to `tfvlad.train`, stands in the run's config.json, is varied by
`tuning.tune`, and is what the command's options fill.
"""

from tfvlad.runs.settings.feature_settings import FeatureSettings
from tfvlad.runs.settings.video_settings import VideoSettings

__all__ = ["FeatureSettings", "VideoSettings"]
