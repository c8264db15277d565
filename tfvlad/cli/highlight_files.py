"""What `tfvlad highlight` writes of a video: a description, pictures and a clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.decoding import VideoInfo, read_frames
from pipelines.encoding import cut_video
from tfvlad.cli.highlight_scores import VideoHighlights
from tfvlad.visualization import extreme_frames_figure, timeline_figure, weighted_frames_figure

_NUM_TOP_CLASSES = 5
_NUM_EXTREMES = 4
_NUM_SHOWN = 8


def describe(
    found: VideoHighlights, path: str, info: VideoInfo, class_names: Sequence[str]
) -> dict[str, Any]:
    """The content of highlights.json."""
    ranking = np.argsort(-found.probabilities, kind="stable")[:_NUM_TOP_CLASSES]
    columns = {
        "frame": found.frames,
        "start_seconds": found.starts,
        "attention": found.attention,
        "probability": found.chunk_probabilities,
        "score": found.scores,
    }
    rows = zip(*(np.round(column, 6).tolist() for column in columns.values()), strict=True)
    return {
        "video": path,
        "class": class_names[found.class_index],
        "probability": round(float(found.probabilities[found.class_index]), 6),
        "top_classes": [
            {"class": class_names[i], "probability": round(float(found.probabilities[i]), 6)}
            for i in ranking
        ],
        "duration_seconds": round(info.duration_seconds, 6),
        "chunk_seconds": round(found.chunk_seconds, 6),
        "intervals": [
            {name: round(value, 6) for name, value in interval._asdict().items()}
            for interval in found.intervals
        ],
        "rows": [dict(zip(columns, row, strict=True)) for row in rows],
    }


def write_figures(
    folder: Path, found: VideoHighlights, path: str, info: VideoInfo, class_names: Sequence[str]
) -> None:
    """Write extremes.png, frames.png and timeline.png; only the frames shown are decoded."""
    spread = np.linspace(0, len(found.frames) - 1, min(_NUM_SHOWN, len(found.frames)))
    chosen = {"frames": np.unique(spread.round().astype(int))}
    if len(found.frames) > 1:
        chosen["extremes"] = _extremes(found)
    shown = np.unique(np.concatenate(list(chosen.values())))
    images = read_frames(path, found.frames[shown], info=info)
    relative = found.scores / (found.scores.mean() or 1.0)
    title = class_names[found.class_index]
    for name, rows in chosen.items():
        options = {"frame_numbers": (found.frames[rows] + 1).tolist(), "title": title}
        here = images[np.searchsorted(shown, rows)]
        if name == "extremes":
            figure = extreme_frames_figure(here, relative[rows], num_shown=_NUM_EXTREMES, **options)
        else:
            figure = weighted_frames_figure(here, relative[rows], num_shown=len(rows), **options)
        figure.savefig(folder / f"{name}.png", dpi=150)
    figure = timeline_figure(found.starts, found.scores, found.intervals, title=title)
    figure.savefig(folder / "timeline.png", dpi=150)


def write_clip(
    output: Path, found: VideoHighlights, path: str, max_seconds: float
) -> list[tuple[float, float]]:
    """Cut out the highlights of the highest scores, in the order of time; returns them.

    The one that would be too long is shortened about its highest score.
    """
    chosen: list[tuple[float, float]] = []
    left = max_seconds
    for start, end, _ in sorted(found.intervals, key=lambda interval: -interval.score):
        if end - start > left:
            inside = np.flatnonzero((found.starts >= start) & (found.starts < end))
            peak = found.starts[inside[found.scores[inside].argmax()]]
            start = float(np.clip(peak - left / 2, start, end - left))
            end = start + left
        if end > start:
            chosen.append((start, end))
        left -= end - start
    chosen.sort()
    cut_video(path, chosen, output)
    return chosen


def _extremes(found: VideoHighlights) -> np.ndarray:
    """The rows of the highest and of the lowest scores, a quarter of a chunk apart if possible."""
    count = min(_NUM_EXTREMES, len(found.frames) // 2)
    order = np.argsort(-found.scores, kind="stable")
    highest = _apart(order, found.starts, found.chunk_seconds / 4, count, ())
    lowest = _apart(order[::-1], found.starts, found.chunk_seconds / 4, count, highest)
    return np.sort([*highest, *lowest])


def _apart(
    order: np.ndarray, starts: np.ndarray, gap_seconds: float, count: int, taken: Sequence[int]
) -> list[int]:
    chosen: list[int] = []
    for gap in (gap_seconds, 0.0):
        for row in order.tolist():
            is_near = any(abs(starts[row] - starts[other]) < gap for other in chosen)
            if len(chosen) < count and row not in chosen and row not in taken and not is_near:
                chosen.append(row)
    return chosen
