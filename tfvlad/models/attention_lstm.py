"""The attention LSTM on the features of a clip, and its baselines."""

from __future__ import annotations

from typing import Any

import keras

from tfvlad.layers import AttentionLSTM, MeanScore


def attention_lstm(
    num_classes: int,
    input_channels: int,
    attended_channels: int,
    *,
    num_steps: int | None = 12,
    num_attended: int | None = 12,
    units: int = 512,
    matching_units: int = 512,
    attend: str = "every_step",
    multi_label: bool = False,
    dropout: float = 0.5,
    name: str = "attention_lstm",
) -> keras.Model:
    """An LSTM over a clip's input data that attends to other data of the same clip.

    The input data pass through a dense sigmoid layer of unchanged width; the LSTM attends before
    each of its steps; a dense layer classifies each state, and the score is the mean of the steps'
    probabilities. Dropout acts on the input data, before and after their dense layer, on the
    attended data and on the states in front of the last dense layer, never from step to step.

    Args:
        num_classes: number of action classes C.
        input_channels: Dv, of the input data, such as C3D features of N windows.
        attended_channels: Da, of the attended data, such as object scores of T frames.
        num_steps: N, None for any number.
        num_attended: T, None for any number.
        units: size U of the state.
        matching_units: size of the vectors in which states and attended data are matched.
        attend: "every_step" (the paper's variant a), or "last_step" (b): attention, and the score,
            at the last step alone.
        multi_label: the classes do not exclude each other: sigmoid instead of softmax.
        dropout: rate of all of them.
        name: the model's name.

    Returns:
        A functional model from `[input_data (B, N, Dv), attended_data (B, T, Da)]` to scores
        `(B, C)`: the log of the mean over the steps of the softmax, or the logit of the mean of the
        sigmoid. Losses take them with `from_logits=True`.

    Raises:
        ValueError: when a size is not a positive integer, or another value is out of range.

    Reference:
        Torabi and Sigal, "Action Classification and Highlighting in Videos", sections 3 and 4.1.
        Their classes exclude each other; the sigmoid for several labels is our choice.
    """
    _check(
        dropout,
        num_classes=num_classes,
        input_channels=input_channels,
        attended_channels=attended_channels,
        num_steps=1 if num_steps is None else num_steps,
        num_attended=1 if num_attended is None else num_attended,
    )
    input_data = keras.Input((num_steps, input_channels), name="input_data")
    attended_data = keras.Input((num_attended, attended_channels), name="attended_data")
    lstm = AttentionLSTM(
        units,
        matching_units=matching_units,
        attend=attend,
        return_state=True,
        name="attention_lstm",
    )
    attended = keras.layers.Dropout(dropout, name="attended_dropout")(attended_data)
    states, _, last_state, _ = lstm(_lstm_inputs(input_data, dropout), attended)
    if attend == "last_step":
        states = keras.layers.Reshape((1, units), name="last_state")(last_state)
    return _classified([input_data, attended_data], states, num_classes, multi_label, dropout, name)


def plain_lstm(
    num_classes: int,
    input_channels: int,
    *,
    num_steps: int | None = 12,
    units: int = 512,
    multi_label: bool = False,
    dropout: float = 0.5,
    name: str = "plain_lstm",
) -> keras.Model:
    """The baseline "LSTM": `attention_lstm` without attended data.

    Arguments as for `attention_lstm`.

    Returns:
        A functional model from input data `(B, N, Dv)` to scores `(B, C)`.

    Raises:
        ValueError: when a size is not a positive integer, or `dropout` is out of range.

    Reference:
        Torabi and Sigal, "Action Classification and Highlighting in Videos", table 1 (LSTM-C3D).
    """
    _check(
        dropout,
        num_classes=num_classes,
        input_channels=input_channels,
        num_steps=1 if num_steps is None else num_steps,
        units=units,
    )
    input_data = keras.Input((num_steps, input_channels), name="input_data")
    lstm = keras.layers.LSTM(units, return_sequences=True, name="lstm")
    states = lstm(_lstm_inputs(input_data, dropout))
    return _classified(input_data, states, num_classes, multi_label, dropout, name)


def feature_softmax(
    num_classes: int,
    input_channels: int,
    *,
    num_steps: int | None = 12,
    multi_label: bool = False,
    dropout: float = 0.5,
    name: str = "feature_softmax",
) -> keras.Model:
    """The baseline "softmax": one dense layer on each of a clip's features.

    Arguments as for `attention_lstm`; the score is the mean of the features' probabilities.

    Returns:
        A functional model from input data `(B, N, Dv)` to scores `(B, C)`.

    Raises:
        ValueError: when a size is not a positive integer, or `dropout` is out of range.

    Reference:
        Torabi and Sigal, "Action Classification and Highlighting in Videos", table 1 (C3D).
    """
    _check(
        dropout,
        num_classes=num_classes,
        input_channels=input_channels,
        num_steps=1 if num_steps is None else num_steps,
    )
    input_data = keras.Input((num_steps, input_channels), name="input_data")
    return _classified(input_data, input_data, num_classes, multi_label, dropout, name)


def _check(dropout: float, **sizes: int) -> None:
    for name, value in sizes.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value}.")
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must be in [0, 1). Received: dropout={dropout}.")


def _lstm_inputs(input_data: Any, dropout: float) -> Any:
    x = keras.layers.Dropout(dropout, name="input_dropout")(input_data)
    x = keras.layers.Dense(input_data.shape[-1], activation="sigmoid", name="input_dense")(x)
    return keras.layers.Dropout(dropout, name="lstm_dropout")(x)


def _classified(
    inputs: Any, features: Any, num_classes: int, multi_label: bool, dropout: float, name: str
) -> keras.Model:
    features = keras.layers.Dropout(dropout, name="dropout")(features)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(features)
    scores = MeanScore(multi_label=multi_label, dtype="float32", name="scores")(logits)
    return keras.Model(inputs, scores, name=name)
