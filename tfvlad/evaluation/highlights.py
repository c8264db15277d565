"""From the weights that a model gives to frames to the highlights of a video, in numpy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Highlight(NamedTuple):
    """An interval of a video; the score is a multiple of the video's mean score."""

    start_seconds: float
    end_seconds: float
    score: float


class AttentionShare(NamedTuple):
    """The share of the weights inside an interval, the uniform weights' share, and the ratio."""

    inside: float
    uniform: float
    ratio: float


class FrameScores:
    """Collects the scores of a video's frames from chunks that may overlap.

    A chunk's weights tell its frames from each other, its class probability tells chunks from each
    other: a frame's score is its weight relative to the uniform weight, times the probability,
    averaged over the chunks that saw it. Only a sum and a count a row are kept, however many chunks
    are added.

    Example:
        >>> scores = FrameScores()
        >>> scores.add([0, 1], [0.75, 0.25], probability=0.5)
        >>> scores.add([1, 2], [0.5, 0.5], probability=0.25)
        >>> scores.mean()
        array([0.75, 0.25, 0.25])
    """

    def __init__(self) -> None:
        # The sums [0] and the counts [1] of the rows so far.
        self._totals = np.zeros((2, 0))

    def add(self, rows: ArrayLike, weights: ArrayLike, probability: float = 1.0) -> None:
        """Adds a chunk.

        Args:
            rows: row of the video that each weight belongs to, a frame or a feature, `(T,)`.
            weights: attention over the chunk, `(T,)`, or one row a step, `(N, T)`, whose mean is
                taken; or attributions, of which the positive part counts. Their sum is free.
            probability: of the class, in this chunk.

        Raises:
            ValueError: when a row is negative, a weight is not finite, or the lengths differ.
            TypeError: when the rows are not integers.
        """
        rows, weights = np.asarray(rows), np.asarray(weights, np.float64)
        if not np.issubdtype(rows.dtype, np.integer):
            raise TypeError(f"`rows` must be integers. Received: dtype={rows.dtype}.")
        if rows.ndim != 1 or weights.ndim not in (1, 2) or weights.shape[-1:] != rows.shape:
            raise ValueError(
                "`rows` must have the shape (T,) and `weights` (T,) or (N, T). "
                f"Received: rows.shape={rows.shape}, weights.shape={weights.shape}."
            )
        if not rows.size or rows.min() < 0:
            raise ValueError(f"`rows` must be at least one row, from 0 on. Received: {rows}.")
        if not np.isfinite(weights).all():
            raise ValueError("`weights` must be finite. Received: NaN or infinity.")
        missing = rows.max() + 1 - self._totals.shape[1]
        if missing > 0:
            # Room for as many again: growing by a chunk at a time would copy for ever.
            self._totals = np.pad(self._totals, ((0, 0), (0, missing + rows.max() + 1)))
        relative = _relative_to_mean(np.atleast_2d(np.maximum(weights, 0))).mean(axis=0)
        np.add.at(self._totals[0], rows, relative * probability)
        np.add.at(self._totals[1], rows, 1)

    def mean(self) -> np.ndarray:
        """Computes the scores of all rows up to the last one seen, float64 `(num_rows,)`.

        A row that no chunk saw gets the value on the line between its neighbours.

        Raises:
            ValueError: when no chunk was added.
        """
        sums, counts = self._totals
        seen = np.flatnonzero(counts)
        if not seen.size:
            raise ValueError("`FrameScores` has no chunk yet. Call `add` first.")
        return np.interp(np.arange(seen[-1] + 1), seen, sums[seen] / counts[seen])


def highlight_intervals(
    seconds: ArrayLike,
    scores: ArrayLike,
    *,
    duration_seconds: float | None = None,
    threshold: float = 1.5,
    smoothing_seconds: float = 1.0,
    merge_seconds: float = 1.0,
    min_seconds: float = 1.0,
) -> list[Highlight]:
    """Finds the intervals of a video whose scores stand out.

    The scores are averaged over a window, and what lies above `threshold` times the mean score of
    the video, the score that uniform weights would give every frame, is kept. Intervals close to
    each other become one, short ones are dropped afterwards.

    Args:
        seconds: start of each row, ascending, `(num_rows,)`; a row lasts to the next one's start.
        scores: not negative, `(num_rows,)`, such as `FrameScores.mean` returns.
        duration_seconds: end of the video. Defaults to a last row of the typical length.
        threshold: multiple of the mean score from which a row counts.
        smoothing_seconds: length of the window; 0 leaves the scores as they are.
        merge_seconds: longest gap that is closed.
        min_seconds: shortest interval that is kept.

    Returns:
        The intervals in the order of time, with the mean of the scores as they came, relative to
        the mean of the video. None at all where the scores are constant or zero.

    Raises:
        ValueError: when the shapes differ, `seconds` do not ascend, a score is negative or not
            finite, or an option is negative.
    """
    seconds, scores = np.asarray(seconds, np.float64), np.asarray(scores, np.float64)
    _check_rows(seconds, scores)
    for name, value in (
        ("threshold", threshold),
        ("smoothing_seconds", smoothing_seconds),
        ("merge_seconds", merge_seconds),
        ("min_seconds", min_seconds),
    ):
        if not value >= 0:
            raise ValueError(f"`{name}` must not be negative. Received: {name}={value}.")
    if duration_seconds is None:
        step = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 1.0
        duration_seconds = float(seconds[-1]) + step
    if duration_seconds <= seconds[-1]:
        raise ValueError(
            "`duration_seconds` must lie behind the start of the last row, "
            f"{seconds[-1]:g} s. Received: duration_seconds={duration_seconds:g}."
        )
    lengths = np.diff(seconds, append=duration_seconds)
    mean = np.average(scores, weights=lengths)
    smoothed = _smooth(seconds, scores, smoothing_seconds)
    # A constant score stands out nowhere, whatever the rounding of its mean.
    above = (smoothed >= threshold * mean) & (smoothed > mean * (1 + 1e-9))
    edges = np.diff(above.astype(int), prepend=0, append=0)
    spans: list[list[int]] = []
    ends = np.append(seconds, duration_seconds)
    starts, stops = (np.flatnonzero(edges == sign).tolist() for sign in (1, -1))
    for first, stop in zip(starts, stops, strict=True):
        if spans and ends[first] - ends[spans[-1][1]] <= merge_seconds:
            spans[-1][1] = stop
        else:
            spans.append([first, stop])
    return [
        Highlight(
            float(ends[first]),
            float(ends[stop]),
            float(np.average(scores[first:stop], weights=lengths[first:stop]) / mean),
        )
        for first, stop in spans
        if ends[stop] - ends[first] >= min_seconds
    ]


def attention_share(weights: ArrayLike, inside: ArrayLike) -> AttentionShare:
    """Computes which share of the weights falls into an interval.

    Args:
        weights: not negative, one a frame, `(T,)`; their sum is free.
        inside: whether each frame lies in the interval, booleans `(T,)`.

    Raises:
        ValueError: when the shapes differ, no frame lies inside, or the weights are negative, not
            finite, or all zero.
    """
    weights, inside = np.asarray(weights, np.float64), np.asarray(inside, bool)
    if weights.ndim != 1 or weights.shape != inside.shape:
        raise ValueError(
            "`weights` and `inside` must have the same shape (T,). "
            f"Received: weights.shape={weights.shape}, inside.shape={inside.shape}."
        )
    if not inside.any():
        raise ValueError("`inside` must be true for at least one frame. Received: none.")
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise ValueError("`weights` must be finite, not negative and not all zero.")
    share, uniform = weights[inside].sum() / weights.sum(), inside.mean()
    return AttentionShare(float(share), float(uniform), float(share / uniform))


def _relative_to_mean(weights: np.ndarray) -> np.ndarray:
    """Weights `(N, T)` over their mean, so that 1 is uniform; uniform where all are zero."""
    means = weights.mean(axis=-1, keepdims=True)
    return np.divide(weights, means, out=np.ones_like(weights), where=means > 0)


def _smooth(seconds: np.ndarray, scores: np.ndarray, window_seconds: float) -> np.ndarray:
    """Means over the rows that start within half a window before or after each row."""
    half = window_seconds / 2
    first = np.searchsorted(seconds, seconds - half, side="left")
    stop = np.searchsorted(seconds, seconds + half, side="right")
    sums = np.concatenate([[0.0], np.cumsum(scores)])
    # Differences of running sums may fall below zero by rounding.
    return np.maximum((sums[stop] - sums[first]) / (stop - first), 0)


def _check_rows(seconds: np.ndarray, scores: np.ndarray) -> None:
    if seconds.ndim != 1 or not seconds.size or seconds.shape != scores.shape:
        raise ValueError(
            "`seconds` and `scores` must have the same shape (num_rows,), at least one row. "
            f"Received: seconds.shape={seconds.shape}, scores.shape={scores.shape}."
        )
    if not np.isfinite(seconds).all() or (np.diff(seconds) <= 0).any():
        raise ValueError("`seconds` must be finite and ascend from row to row.")
    if not np.isfinite(scores).all() or (scores < 0).any():
        raise ValueError(
            "`scores` must be finite and not negative. Of attributions, give the positive part."
        )
