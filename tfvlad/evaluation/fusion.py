"""Late fusion: the scores of several models of the same clips and classes as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from tfvlad.evaluation.metrics import class_probabilities
from tfvlad.evaluation.score_files import ScoreFile, align_scores

FUSIONS = ("logits", "probabilities", "normalized")


def fuse_scores(
    scores: Sequence[ArrayLike],
    weights: Sequence[float] | None = None,
    on: str = "logits",
    multi_label: bool = False,
) -> np.ndarray:
    """Adds the weighted scores of several models.

    `sum_m w_m f(s_m)`, where f is, by the value of `on`:

    * "logits": the scores as they are. ActionVLAD's late fusion of RGB and flow, with the weights
      `1 - 0.667` and 0.667.
    * "probabilities": their softmax, or sigmoid; the weights are divided by their sum. With equal
      weights, the attention LSTM's ensemble.
    * "normalized": each clip's scores divided by their L2 norm, for scores of other origin.
      ActionVLAD adds improved dense trajectories so, with the weights 0.75 and 0.25.

    Args:
        scores: of each model, `(num_clips, num_classes)`.
        weights: one a model, not negative; equal ones of the sum 1 by default.
        on: "logits", "probabilities" or "normalized".
        multi_label: whether a clip may have several classes: probabilities are sigmoids then.

    Returns:
        Fused scores `(num_clips, num_classes)`, float64. Of "probabilities" the log of the mean
        probability, or with `multi_label` its logit, which `class_probabilities` turns back.

    Raises:
        ValueError: when the shapes differ, a score is NaN, infinite scores cancel each other, the
            weights are not one a model or negative or all 0, or `on` is unknown.

    Reference:
        Girdhar et al., "ActionVLAD", CVPR 2017, and its released code; Torabi and Sigal, "Action
        Classification and Highlighting in Videos", section 4.4 (the mean of the probabilities).
    """
    if on not in FUSIONS:
        raise ValueError(f"`on` must be one of {', '.join(FUSIONS)}. Received: {on!r}.")
    arrays = _checked_scores(scores)
    parts = [
        (weight, one)
        for weight, one in zip(_checked_weights(weights, len(arrays)), arrays, strict=True)
        if weight > 0  # minus infinity times 0 is no number
    ]
    with np.errstate(divide="ignore", invalid="ignore"):
        if on == "probabilities":
            fused = _fused_probabilities(parts, multi_label)
        else:
            terms = [
                weight * (_normalized(one) if on == "normalized" else one) for weight, one in parts
            ]
            fused = np.sum(terms, axis=0)
    if np.isnan(fused).any():
        row = int(np.isnan(fused).any(axis=1).argmax())
        raise ValueError(f"Infinite scores leave no number of row {row} when fused on {on}.")
    return fused


def align_files(files: Sequence[ScoreFile]) -> list[ScoreFile]:
    """Puts the rows of several files in the order of the first one's clips, by name.

    Files that name no clips are taken to have the same rows already.

    Raises:
        ValueError: when a clip is missing in one of the files, some name their clips and others do
            not, or they have other classes or labels.
    """
    first, *others = files
    if len({file.clips is None for file in files}) > 1:
        raise ValueError(
            "Some of the score files name their clips and others do not. Give the list in whose "
            "order the rows of the others are."
        )
    aligned = [first]
    for number, file in enumerate(others, 2):
        if first.clips is not None and file.clips != first.clips:
            for one, other, place in ((file, first, number), (first, file, 1)):
                _check_has_all(one, other, place)
            file = align_scores(file, first.clips)
        if file.scores.shape != first.scores.shape:
            raise ValueError(
                "The score files must be of the same clips and classes. Received: the shapes "
                f"{first.scores.shape} of file 1 and {file.scores.shape} of file {number}."
            )
        for name in ("labels", "class_names"):
            mine, theirs = getattr(first, name), getattr(file, name)
            if mine is not None and theirs is not None and not np.array_equal(mine, theirs):
                raise ValueError(f"File {number} has other {name} than file 1.")
        aligned.append(file)
    return aligned


def _checked_scores(scores: Sequence[ArrayLike]) -> list[np.ndarray]:
    arrays = [np.asarray(one, dtype=np.float64) for one in scores]
    if not arrays:
        raise ValueError("`scores` must hold the scores of at least one model. Received: none.")
    shapes = [one.shape for one in arrays]
    if len(set(shapes)) > 1 or len(shapes[0]) != 2:
        raise ValueError(
            "`scores` must have one shape (num_clips, num_classes), of the same clips and classes. "
            f"Received: {sorted(set(shapes))}."
        )
    for number, one in enumerate(arrays, 1):
        if np.isnan(one).any():
            row = int(np.isnan(one).any(axis=1).argmax())
            raise ValueError(
                f"`scores` must not be NaN. Received: NaN in row {row} of model {number}."
            )
    return arrays


def _checked_weights(weights: Sequence[float] | None, num_models: int) -> list[float]:
    if weights is None:
        return [1 / num_models] * num_models
    weights = [float(weight) for weight in weights]
    if len(weights) != num_models:
        raise ValueError(
            f"`weights` must be one for each of the {num_models} models. "
            f"Received: {len(weights)} weights."
        )
    if not np.isfinite(weights).all() or min(weights) < 0 or max(weights) == 0:
        raise ValueError(
            f"`weights` must be finite, not negative and not all 0. Received: {weights}."
        )
    return weights


def _fused_probabilities(parts: list[tuple[float, np.ndarray]], multi_label: bool) -> np.ndarray:
    weights = [weight for weight, _ in parts]
    mean = _mean_probability([one for _, one in parts], weights, multi_label)
    if not multi_label:
        return np.log(mean)
    # 1 - mean is 0 where a sigmoid rounds to 1; the sigmoids of the negated logits are not.
    return np.log(mean) - np.log(_mean_probability([-one for _, one in parts], weights, True))


def _mean_probability(
    logits: list[np.ndarray], weights: list[float], multi_label: bool
) -> np.ndarray:
    probabilities = [class_probabilities(one, multi_label=multi_label) for one in logits]
    return np.average(probabilities, axis=0, weights=weights)


def _normalized(scores: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(scores, axis=1, keepdims=True)
    return scores / np.where(norms == 0, 1, norms)


def _check_has_all(file: ScoreFile, other: ScoreFile, number: int) -> None:
    missing = sorted(set(other.clips or ()) - set(file.clips or ()))
    if missing:
        raise ValueError(
            f"{len(missing)} clips of the other score file are missing in file {number}, first: "
            f"{missing[0]}."
        )
