"""Runs and model files made ready for export, and the clips to prove them on."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from export.clip_model import ClipModel
from pipelines.class_lists import read_class_names
from pipelines.listing import videos_below
from pipelines.video_index import BrokenVideo
from tfvlad import models
from tfvlad.cli.clip_sources import (
    clip_source,
    index_streams,
    leave_out_broken,
    source_of_videos,
)
from tfvlad.cli.data import clip_names, read_lists
from tfvlad.cli.extraction import rebuild
from tfvlad.cli.run_folder import FeatureRunConfig, RunConfig, load_config, load_model
from tfvlad.training import ClipSource
from tfvlad.training.streams import streams_of

# What a model's input is called, by the pipeline's name of its stream.
_INPUTS = {"rgb": "frames", "flow": "flow"}
_NUM_CALIBRATION_CLIPS = 64
_NUM_PROOF_CLIPS = 16

Clip = dict[str, np.ndarray]
Sources = Mapping[str, ClipSource]


@dataclass(frozen=True)
class Exportable:
    """A model to export.

    Attributes:
        clip_model: the model and what its callers have to know.
        configs: how the clips of each of the fused models are read.
        folders: of their runs; None of a run on features and of a file.
    """

    clip_model: ClipModel
    configs: tuple[RunConfig, ...]
    folders: tuple[Path | None, ...]


class ExportClips(NamedTuple):
    """Clips by stream.

    Attributes:
        calibration: typical clips.
        proof: other clips, on which the export is compared with its model.
        broken: videos that could not be read.
    """

    calibration: Iterator[Clip]
    num_calibration: int
    proof: list[Clip]
    broken: list[BrokenVideo]


def input_names(config: RunConfig) -> tuple[str, ...]:
    """What a run's model takes, "frames" and "flow", in its order."""
    return tuple(_INPUTS[stream] for stream in config.streams)


def load_exportable(
    paths: Sequence[str],
    *,
    weights: Sequence[float] | None = None,
    on: str = "logits",
    class_names: str | None = None,
) -> Exportable:
    """The model of a run or a `.keras` file, or the late fusion of several.

    Raises:
        ValueError: a model cannot be loaded, or the models do not fit each other.
    """
    parts = [_load(Path(path), class_names) for path in paths]
    if len(parts) == 1:
        return parts[0]
    each = [part.clip_model for part in parts]
    first = each[0]
    for name in ("class_names", "multi_label", "short_side"):
        if any(getattr(one, name) != getattr(first, name) for one in each):
            raise ValueError(f"{', '.join(paths)} differ in their {name.replace('_', ' ')}.")
    fused = models.late_fusion(
        [one.model for one in each], weights=weights, on=on, multi_label=first.multi_label
    )
    description = {
        "model": f"late fusion on {on}",
        "weights": list(weights) if weights else "equal",
        "models": [dict(one.description) for one in each],
    }
    clip_model = ClipModel(
        fused,
        first.class_names,
        tuple(stream for one in each for stream in one.streams),
        first.multi_label,
        first.short_side,
        description,
    )
    configs = tuple(config for part in parts for config in part.configs)
    return Exportable(clip_model, configs, tuple(one for part in parts for one in part.folders))


def clips_of_videos(exportable: Exportable, videos: Sequence[str], place: Path) -> ExportClips:
    """Clips of the user's videos: files, frame folders, and folders that hold videos.

    Raises:
        ValueError: none of them can be used.
    """
    listed = (videos_below(path) if os.path.isdir(path) else [path] for path in videos)
    paths = [path for found in listed for path in found]
    if not paths:
        raise ValueError(f"There are no videos in {', '.join(videos)}.")
    chosen = np.random.default_rng(0).permutation(len(paths))
    paths = [paths[i] for i in chosen[: _NUM_CALIBRATION_CLIPS + _NUM_PROOF_CLIPS]]
    sources: dict[str, ClipSource] = {}
    broken: list[BrokenVideo] = []
    for number, config in enumerate(exportable.configs):
        names = input_names(config)
        if set(names) <= set(sources):
            continue
        folder = place / str(number)
        folder.mkdir()
        source, good, unread = source_of_videos(config, paths, folder)
        broken += unread
        if source is None or (sources and unread):
            raise ValueError(f"{len(unread)} of {len(paths)} videos have no clip in every stream.")
        paths = good
        sources.update(zip(names, streams_of(source), strict=True))
    num_proof = max(min(_NUM_PROOF_CLIPS, len(paths) // 5), 1)
    calibration = range(num_proof if len(paths) > 1 else 0, len(paths))
    return ExportClips(
        clips_of(sources, calibration),
        len(calibration),
        list(clips_of(sources, range(num_proof))),
        broken,
    )


def clips_of_runs(exportable: Exportable, place: Path) -> ExportClips | None:
    """Clips of the runs' own videos: their training list calibrates, their validation list proves.

    Returns:
        None where the videos are no longer there, where models were fused that do not share their
        lists, and for runs on features and files, which do not know their videos.
    """
    training = _shared_part(exportable, "train", _NUM_CALIBRATION_CLIPS, place)
    # A run may have been trained without a validation list.
    validation = _shared_part(exportable, "validation", _NUM_PROOF_CLIPS, place) or training
    if training is None or validation is None:
        return None
    num_proof = min(len(validation.names), _NUM_PROOF_CLIPS)
    return ExportClips(
        clips_of(training.sources, range(len(training.names))),
        len(training.names),
        list(clips_of(validation.sources, range(num_proof))),
        training.broken + validation.broken,
    )


class RunClips(NamedTuple):
    """The clips of a part of a run's own list, by stream, their names, and broken videos."""

    sources: Sources
    names: tuple[str, ...]
    broken: list[BrokenVideo]


def _shared_part(exportable: Exportable, part: str, count: int, place: Path) -> RunClips | None:
    """The same clips of the runs' lists in every stream."""
    parts: list[RunClips] = []
    for folder, config in zip(exportable.folders, exportable.configs, strict=True):
        if folder is None or not (folder / "lists.csv").exists():
            return None
        found = sources_of_run(folder, config, part, place, count)
        if found is None or (parts and found.names != parts[0].names):
            return None
        parts.append(found)
    sources = {name: source for found in parts for name, source in found.sources.items()}
    return RunClips(sources, parts[0].names, [video for one in parts for video in one.broken])


def sources_of_run(
    folder: Path, config: RunConfig, part: str, place: Path, count: int | None = None
) -> RunClips | None:
    """The clips of a part of a run's own list; with `count`, as many chosen at random.

    Returns:
        None where the videos are no longer there, or the list is empty.
    """
    try:
        records = read_lists(folder / "lists.csv", part, config.class_names)
    except ValueError:  # a video is missing
        return None
    if count is not None:
        chosen = np.random.default_rng(0).permutation(len(records))[:count]
        records = tuple(records[i] for i in chosen)
    indexes = index_streams(config, records, place)
    kept, broken = leave_out_broken(config, records, indexes, len(records))
    if not kept:
        return None
    names = input_names(config)
    sources = dict(zip(names, streams_of(clip_source(config, kept, indexes)), strict=True))
    return RunClips(sources, tuple(clip_names(kept)), broken)


def clips_of(sources: Sources, indices: range) -> Iterator[Clip]:
    """Some of the clips, by stream, decoded one by one."""
    each = {name: source.subset(indices) for name, source in sources.items()}
    for clips in zip(
        *(source.clips(augment=False, variant=0) for source in each.values()), strict=True
    ):
        yield dict(zip(each, clips, strict=True))


def _load(path: Path, class_names: str | None) -> Exportable:
    folder = path if path.is_dir() else path.parent
    if not (folder / "config.json").exists() and path.is_file():
        return _load_file(path, class_names)
    config = load_config(folder)
    model = load_model(folder) if path.is_dir() else _load_keras(path)
    description = _description(folder, config)
    if isinstance(config, FeatureRunConfig):
        return _with_extractors(model, config, description)
    clip_model = ClipModel(
        model,
        tuple(config.class_names),
        input_names(config),
        config.multi_label,
        config.short_side,
        description,
    )
    return Exportable(clip_model, (config,), (folder,))


def _load_keras(path: Path) -> keras.Model:
    try:
        return keras.models.load_model(path)
    except (ValueError, TypeError, OSError) as error:
        raise ValueError(f"{path} is no model that Keras can load ({error}).") from error


def _load_file(path: Path, class_names: str | None) -> Exportable:
    """A model without a run folder: its classes are named by the caller, or by their numbers."""
    model = _load_keras(path)
    num_classes = model.output_shape[-1]
    names = read_class_names(class_names) if class_names else map(str, range(num_classes))
    streams = tuple("frames" if x.shape[-1] == 3 else "flow" for x in model.inputs)
    multi_label = bool(models.is_multi_label(model))
    clip_model = ClipModel(
        model, tuple(names), streams, multi_label, description={"file": path.name}
    )
    return Exportable(clip_model, (_config_of(clip_model),), (None,))


def _with_extractors(
    model: keras.Model, config: FeatureRunConfig, description: dict[str, Any]
) -> Exportable:
    """A model of features behind the networks that extract them."""
    extractors: list[Any] = []
    for number, described in enumerate(config.feature_sets):
        same = config.feature_sets.index(described)
        extractors.append(extractors[same] if same < number else rebuild(described))
    of_frames = all(extractor.window_frames == 1 for extractor in extractors)
    num_frames = config.chunk_frames
    if num_frames is None or (of_frames and len(set(config.num_steps)) == 1):
        # Networks of single frames need no others than the steps' own.
        windows = zip(config.num_steps, extractors, strict=True)
        num_read = max(steps * extractor.window_frames for steps, extractor in windows)
        num_steps = math.lcm(*config.num_steps)
        num_frames = -(-num_read // num_steps) * num_steps
    clip_model = ClipModel(
        models.end_to_end(model, *extractors, num_frames=num_frames),
        tuple(config.class_names),
        ("frames",),
        config.multi_label,
        max(described["short_side"] for described in config.feature_sets),
        description,
    )
    return Exportable(clip_model, (_config_of(clip_model),), (None,))


def _config_of(clip_model: ClipModel) -> RunConfig:
    """How clips are read where no run on videos says it: frames spread over the video."""
    num_frames, height, *_ = next(iter(clip_model.inputs.values()))
    names = {value: key for key, value in _INPUTS.items()}
    return RunConfig(
        model=clip_model.model.name,
        model_options={},
        backbone="",
        weights=None,
        class_names=list(clip_model.class_names),
        multi_label=clip_model.multi_label,
        num_frames=num_frames,
        image_size=height,
        sampling="uniform",
        short_side=clip_model.short_side,
        freed_block="",
        data={},
        training={},
        streams=[names[stream] for stream in clip_model.inputs],
    )


def _description(folder: Path, config: RunConfig | FeatureRunConfig) -> dict[str, Any]:
    """What the model card tells of a run."""
    names = (
        *("model", "model_options", "backbone", "layer", "num_frames", "image_size", "sampling"),
        *("streams", "stack_frames", "flow", "chunk_frames", "num_steps"),
    )
    told = {name: getattr(config, name) for name in names if hasattr(config, name)}
    if isinstance(config, FeatureRunConfig):
        kept = ("network", "layer", "frame_step", "window_frames")
        told["features"] = [{key: one[key] for key in kept} for one in config.feature_sets]
    result = folder / "result.json"
    if result.exists():
        told["test"] = json.loads(result.read_text())["stages"][-1]
    return told
