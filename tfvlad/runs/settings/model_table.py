"""The models that a run can train: what builds each, what it learns from, what it can be told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras

from tfvlad import models


@dataclass(frozen=True)
class ModelEntry:
    """A model of `MODELS`.

    Attributes:
        build: its builder in `tfvlad.models`.
        learns_from: "videos", or "features" that a network has been run for before.
        takes: the settings that are arguments of the builder and that not every model has.
    """

    build: Callable[..., keras.Model]
    learns_from: str
    takes: frozenset[str] = frozenset()


_VLAD = {"num_clusters", "alpha"}
_ATTENTION = {"attention", "attention_temperature"}
_RECURRENT = {
    *("units", "temporal", "bidirectional"),
    *("intra_normalize", "input_scale", "update_bias"),
}

MODELS: dict[str, ModelEntry] = {
    "ta-vlad": ModelEntry(models.ta_vlad, "videos", frozenset({*_VLAD, *_RECURRENT, *_ATTENTION})),
    "action-vlad": ModelEntry(
        models.action_vlad, "videos", frozenset({*_VLAD, *_ATTENTION, "num_segments"})
    ),
    "average-pooling": ModelEntry(models.average_pooling, "videos", frozenset({"num_segments"})),
    "max-pooling": ModelEntry(models.max_pooling, "videos"),
    "two-stream": ModelEntry(models.two_stream, "videos", frozenset({*_VLAD, "fusion"})),
    "attention-lstm": ModelEntry(
        models.attention_lstm,
        "features",
        frozenset({"units", "matching_units", "attend", "num_attended"}),
    ),
    "plain-lstm": ModelEntry(models.plain_lstm, "features", frozenset({"units"})),
    "feature-softmax": ModelEntry(models.feature_softmax, "features"),
}


def models_on(learns_from: str) -> tuple[str, ...]:
    """The names of the models that learn from "videos" or from "features"."""
    return tuple(name for name, entry in MODELS.items() if entry.learns_from == learns_from)
