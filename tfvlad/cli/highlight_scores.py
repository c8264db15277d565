"""From what a model makes of the chunks of a video to the video's highlights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.decoding import VideoInfo
from tfvlad.cli.highlight_run import ChunkModel, ChunkPredictions
from tfvlad.evaluation import FrameScores, Highlight, highlight_intervals


@dataclass(frozen=True, eq=False)
class VideoHighlights:
    """The highlights of a class in a video, and the scores of the frames that were looked at.

    Args:
        class_index: of the class.
        probabilities: of all classes, the mean over the chunks, `(C,)`.
        chunk_seconds: length of a chunk.
        frames: that were looked at, ascending, `(R,)`.
        starts: where the time that a frame stands for begins, seconds `(R,)`: halfway between it
            and the frame before.
        attention: of the frames relative to the mean of their chunks, `(R,)`.
        chunk_probabilities: of the class in the chunks that saw the frames, `(R,)`.
        scores: of the frames, `(R,)`.
        intervals: the highlights, in the order of time.
    """

    class_index: int
    probabilities: np.ndarray
    chunk_seconds: float
    frames: np.ndarray
    starts: np.ndarray
    attention: np.ndarray
    chunk_probabilities: np.ndarray
    scores: np.ndarray
    intervals: list[Highlight]


def find_highlights(
    predictions: ChunkPredictions,
    info: VideoInfo,
    model: ChunkModel,
    class_index: int | None = None,
    threshold: float = 1.5,
) -> VideoHighlights:
    """From what a model makes of the chunks of a video to its highlights.

    Args:
        predictions: of the video's chunks.
        info: about the video.
        model: that made the predictions.
        class_index: the class; by default the one of the highest mean probability.
        threshold: multiple of the mean score from which a moment stands out.
    """
    means = predictions.probabilities.mean(axis=0)
    chosen = int(means.argmax()) if class_index is None else class_index
    weights = predictions.weights[..., chosen if predictions.weights.shape[-1] > 1 else 0]
    probabilities = predictions.probabilities[:, chosen]
    frames = np.unique(predictions.frames)

    def collected(chunk_weights: np.ndarray, factors: np.ndarray) -> np.ndarray:
        collector = FrameScores()
        for chunk in zip(predictions.frames, chunk_weights, factors, strict=True):
            collector.add(*chunk)
        return collector.mean()[frames]

    scores = collected(weights, confidences(probabilities, len(means), model.multi_label))
    seconds = info.frame_seconds()[frames]
    starts = np.concatenate([[0.0], (seconds[:-1] + seconds[1:]) / 2])
    chunk_seconds = min(model.chunk_frames, info.num_frames) / info.frames_per_second
    intervals = highlight_intervals(
        starts,
        scores,
        duration_seconds=info.duration_seconds,
        threshold=threshold,
        smoothing_seconds=chunk_seconds / 4,
        merge_seconds=chunk_seconds / 4,
        min_seconds=chunk_seconds / 4,
    )
    return VideoHighlights(
        chosen,
        means,
        chunk_seconds,
        frames,
        starts,
        collected(weights, np.ones_like(probabilities)),
        collected(np.ones_like(weights), probabilities),
        scores,
        intervals,
    )


def confidences(probabilities: np.ndarray, num_classes: int, multi_label: bool) -> np.ndarray:
    """How sure the chunks are of a class, from 0 to 1: the probability above chance.

    `max(0, p - 1/C) / (1 - 1/C)`; the probability itself where a clip may have several classes, or
    where it is above chance in no chunk.
    """
    if multi_label or num_classes == 1:
        return probabilities
    above = np.maximum(probabilities - 1 / num_classes, 0) / (1 - 1 / num_classes)
    return above if above.any() else probabilities
