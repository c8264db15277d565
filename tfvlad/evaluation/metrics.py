"""Measures of class scores against the truth, in numpy.

Scores have one row a clip and one column a class; any increasing function of the logits ranks the
same. Single-label truth is a vector of class indices, multi-label truth a 0/1 matrix, and a measure
of the one kind refuses the other. Equal scores are ranked in the order of the classes (accuracy) or
of the clips (average precision), so that no figure depends on a sorting algorithm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def average_crops(logits: ArrayLike) -> np.ndarray:
    """Averages the logits of a clip's crops, before any softmax.

    Args:
        logits: `(num_clips, num_classes)`, returned as they are, or
            `(num_clips, num_crops, num_classes)`.

    Returns:
        Logits, `(num_clips, num_classes)`.

    Raises:
        ValueError: when `logits` has another rank.

    Reference:
        Wang et al., "Temporal Segment Networks", ECCV 2016, and its code: the scores of 10 crops
        and 25 frames are averaged before the softmax.
    """
    logits = np.asarray(logits, dtype=np.float64)
    if logits.ndim not in (2, 3):
        raise ValueError(
            "`logits` must have the shape (num_clips, num_classes) or (num_clips, num_crops, "
            f"num_classes). Received: logits.shape={logits.shape}."
        )
    return logits.mean(axis=1) if logits.ndim == 3 else logits


def class_probabilities(logits: ArrayLike, *, multi_label: bool = False) -> np.ndarray:
    """Turns logits into probabilities over the last axis.

    Args:
        logits: `(..., num_classes)`.
        multi_label: whether a clip may have several classes: a sigmoid for each class then, a
            softmax over the classes otherwise.

    Returns:
        Probabilities of the same shape, float64.
    """
    logits = np.asarray(logits, dtype=np.float64)
    if multi_label:
        return np.exp(-np.logaddexp(0.0, -logits))
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def top_k_correct(scores: ArrayLike, labels: ArrayLike, k: int = 1) -> np.ndarray:
    """Tells for each clip whether its class is among the `k` with the highest scores.

    Args:
        scores: `(num_clips, num_classes)`.
        labels: class indices, `(num_clips,)`.
        k: number of guesses.

    Returns:
        Booleans, `(num_clips,)`.

    Raises:
        ValueError: when the shapes do not fit, a label is no class index, a score is NaN, or `k` is
            not between 1 and `num_classes`.
        TypeError: when the labels are not integers.
    """
    scores, labels = _single_label(scores, labels)
    num_classes = scores.shape[1]
    if not 1 <= k <= num_classes:
        raise ValueError(f"`k` must be between 1 and the {num_classes} classes. Received: k={k}.")
    ranking = np.argsort(-scores, axis=1, kind="stable")
    return (ranking[:, :k] == labels[:, None]).any(axis=1)


def top_k_accuracy(scores: ArrayLike, labels: ArrayLike, k: int = 1) -> float:
    """Computes the share of clips whose class is among the `k` with the highest scores.

    Args and errors are those of `top_k_correct`.
    """
    return float(top_k_correct(scores, labels, k).mean())


def per_class_accuracy(scores: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Computes each class's top-1 accuracy, `(num_classes,)`; NaN for a class without clips.

    Args and errors are those of `top_k_correct`.
    """
    confusion = confusion_matrix(scores, labels)
    with np.errstate(invalid="ignore"):
        return np.diag(confusion) / confusion.sum(axis=1)


def mean_class_accuracy(scores: ArrayLike, labels: ArrayLike) -> float:
    """Computes the mean of the top-1 accuracies of the classes that have clips.

    Args and errors are those of `top_k_correct`.
    """
    return float(np.nanmean(per_class_accuracy(scores, labels)))


def confusion_matrix(scores: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Counts the clips of each true class (row) by their top-1 class (column).

    Args and errors are those of `top_k_correct`.

    Returns:
        Counts, `(num_classes, num_classes)`.
    """
    scores, labels = _single_label(scores, labels)
    num_classes = scores.shape[1]
    cells = labels * num_classes + scores.argmax(axis=1)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def average_precision_per_class(
    scores: ArrayLike, labels: ArrayLike, *, unlabeled_last: bool = False
) -> np.ndarray:
    """Computes the non-interpolated average precision of each class.

    The clips are ranked by descending score with a stable sort; the precisions at the positives are
    added and divided by the number of positives. (scikit-learn's `average_precision_score` takes
    equal scores as one threshold instead, which gives other figures when scores are tied.)

    Args:
        scores: `(num_clips, num_classes)`. Minus infinity stands for a clip without scores.
        labels: multi-hot truth (0 or 1), `(num_clips, num_classes)`.
        unlabeled_last: whether clips without any class are ranked last whatever their scores, as
            the official measure of Charades has it.

    Returns:
        `(num_classes,)`, NaN for a class without positives.

    Raises:
        ValueError: when the shapes differ, the truth is not multi-hot, or a score is NaN.

    Reference:
        Sigurdsson et al., "Hollywood in Homes", ECCV 2016: `Charades_v1_classify.m`.
    """
    scores, labels = _multi_label(scores, labels)
    if unlabeled_last:
        scores = np.where(labels.any(axis=1, keepdims=True), scores, -np.inf)
    ranking = np.argsort(-scores, axis=0, kind="stable")
    positives = np.take_along_axis(labels, ranking, axis=0)
    ranks = np.arange(1, len(scores) + 1)[:, None]
    precisions = np.cumsum(positives, axis=0) / ranks
    with np.errstate(invalid="ignore"):
        return (precisions * positives).sum(axis=0) / positives.sum(axis=0)


def mean_average_precision(
    scores: ArrayLike, labels: ArrayLike, *, unlabeled_last: bool = False
) -> float:
    """Computes mAP: the mean of the average precisions of the classes that have positives.

    Args, errors and reference are those of `average_precision_per_class`.
    """
    return float(
        np.nanmean(average_precision_per_class(scores, labels, unlabeled_last=unlabeled_last))
    )


def weighted_average_precision(
    scores: ArrayLike, labels: ArrayLike, *, unlabeled_last: bool = False
) -> float:
    """Computes wAP: the mean of the average precisions weighted by each class's positives.

    Args, errors and reference are those of `average_precision_per_class`.
    """
    precisions = average_precision_per_class(scores, labels, unlabeled_last=unlabeled_last)
    num_positives = np.asarray(labels).sum(axis=0)
    return float(np.nansum(precisions * num_positives) / num_positives.sum())


def _checked_scores(scores: ArrayLike) -> np.ndarray:
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or scores.size == 0:
        raise ValueError(
            "`scores` must have the shape (num_clips, num_classes) and hold at least one clip. "
            f"Received: scores.shape={scores.shape}."
        )
    if np.isnan(scores).any():
        clip = int(np.isnan(scores).any(axis=1).argmax())
        raise ValueError(f"`scores` must not be NaN. Received: NaN in row {clip}.")
    return scores


def _single_label(scores: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = _checked_scores(scores), np.asarray(labels)
    if labels.ndim == 2:
        raise ValueError(
            "An accuracy needs one class index a clip, but `labels` is a matrix. Received: "
            f"labels.shape={labels.shape}. Use `mean_average_precision` for clips with several "
            "classes, or pass `labels.argmax(axis=1)` if the rows are one-hot."
        )
    if labels.shape != scores.shape[:1]:
        raise ValueError(
            f"`labels` must have one entry for each of the {len(scores)} rows of `scores`. "
            f"Received: labels.shape={labels.shape}."
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"`labels` must be integers. Received: labels.dtype={labels.dtype}.")
    outside = (labels < 0) | (labels >= scores.shape[1])
    if outside.any():
        raise ValueError(
            f"`labels` must be between 0 and {scores.shape[1] - 1}. "
            f"Received: {labels[outside][0]} in row {int(outside.argmax())}."
        )
    return scores, labels.astype(np.int64)


def _multi_label(scores: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = _checked_scores(scores), np.asarray(labels)
    if labels.ndim == 1:
        raise ValueError(
            "An average precision needs multi-hot `labels`, (num_clips, num_classes). Received: "
            f"labels.shape={labels.shape}. Use `top_k_accuracy` for clips with one class each."
        )
    if labels.shape != scores.shape:
        raise ValueError(
            "`labels` must have the shape of `scores`. Received: "
            f"labels.shape={labels.shape}, scores.shape={scores.shape}."
        )
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("Multi-hot `labels` must be 0 or 1. Received other values.")
    if not labels.any():
        raise ValueError("`labels` has no positive: no average precision is defined.")
    return scores, labels.astype(np.int64)
