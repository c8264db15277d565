"""A run's model as a model of chunks of long videos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfvlad.highlights import (
    ArrayInput,
    ChunkInput,
    ChunkModel,
    attention_chunk_model,
    clip_chunk_model,
)
from tfvlad.runs.config import FeatureRunConfig, RunConfig
from tfvlad.runs.feature_networks import compiled, rebuild
from tfvlad.runs.feature_sources import imported_set


def chunk_model(
    folder: Path, config: RunConfig | FeatureRunConfig, model: keras.Model, clip_frames: int | None
) -> ChunkModel:
    """A run's model on chunks as long as its training clips.

    Args:
        folder: of the run.
        config: of the run.
        model: of the run.
        clip_frames: of a training clip, if the run tells it.

    Raises:
        ValueError: when the model gives no weights to frames, or the run does not say how long its
            training clips are.
    """
    if clip_frames is None:
        raise ValueError(
            f"'{folder}' does not say how long its training clips are: a search or an earlier "
            "version made it. Train with its settings into a new folder."
        )
    if isinstance(config, RunConfig):
        if config.settings.streams != ("rgb",):
            raise ValueError(
                f"'{folder}' is a run on optical flow. Highlight with a run on RGB frames alone."
            )
        return clip_chunk_model(
            model,
            config.class_names,
            chunk_frames=clip_frames,
            repeats=config.chunk_frames is not None,
            multi_label=config.multi_label,
            short_side=config.short_side,
        )
    if config.settings.model != "attention-lstm":
        raise ValueError(
            f"'{folder}' is a run of {config.settings.model}, which gives no weights to frames. "
            "Highlight with a run of attention-lstm, or of a model of videos."
        )
    return attention_chunk_model(
        model,
        _inputs(config),
        config.class_names,
        chunk_frames=clip_frames,
        repeats=config.chunk_frames is not None,
        multi_label=config.multi_label,
    )


def _inputs(config: FeatureRunConfig) -> list[ChunkInput] | list[ArrayInput]:
    """The inputs of an attention LSTM: networks of videos, or arrays."""
    described, counts = config.feature_sets, config.settings.step_counts
    arrays = imported_set(config)
    if arrays is not None:
        return [
            ArrayInput(
                num_steps,
                arrays.num_channels,
                arrays.frame_step,
                arrays.window_frames,
                arrays.frames_per_second,
                arrays.layer,
            )
            for num_steps in counts
        ]
    networks = [_network(described[0])]
    networks.append(networks[0] if described[1] == described[0] else _network(described[1]))
    return [
        ChunkInput(
            network,
            num_steps,
            one["frame_step"],
            one["window_frames"],
            tuple(one["image_size"]),
            one["short_side"],
        )
        for network, num_steps, one in zip(networks, counts, described, strict=True)
    ]


def _network(description: dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    """The extractor of a feature set; its features as they are read from the set's files."""
    network, dtype = compiled(rebuild(description)), description["dtype"]
    return lambda frames: network(frames).astype(dtype).astype("float32")
