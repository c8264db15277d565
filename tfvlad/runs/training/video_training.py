"""One training on videos: records -> features -> stages -> test, all in the run's folder."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from pipelines.lists.broken import clip_frames
from pipelines.lists.records import Split
from pipelines.video.index import BrokenVideo, VideoIndex
from tfvlad.backbones import Backbone
from tfvlad.evaluation import EvaluationReport
from tfvlad.runs.clip_sources import (
    clip_source,
    flow_settings,
    index_streams,
    leave_out_broken,
    stream_records,
)
from tfvlad.runs.config import DataPaths, RunConfig, owned_run_folder
from tfvlad.runs.data import clip_names, read_split, set_validation_aside, write_lists
from tfvlad.runs.model_files import save_model
from tfvlad.runs.networks import build_backbones, build_model
from tfvlad.runs.run_files import (
    is_tested,
    save_scores,
    tell_parts,
    write_left_out,
    write_result,
)
from tfvlad.runs.settings import VideoSettings
from tfvlad.training import (
    FeatureCache,
    Stage,
    action_vlad_stages,
    fit_in_stages,
    predict_logits,
    ta_vlad_stages,
)


@dataclass(frozen=True, eq=False)
class VideoTraining:
    """A training that has been checked and has not begun.

    Attributes:
        config: of the run.
        records: training and test clips.
        model: untrained.
        stages: of the training.
    """

    config: RunConfig
    records: Split
    model: keras.Model
    stages: list[Stage]


def train_on_videos(
    data: DataPaths,
    folder: Path,
    settings: VideoSettings,
    *,
    root: Path,
    cache: Path | None = None,
    max_broken: int | None = None,
) -> None:
    """Train, choose the best epochs on the validation set, test; goes on with what was stopped.

    What can be refused is refused before the first file is written, and that before the first
    video is decoded. Runs below one `root` share what is known of the videos and the features.

    Args:
        data: the videos.
        folder: of the run.
        settings: of the training.
        root: of the runs.
        cache: folder of the cached features; `root/features` by default.
        max_broken: most broken videos that may be left out.
    """
    owned = owned_run_folder(folder)
    owned.check_free()
    seed_everything(settings.seed)
    prepared = prepare_on_videos(data, settings)
    with owned.locked():
        owned.claim(prepared.config.to_dict())
        if not is_tested(folder, settings):
            _train(prepared, folder, root, cache or root / "features", max_broken)


def prepare_on_videos(data: DataPaths, settings: VideoSettings) -> VideoTraining:
    """Check a training, without decoding a video, and build its model.

    Raises:
        ValueError: when the settings do not fit the backbone or the data.
    """
    records = read_split(data)
    set_validation_aside(records, settings.validation_fraction, settings.seed)
    config, networks = plan_run(data, records, settings)
    stages = stages_of(settings, config.freed_block)
    for stream in settings.streams:
        stream_records(config, (*records.train, *records.test), stream)
    return VideoTraining(config, records, build_model(config, networks), stages)


def _train(
    prepared: VideoTraining, folder: Path, root: Path, cache: Path, max_broken: int | None
) -> None:
    """Train and test, see `train_on_videos`."""
    started = time.monotonic()
    config, model, stages = prepared.config, prepared.model, prepared.stages
    settings = config.settings
    records, indexes, broken = usable_records(config, prepared.records, root, max_broken)
    write_left_out(broken, folder)
    training, validation = set_validation_aside(
        records, settings.validation_fraction, settings.seed
    )
    parts = {"train": training, "validation": validation, "test": records.test}
    tell_parts(config, parts)
    source = functools.partial(clip_source, config, indexes=indexes)
    kept = None
    if settings.num_cached_crops is not None:
        kept = FeatureCache(cache, settings.cache_dtype)
    fit_in_stages(
        model,
        source(training, color_jitter=settings.color_jitter),
        source(validation),
        folder,
        stages=stages,
        batch_size=settings.batch_size,
        seed=settings.seed,
        cache=kept,
        num_cached_crops=settings.num_cached_crops or 1,
    )
    write_lists(folder / "lists.csv", parts, records.class_names)
    test = source(records.test, test_crops=settings.test_crops, test_clips=settings.test_clips)
    predict = functools.partial(predict_logits, model, test, cache=kept, one_bag=settings.one_bag)
    clips = clip_names(records.test)
    reports = _test(model, stages, predict, test.labels, clips, config.class_names, folder)
    save_model(model, folder, len(stages))
    first = settings.streams[0]
    frames = clip_frames(stream_records(config, training, first), indexes[first])
    write_result(
        folder,
        config,
        broken=len(broken),
        clip_frames=int(np.median(frames)),
        stages=[report.metrics for report in reports],
        seconds=round(time.monotonic() - started, 1),
    )


def seed_everything(seed: int) -> None:
    """The same call gives the same figures, also when it was killed in between."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def plan_run(
    data: DataPaths, records: Split, settings: VideoSettings
) -> tuple[RunConfig, tuple[Backbone, ...]]:
    """What a run is, and its backbones with their first weights.

    Raises:
        ValueError: when the settings do not fit the backbone or the data.
    """
    several = [r for r in (*records.train, *records.test) if len(r.labels) != 1]
    config = RunConfig(
        settings=settings,
        data=data,
        class_names=tuple(records.class_names),
        multi_label=bool(several),
        freed_block="",
        short_side=settings.short_side,
        flow=flow_settings(data.flow or data.data) if "flow" in settings.streams else None,
    )
    networks = build_backbones(settings, "")
    freed_block = _freed_block(networks[0], settings)
    if settings.freeze_attention:
        networks = build_backbones(settings, freed_block)
    return replace(config, freed_block=freed_block), networks


def _freed_block(network: Backbone, settings: VideoSettings) -> str:
    blocks, name = list(network.blocks), settings.freed_block
    if name is None and (blocks or settings.num_stages == 1):
        return blocks[-1] if blocks else ""
    if name not in blocks:
        known = f"one of {', '.join(blocks)}" if blocks else f"left out: {network.name} has none"
        advice = "" if blocks else " Or leave stage 2 out: `epochs` ends with 0."
        raise ValueError(f"`freed_block` must be {known}. Received: freed_block={name!r}.{advice}")
    return name


def stages_of(settings: VideoSettings, freed_block: str) -> list[Stage]:
    """The stages of the training: the recipe's, with what the settings say."""
    if settings.recipe == "action-vlad":
        first, second = action_vlad_stages(freed_block, steps_per_epoch=1)
        first = replace(first, trainable_layers=ta_vlad_stages(freed_block)[0].trainable_layers)
    else:
        first, second = ta_vlad_stages(freed_block)
    if settings.fixed_centers:
        trained = (*(first.trainable_layers or ()), "attention")
        second = replace(second, trainable_layers=trained)
    decay = settings.weight_decay
    stages = [
        replace(
            stage,
            epochs=epochs or stage.epochs,
            learning_rate=learning_rate,
            decay_epochs=decay_epochs,
            optimizer=settings.optimizer or stage.optimizer,
            patience=settings.patience,
            weight_decay=stage.weight_decay if decay is None else decay,
        )
        for stage, epochs, learning_rate, decay_epochs in zip(
            (first, second),
            settings.epochs,
            settings.learning_rates,
            settings.decay_epochs,
            strict=True,
        )
    ]
    return stages[: settings.num_stages]


def usable_records(
    config: RunConfig, records: Split, root: Path, max_broken: int | None
) -> tuple[Split, dict[str, VideoIndex], list[BrokenVideo]]:
    """The records that can be decoded, what is known of their videos, and the broken ones."""
    indexes = index_streams(config, (*records.train, *records.test), root)
    train, broken_train = leave_out_broken(config, records.train, indexes, max_broken)
    test, broken_test = leave_out_broken(config, records.test, indexes, max_broken)
    return Split(train, test, records.class_names), indexes, broken_train + broken_test


def _test(
    model: keras.Model,
    stages: list[Stage],
    predict: Callable[..., np.ndarray],
    labels: np.ndarray,
    clips: list[str],
    class_names: tuple[str, ...],
    folder: Path,
) -> list[EvaluationReport]:
    """Scores after every stage, in one reading of the test list; the last stage's are the run's."""
    reports = []
    for number, stage in enumerate(stages, 1):
        model.load_weights(folder / f"stage{number}.keras")
        logits = predict(freed_block=stage.freed_block, later_freed_block=stages[-1].freed_block)
        last = number == len(stages)
        place = folder if last else folder / f"stage{number}"
        place.mkdir(exist_ok=True)
        reports.append(save_scores(place, logits, labels, clips, class_names))
    return reports
