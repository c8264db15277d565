"""From a video to its highlights."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from pipelines.progress import progress_bar
from pipelines.video.info import VideoInfo
from tfvlad.evaluation import FrameScores, highlight_intervals
from tfvlad.highlights.chunks import ChunkModel, ChunkPredictions
from tfvlad.highlights.video_highlights import VideoHighlights


def highlight(
    model: ChunkModel,
    path: str | os.PathLike[str],
    class_name: str | None = None,
    threshold: float = 1.5,
) -> VideoHighlights:
    """Find when an action happens in a video, or in an array of its features, of any length.

    The video is checked, and then read once in chunks, each half over the one before it. A frame's
    score is its weight relative to the chunk's mean, times the chunk's confidence, averaged over
    the chunks that saw it. The confidence is the probability of the class above chance, or the
    probability where a clip may have several classes. Scores are smoothed over a quarter of a
    chunk; moments closer than that to each other become one, shorter ones are dropped.

    Args:
        model: of chunks.
        path: video file; of a model of arrays, the file of one, see `pipelines.read_array`.
        class_name: class that is highlighted; by default the most probable one of the video.
        threshold: multiple of the video's mean score from which a moment stands out.

    Raises:
        ValueError: when the model does not know the class, or `threshold` is negative.
        BrokenVideoError: when the video cannot be decoded, or the array cannot be used; the message
            names it.
    """
    check_arguments(model, class_name, threshold)
    info = model.inputs[0].info(path)
    num_chunks = len(model.chunks(info.num_frames))
    with progress_bar(f"Chunks of {Path(path).name}", num_chunks, transient=True) as bar:
        predictions = model.predictions(path, info.num_frames, bar.update)
    return find_highlights(predictions, model, path, info, class_name, threshold)


def find_highlights(
    predictions: ChunkPredictions,
    model: ChunkModel,
    path: str | os.PathLike[str],
    info: VideoInfo,
    class_name: str | None = None,
    threshold: float = 1.5,
) -> VideoHighlights:
    """From what a model makes of the chunks of a video to its highlights.

    Args:
        predictions: of the video's chunks.
        model: that made the predictions.
        path: of the video, or of the array.
        info: about the video.
        class_name: class that is highlighted; by default the one of the highest mean probability.
        threshold: multiple of the mean score from which a moment stands out.

    Raises:
        ValueError: when the model does not know the class, or `threshold` is negative.
    """
    check_arguments(model, class_name, threshold)
    means = predictions.probabilities.mean(axis=0)
    chosen = int(means.argmax()) if class_name is None else model.class_names.index(class_name)
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
    moments = highlight_intervals(
        starts,
        scores,
        duration_seconds=info.duration_seconds,
        threshold=threshold,
        smoothing_seconds=chunk_seconds / 4,
        merge_seconds=chunk_seconds / 4,
        min_seconds=chunk_seconds / 4,
    )
    return VideoHighlights(
        os.fspath(path),
        info,
        model.class_names,
        means,
        model.class_names[chosen],
        tuple(moments),
        chunk_seconds,
        frames,
        starts,
        collected(weights, np.ones_like(probabilities)),
        collected(np.ones_like(weights), probabilities),
        scores,
        of_array=model.reads_arrays,
        unit="seconds" if model.tells_seconds else "features",
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


def check_arguments(model: ChunkModel, class_name: str | None, threshold: float) -> None:
    """Refuse a class that there is not, and a threshold that no score is below.

    Raises:
        ValueError: when it is one.
    """
    if class_name is not None and class_name not in model.class_names:
        raise ValueError(
            f"`class_name` must be one of {', '.join(model.class_names)}. "
            f"Received: class_name={class_name}."
        )
    if not threshold >= 0:
        raise ValueError(f"`threshold` must not be negative. Received: threshold={threshold}.")
