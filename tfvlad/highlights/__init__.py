"""A video, or an array, of any length -> scores over time -> moments, pictures, a clip."""

from tfvlad.highlights.chunk_models import attention_chunk_model, clip_chunk_model
from tfvlad.highlights.chunks import ArrayInput, ChunkInput, ChunkModel, ChunkPredictions
from tfvlad.highlights.finding import find_highlights, highlight
from tfvlad.highlights.video_highlights import VideoHighlights

__all__ = [
    "ArrayInput",
    "ChunkInput",
    "ChunkModel",
    "ChunkPredictions",
    "VideoHighlights",
    "attention_chunk_model",
    "clip_chunk_model",
    "find_highlights",
    "highlight",
]
