"""Several models of the same classes as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tfvlad import compat
from tfvlad.layers import MeanScore


def is_multi_label(model: keras.Model) -> bool | None:
    """Whether the model's scores average probabilities of classes that do not exclude each other.

    Returns:
        True or False for an attention LSTM, its baselines, an ensemble and what contains one; None
        for a model of plain logits, which suit either kind of labels.
    """
    for layer in compat.walk_layers(model):
        if isinstance(layer, MeanScore):
            return layer.multi_label
    return None


def ensemble(
    models: Sequence[keras.Model], *, multi_label: bool | None = None, name: str = "ensemble"
) -> keras.Model:
    """The mean of the class probabilities of several models.

    The layers are shared with the models. Softmax probabilities are averaged, sigmoid ones where
    the models are multi-label.

    Args:
        models: at least two models to the same classes.
        multi_label: classes do not exclude each other; by default as the models say, see
            `is_multi_label`. Models of plain logits do not say it.
        name: the model's name.

    Returns:
        A functional model from the inputs of all models, in their order, to scores `(B, C)`: the
        log, or the logit, of the mean probability.

    Raises:
        ValueError: when there are fewer than two models, their numbers of classes differ, some are
            multi-label and others not, or `multi_label` is missing where no model says it, or
            contradicts one.

    Reference:
        Torabi and Sigal, "Action Classification and Highlighting in Videos", section 4.3 (the
        combined models of table 4).
    """
    return late_fusion(models, on="probabilities", multi_label=multi_label, name=name)


def late_fusion(
    models: Sequence[keras.Model],
    *,
    weights: Sequence[float] | None = None,
    on: str = "logits",
    multi_label: bool | None = None,
    name: str = "late_fusion",
) -> keras.Model:
    """The weighted mean of the scores of trained models, of RGB and flow for one.

    The layers are shared with the models.

    Args:
        models: at least two models to the same classes.
        weights: of the models, not negative; they are divided by their sum. Equal by default.
        on: "logits", the models' raw scores, or "probabilities".
        multi_label: of the probabilities, see `ensemble`; logits need no answer.
        name: the model's name.

    Returns:
        A functional model from the inputs of all models, in their order, to scores `(B, C)`: the
        weighted mean of the logits, or the log, or the logit, of that of the probabilities.

    Raises:
        ValueError: when the weights do not fit, or `on` is unknown; also as for `ensemble`.

    Reference:
        Girdhar et al., "ActionVLAD"; their released code fuses logits, RGB with 1 - 0.667 and flow
        with 0.667.
    """
    _check_classes(models)
    multi_label = _kind(models, multi_label, is_needed=on == "probabilities")
    inputs, scores = [], []
    for number, model in enumerate(models, 1):
        # Names are unique in a model: models of the same name, and their inputs, get a number.
        numbered = keras.Model(model.inputs, model.output, name=f"{model.name}_{number}")
        own_inputs = [
            keras.Input(tuple(x.shape[1:]), dtype=x.dtype, name=f"{x.name}_{number}")
            for x in model.inputs
        ]
        scores.append(numbered(own_inputs if len(own_inputs) > 1 else own_inputs[0]))
        inputs += own_inputs
    return keras.Model(inputs, fused(scores, weights, on, multi_label=bool(multi_label)), name=name)


def fused(
    scores: Sequence[Any], weights: Sequence[float] | None, on: str, *, multi_label: bool
) -> Any:
    """The weighted mean of symbolic scores `(B, C)`, see `late_fusion`."""
    if on not in ("logits", "probabilities"):
        raise ValueError(f'`on` must be "logits" or "probabilities". Received: on={on!r}.')
    weights = [1.0] * len(scores) if weights is None else list(weights)
    if len(weights) != len(scores) or min(weights) < 0 or not sum(weights) > 0:
        raise ValueError(
            f"`weights` must be {len(scores)} numbers, none of them negative and not all zero. "
            f"Received: weights={weights}."
        )
    shares = tuple(float(weight) / sum(weights) for weight in weights)
    if on == "logits":
        weighted = [
            keras.layers.Rescaling(share, dtype="float32", name=f"weighted_scores_{number}")(score)
            for number, (share, score) in enumerate(zip(shares, scores, strict=True), 1)
        ]
        return keras.layers.Add(dtype="float32", name="scores")(weighted)
    steps = [keras.layers.Reshape((1, x.shape[-1]), dtype="float32")(x) for x in scores]
    steps = keras.layers.Concatenate(axis=1, dtype="float32", name="model_scores")(steps)
    return MeanScore(multi_label=multi_label, step_weights=shares, dtype="float32", name="scores")(
        steps
    )


def _check_classes(models: Sequence[keras.Model]) -> None:
    if len(models) < 2:
        raise ValueError(
            f"`models` must be at least two models. Received: {[model.name for model in models]}."
        )
    num_classes = [model.output_shape[-1] for model in models]
    if len(set(num_classes)) > 1:
        raise ValueError(
            f"`models` must have the same classes. Received: {num_classes} classes of "
            f"{[model.name for model in models]}."
        )


def _kind(
    models: Sequence[keras.Model], multi_label: bool | None, *, is_needed: bool
) -> bool | None:
    """Whether the models are multi-label; None where neither they nor the caller say it."""
    kinds = [is_multi_label(model) for model in models]
    if True in kinds and False in kinds:
        raise ValueError(
            "`models` must all be multi-label or all single-label. Received: "
            f"multi_label={kinds} of {[model.name for model in models]}."
        )
    known = {*kinds, multi_label} - {None}
    if is_needed and not known:
        raise ValueError(
            "`multi_label` must be True or False where all models are of plain logits. Received: "
            f"multi_label=None for {[model.name for model in models]}."
        )
    if len(known) > 1:
        raise ValueError(
            "`multi_label` must agree with the models. Received: "
            f"multi_label={multi_label} for {[model.name for model in models]} of "
            f"multi_label={kinds}."
        )
    return known.pop() if known else None
