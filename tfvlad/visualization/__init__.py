"""Pictures of what a model sees, as matplotlib figures."""

from tfvlad.visualization.attention import attention_figure
from tfvlad.visualization.highlights import (
    class_gain_figure,
    extreme_frames_figure,
    timeline_figure,
    weighted_frames_figure,
)

__all__ = [
    "attention_figure",
    "class_gain_figure",
    "extreme_frames_figure",
    "timeline_figure",
    "weighted_frames_figure",
]
