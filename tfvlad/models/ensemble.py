"""Several models of the same classes as one."""

from __future__ import annotations

from collections.abc import Sequence

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
        ValueError: fewer than two models, different numbers of classes, some models multi-label
            and others not, or `multi_label` missing where no model says it, or against a model.

    Reference:
        Torabi and Sigal, "Action Classification and Highlighting in Videos", section 4.3 (the
        combined models of table 4).
    """
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
    kinds = [is_multi_label(model) for model in models]
    if True in kinds and False in kinds:
        raise ValueError(
            "`models` must all be multi-label or all single-label. Received: "
            f"multi_label={kinds} of {[model.name for model in models]}."
        )
    known = {*kinds, multi_label} - {None}
    if not known:
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
    inputs, scores = [], []
    for number, model in enumerate(models, 1):
        # Names are unique in a model: models of the same name, and their inputs, get a number.
        numbered = keras.Model(model.inputs, model.output, name=f"{model.name}_{number}")
        own_inputs = [
            keras.Input(tuple(x.shape[1:]), dtype=x.dtype, name=f"{x.name}_{number}")
            for x in model.inputs
        ]
        score = numbered(own_inputs if len(own_inputs) > 1 else own_inputs[0])
        scores.append(keras.layers.Reshape((1, num_classes[0]), dtype="float32")(score))
        inputs += own_inputs
    steps = keras.layers.Concatenate(axis=1, dtype="float32", name="model_scores")(scores)
    mean = MeanScore(multi_label=True in known, dtype="float32", name="scores")
    return keras.Model(inputs, mean(steps), name=name)
