"""A run's model as a model of clips of frames, with what its callers have to know."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import keras

from tfvlad.backbones import FeatureExtractor
from tfvlad.models import ClipModel, end_to_end
from tfvlad.runs.config import FeatureRunConfig, RunConfig
from tfvlad.runs.feature_networks import rebuild
from tfvlad.runs.run_files import read_result

# What a model's input is called, by the pipeline's name of its stream.
_INPUTS = {"rgb": "frames", "flow": "flow"}


def clip_model(folder: Path, config: RunConfig | FeatureRunConfig, model: keras.Model) -> ClipModel:
    """A run's model from frames to scores; a model of features behind their extractors.

    Args:
        folder: of the run.
        config: of the run.
        model: of the run.

    Raises:
        ValueError: when the weights of an extractor are missing or are others now, or the features
            were imported.
    """
    if isinstance(config, RunConfig):
        streams, short_side = input_names(config), config.short_side
    else:
        streams = ("frames",)
        model = _with_extractors(model, config)
        short_side = max(described["short_side"] for described in config.feature_sets)
    return ClipModel(
        model,
        config.class_names,
        streams,
        config.multi_label,
        short_side,
        _description(folder, config),
    )


def input_names(config: RunConfig) -> tuple[str, ...]:
    """What a run's model takes, "frames" and "flow", in its order."""
    return tuple(_INPUTS[stream] for stream in config.settings.streams)


def _with_extractors(model: keras.Model, config: FeatureRunConfig) -> keras.Model:
    extractors: list[FeatureExtractor] = []
    for number, described in enumerate(config.feature_sets):
        same = config.feature_sets.index(described)
        extractors.append(extractors[same] if same < number else rebuild(described))
    step_counts = config.settings.step_counts
    of_frames = all(extractor.window_frames == 1 for extractor in extractors)
    num_frames = config.chunk_frames
    if num_frames is None or (of_frames and len(set(step_counts)) == 1):
        # Networks of single frames need no others than the steps' own.
        windows = zip(step_counts, extractors, strict=True)
        num_read = max(steps * extractor.window_frames for steps, extractor in windows)
        num_steps = math.lcm(*step_counts)
        num_frames = -(-num_read // num_steps) * num_steps
    return end_to_end(model, *extractors, num_frames=num_frames)


def _description(folder: Path, config: RunConfig | FeatureRunConfig) -> dict[str, Any]:
    """What the model card tells of a run."""
    settings = config.settings
    told: dict[str, Any] = {"model": settings.model, "arguments": settings.model_arguments()}
    if isinstance(config, FeatureRunConfig):
        told |= {"num_steps": config.settings.step_counts, "chunk_frames": config.chunk_frames}
        kept = ("network", "layer", "frame_step", "window_frames")
        told["features"] = [{key: one[key] for key in kept} for one in config.feature_sets]
    else:
        names = ("backbone", "aggregate_at", "num_frames", "image_size", "sampling", "streams")
        told |= {name: getattr(settings, name) for name in names}
        if "flow" in config.settings.streams:
            told |= {"stack_frames": config.settings.stack_frames, "flow": config.flow}
    if result := read_result(folder):
        told["test"] = result["stages"][-1]
    return told
