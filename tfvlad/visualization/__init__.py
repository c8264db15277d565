"""Pictures of what a model sees, as matplotlib figures."""

from tfvlad.visualization.attention import attention_figure
from tfvlad.visualization.embedding import embed, embedding_figure
from tfvlad.visualization.highlights import (
    class_gain_figure,
    extreme_frames_figure,
    timeline_figure,
    weighted_frames_figure,
)
from tfvlad.visualization.seen import SeenClips, look
from tfvlad.visualization.words import (
    action_words_figure,
    word_map_figure,
    word_shares,
    word_track_figure,
)

__all__ = [
    "SeenClips",
    "action_words_figure",
    "attention_figure",
    "class_gain_figure",
    "embed",
    "embedding_figure",
    "extreme_frames_figure",
    "look",
    "timeline_figure",
    "weighted_frames_figure",
    "word_map_figure",
    "word_shares",
    "word_track_figure",
]
