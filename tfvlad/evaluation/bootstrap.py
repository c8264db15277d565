"""Confidence intervals of means over clips, and of the difference of two models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tfvlad.evaluation.metrics import mean_average_precision


class Estimate(NamedTuple):
    """A mean with the ends of its confidence interval."""

    mean: float
    low: float
    high: float


def bootstrap_mean(
    values: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    clips: ArrayLike | None = None,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Computes a mean with its percentile bootstrap interval over clips.

    With `groups`, it is the mean of the groups' means: of top-1 hits by class this is the mean
    class accuracy. Clips, not values, are drawn with replacement: a clip that has several values
    (seeds, splits) keeps them together. A group that a resample misses is left out of its mean.

    Args:
        values: `(num_values,)`.
        groups: the group of each value, `(num_values,)`. Defaults to one group.
        clips: the clip of each value, a name or number, `(num_values,)`. Defaults to one each.
        confidence: share of the resampled means inside the interval, between 0 and 1.
        num_resamples: number of resamples.
        seed: seed of the resamples.

    Raises:
        ValueError: when an argument is out of range or the lengths differ.

    Reference:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(
            "`values` must be a vector with at least one value. "
            f"Received: values.shape={values.shape}."
        )
    _check(confidence, num_resamples)
    group_index = _index("groups", groups, np.zeros(len(values), int))
    clip_index = _index("clips", clips, np.arange(len(values)))
    num_groups, num_clips = group_index.max() + 1, clip_index.max() + 1

    # What a clip adds to each group's sum [0] and to its number of values [1].
    totals = np.zeros((2, num_clips, num_groups))
    np.add.at(totals[0], (clip_index, group_index), values)
    np.add.at(totals[1], (clip_index, group_index), 1)
    draws = _draws(num_clips, num_resamples, seed)
    sums, counts = draws.astype(np.float64) @ totals  # (num_resamples, num_groups) each

    with np.errstate(invalid="ignore"):
        means = np.nanmean(sums / counts, axis=1)
    mean = (totals[0].sum(axis=0) / totals[1].sum(axis=0)).mean()
    return _estimate(mean, means, confidence)


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    *,
    splits: ArrayLike | None = None,
    clips: ArrayLike | None = None,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Computes how much more often `first` is right than `second` on the same clips.

    The difference is averaged over the seeds of a clip, the clips of a split and the splits, and
    clips are resampled for the interval (see `bootstrap_mean`). It is significant when the interval
    leaves out zero.

    Args:
        first: whether (or how well) the first model recognised each clip, `(num_clips,)` or
            `(num_seeds, num_clips)`; see `top_k_correct`.
        second: the same of the second model, with the same shape.
        splits: the split of each column, `(num_clips,)`. Defaults to one split.
        clips: the name of each column's clip, `(num_clips,)`, needed where a clip is tested in
            several splits. Defaults to distinct clips.
        confidence: as in `bootstrap_mean`.
        num_resamples: as in `bootstrap_mean`.
        seed: as in `bootstrap_mean`.

    Raises:
        ValueError: when the shapes differ, or as in `bootstrap_mean`.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape or first.ndim not in (1, 2):
        raise ValueError(
            "`first` and `second` must have the same shape, (num_clips,) or (num_seeds, "
            f"num_clips). Received: first.shape={first.shape}, second.shape={second.shape}."
        )
    difference = np.atleast_2d(first - second).mean(axis=0)
    return bootstrap_mean(
        difference,
        groups=splits,
        clips=clips,
        confidence=confidence,
        num_resamples=num_resamples,
        seed=seed,
    )


def paired_map_difference(
    first: ArrayLike,
    second: ArrayLike,
    labels: ArrayLike,
    *,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Computes the mAP of `first` minus that of `second` on the same clips of several labels.

    Clips are resampled for the interval, the same ones for both. A clip that is drawn w times
    counts w times in the precisions, all at once. A class that a resample misses is left out of its
    mean.

    Args:
        first: scores of the first model, `(num_clips, num_classes)`.
        second: the same of the second model.
        labels: multi-hot truth, `(num_clips, num_classes)`.
        confidence: as in `bootstrap_mean`.
        num_resamples: as in `bootstrap_mean`.
        seed: as in `bootstrap_mean`.

    Raises:
        ValueError: when an argument is out of range, or as in `mean_average_precision`.
    """
    (difference,) = paired_map_differences(
        [first], second, labels, confidence=confidence, num_resamples=num_resamples, seed=seed
    )
    return difference


def paired_map_differences(
    firsts: Sequence[ArrayLike],
    second: ArrayLike,
    labels: ArrayLike,
    *,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> list[Estimate]:
    """Computes `paired_map_difference` for several first models and the same second one.

    Raises:
        ValueError: when `paired_map_difference` raises one.
    """
    _check(confidence, num_resamples)
    truth = np.asarray(labels)
    *means, mean = (mean_average_precision(scores, truth) for scores in (*firsts, second))
    draws = _draws(len(truth), num_resamples, seed)
    resampled = _resampled_map(np.asarray(second), truth, draws)
    return [
        _estimate(
            one - mean, _resampled_map(np.asarray(first), truth, draws) - resampled, confidence
        )
        for one, first in zip(means, firsts, strict=True)
    ]


def _resampled_map(scores: np.ndarray, labels: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """The mAP of each of the resamples, `(num_resamples,)`."""
    precisions = []
    for of_clips, truth in zip(scores.T, labels.T, strict=True):
        ranking = np.argsort(-of_clips, kind="stable")
        counts = draws[:, ranking]  # (num_resamples, num_clips)
        positives = np.flatnonzero(truth[ranking])
        weights = counts[:, positives]
        ranks = np.maximum(np.cumsum(counts, axis=1)[:, positives], 1)
        found = (np.cumsum(weights, axis=1) / ranks * weights).sum(axis=1)
        with np.errstate(invalid="ignore"):
            precisions.append(found / weights.sum(axis=1))
    return np.nanmean(precisions, axis=0)


def _check(confidence: float, num_resamples: int) -> None:
    if not 0 < confidence < 1:
        raise ValueError(
            f"`confidence` must be between 0 and 1. Received: confidence={confidence}."
        )
    if num_resamples < 1:
        raise ValueError(
            f"`num_resamples` must be a positive integer. Received: num_resamples={num_resamples}."
        )


def _draws(num_clips: int, num_resamples: int, seed: int) -> np.ndarray:
    """How often each resample has each clip, `(num_resamples, num_clips)`."""
    shares = np.full(num_clips, 1 / num_clips)
    return np.random.default_rng(seed).multinomial(num_clips, shares, num_resamples)


def _estimate(mean: float, resampled: np.ndarray, confidence: float) -> Estimate:
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Estimate(float(mean), float(low), float(high))


def _index(name: str, names: ArrayLike | None, default: np.ndarray) -> np.ndarray:
    if names is None:
        return default
    names = np.asarray(names)
    if names.shape != default.shape:
        raise ValueError(
            f"`{name}` must have one entry a value, {default.shape}. "
            f"Received: {name}.shape={names.shape}."
        )
    return np.unique(names, return_inverse=True)[1]
