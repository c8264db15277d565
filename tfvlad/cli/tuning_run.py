"""One `tfvlad tune`: videos or features -> hyper-model -> search -> the best model as a run."""

from __future__ import annotations

import filecmp
import functools
import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console

import tuning
from pipelines.annotations import VideoRecord
from tfvlad.cli import feature_training, training_run
from tfvlad.cli.clip_sources import clip_source
from tfvlad.cli.data import read_split, refuse_options, set_validation_aside, write_lists
from tfvlad.cli.exportable import input_names
from tfvlad.cli.run_folder import (
    FeatureRunConfig,
    RunConfig,
    build_backbones,
    options_of,
    report_broken,
    save_model,
    tell_parts,
)
from tfvlad.training import FeatureCache, Stage
from tuning.hyper_models.values import Space
from tuning.search_folder import check_is_free
from tuning.searches import is_worker

# Epochs without a better one after which a stage of a clip model's trial ends.
_PATIENCE = 5
# Of a model of features, whose papers' recipes have thousands of short ones.
_MAX_EPOCHS = 60
# The options that are values of a trial under the same name.
VALUES = {
    *("num_clusters", "units", "alpha", "bidirectional", "temporal", "intra_normalize"),
    *("attention", "dropout", "num_frames", "fusion", "optimizer"),
    *("matching_units", "attend", "num_steps", "num_attended", "learning_rate"),
}
_CLIP_MODELS: dict[str, tuple[type, Space]] = {
    "ta-vlad": (tuning.TAVLADHyperModel, tuning.ta_vlad_space),
    "action-vlad": (tuning.ActionVLADHyperModel, tuning.action_vlad_space),
    "two-stream": (tuning.ActionVLADHyperModel, tuning.two_stream_space),
}


def search_videos(
    data: str,
    folder: Path,
    *,
    split: int,
    seed: int,
    given: Collection[str | None],
    console: Console,
    **options: Any,
) -> dict[str, Any] | None:
    """Search for a model of videos.

    Args:
        data: the videos, as the command line names them.
        folder: of the search.
        split: number of the official split.
        seed: of everything that is drawn.
        given: options that were given, which are fixed.
        console: where the trials are told.
        **options: of `tfvlad tune`.

    Returns:
        What best.json says; None in a worker.

    Raises:
        ValueError: what was asked for is not possible, or no trial has a model.
    """
    training_run.check_video_options(options)
    model = options["model_name"]
    refuse_options(VALUES - options_of(model) - {"optimizer"}, f"--model {model}")
    check_is_free(folder)
    records = read_split(data, options["lists"], split, options["test_data"])
    fraction = options["validation_fraction"]
    set_validation_aside(records, fraction, seed)
    tf.config.experimental.enable_op_determinism()
    options["patience"] = options["patience"] or _PATIENCE
    plan = functools.partial(training_run.plan_run, data, records, split, seed)
    config, stages, networks = plan(options)
    place = folder / "data"
    place.mkdir(parents=True, exist_ok=True)
    records, indexes, _ = training_run.usable_records(
        config, records, place, place, options, console
    )
    training, validation = set_validation_aside(records, fraction, seed)
    tell_parts(config, {"train": training, "validation": validation}, console)
    source = functools.partial(
        clip_source, config, indexes=indexes, color_jitter=options["color_jitter"]
    )
    weights = None if options["weights"] == "none" else options["weights"]
    hyper_model_class, space = _CLIP_MODELS[model]
    blocks = list(networks[0].blocks)
    hyper_model = hyper_model_class(
        lambda: build_backbones(config, weights),
        len(config.class_names),
        space=tuning.paper_space if options["space"] == "paper" else space,
        fixed=_fixed(options, given, blocks),
        stages=stages,
        batch_size=options["batch_size"],
        cache=FeatureCache(options["cache"] or folder / "features", options["cache_dtype"]),
        num_cached_crops=options["cached_crops"],
        seed=seed,
    )
    sources = source(training), source(validation)
    best = _search(hyper_model, sources, folder, config, options, seed, console)
    if best is None:
        return None
    parts = {"train": training, "validation": validation, "test": records.test}
    chosen = plan(_with_values(options, best.values, blocks))[0]
    return _write_best(folder, chosen, parts, best, console)


def search_features(
    data: str,
    folder: Path,
    *,
    split: int,
    seed: int,
    given: Collection[str | None],
    console: Console,
    **options: Any,
) -> dict[str, Any] | None:
    """Search for an attention LSTM on features; see `search_videos`."""
    options["initialize_from"] = None
    options["max_epochs"] = options["max_epochs"] or _MAX_EPOCHS
    options["patience"] = options["patience"] or 2 * _PATIENCE
    check_is_free(folder)
    tf.config.experimental.enable_op_determinism()
    plan = functools.partial(feature_training.plan_run, data, split, seed)
    config, parts, broken = plan(options)
    place = folder / "data"
    place.mkdir(parents=True, exist_ok=True)
    report_broken(broken, place, console)
    tell_parts(config, {name: parts[name] for name in ("train", "validation")}, console)
    folders = feature_training.feature_folders(config.model, data, options["attended"])
    channels = [described["num_channels"] for described in config.feature_sets]
    hyper_model = tuning.AttentionLSTMHyperModel(
        len(config.class_names),
        *channels,
        multi_label=config.multi_label,
        fixed=_fixed(options, given, []),
        stage=Stage(**config.training["stage"]),
        batch_size=options["batch_size"],
        seed=seed,
    )
    sources = tuple(
        feature_training.feature_source(config, folders, parts[part], seed=seed)
        for part in ("train", "validation")
    )
    best = _search(hyper_model, sources, folder, config, options, seed, console)
    if best is None:
        return None
    chosen = plan(_with_values(options, best.values, []))[0]
    return _write_best(folder, chosen, parts, best, console)


def _fixed(
    options: Mapping[str, Any], given: Collection[str | None], blocks: Sequence[str]
) -> dict[str, Any]:
    """The values of a trial that the command line says."""
    # In an order that is the same in every process.
    fixed = {name: options[name] for name in sorted(VALUES & set(given))}
    if "attend" in fixed:
        fixed["attend"] = fixed["attend"].replace("-", "_")
    if "learning_rates" in given:
        for number, learning_rate in enumerate(options["learning_rates"], 1):
            fixed[f"stage{number}_learning_rate"] = learning_rate
    if "freed_block" in given:
        fixed["num_freed_blocks"] = len(blocks) - blocks.index(options["freed_block"])
    return fixed


def _with_values(
    options: dict[str, Any], values: Mapping[str, Any], blocks: Sequence[str]
) -> dict[str, Any]:
    """The options of `tfvlad train` that a trial's values stand for."""
    chosen = {**options, **{name: value for name, value in values.items() if name in options}}
    if "attend" in values:
        chosen["attend"] = values["attend"].replace("_", "-")
    if "num_freed_blocks" not in values:
        return chosen
    rates = options["learning_rates"]
    chosen["learning_rates"] = (
        values.get("stage1_learning_rate", rates[0]),
        values.get("stage2_learning_rate", rates[1]),
    )
    if values["num_freed_blocks"]:
        chosen["freed_block"] = blocks[-values["num_freed_blocks"]]
    else:
        chosen["epochs"] = (options["epochs"][0], 0)
    return chosen


def _search(
    hyper_model: Any,
    sources: Sequence[Any],
    folder: Path,
    config: RunConfig | FeatureRunConfig,
    options: Mapping[str, Any],
    seed: int,
    console: Console,
) -> tuning.Trial | None:
    """The best trial with a model; None in a worker."""
    limits = {"parameters": options["max_parameters"], "litert_ms": options["max_litert_ms"]}
    measures = {}
    if isinstance(config, RunConfig) and (options["litert_latency"] or options["max_litert_ms"]):
        measures["litert_ms"] = functools.partial(_litert_ms, config=config)
    training, validation = sources
    trials = tuning.search(
        hyper_model,
        training,
        validation,
        folder,
        algorithm=options["algorithm"],
        measure=options["measure"],
        max_trials=options["max_trials"],
        max_hours=options["max_hours"],
        measures=measures,
        limits={name: limit for name, limit in limits.items() if limit is not None},
        seed=seed,
        console=console,
    )
    if is_worker():
        return None
    with_model = [trial for trial in trials if "stages" in trial.metrics]
    if not with_model:
        raise ValueError(f"No trial has a model; {folder / 'trials.csv'} says why.")
    return tuning.best_trials(with_model)[0]


def _litert_ms(model: keras.Model, config: RunConfig) -> float:
    from export import ClipModel, litert_latency_ms  # of the current stack

    clip_model = ClipModel(
        model,
        tuple(config.class_names),
        input_names(config),
        config.multi_label,
        config.short_side,
    )
    return litert_latency_ms(clip_model)


def _write_best(
    folder: Path,
    config: RunConfig | FeatureRunConfig,
    parts: Mapping[str, Sequence[VideoRecord]],
    best: tuning.Trial,
    console: Console,
) -> dict[str, Any]:
    """Make the best trial's model a run folder, `best`."""
    aside, run = folder / ".best", folder / "best"
    number = int(best.metrics["stages"])
    if isinstance(config, RunConfig):  # Hyperband may not have come to the second stage
        stages = config.training["stages"][:number]
        config = replace(config, training={**config.training, "stages": stages})
    shutil.rmtree(aside, ignore_errors=True)
    config.save(aside)
    shutil.copyfile(folder / "best.keras", aside / f"stage{number}.keras")
    save_model(keras.models.load_model(folder / "best.keras"), aside, number)
    shutil.copyfile(best.folder / "history.csv", aside / "history.csv")
    write_lists(aside / "lists.csv", parts, config.class_names)
    same = ("config.json", "model.keras")
    if filecmp.cmpfiles(aside, run, same, shallow=False)[0] == list(same):
        shutil.rmtree(aside)  # what else is there, its evaluation for instance, stays
    else:
        shutil.rmtree(run, ignore_errors=True)
        aside.rename(run)
    console.print(
        f"The best model is '{run}', trial {best.trial_id}. Test it once: tfvlad evaluate {run}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    return json.loads((folder / "best.json").read_text())
