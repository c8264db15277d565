"""One run of `tfvlad train` on extracted features: records -> chunks -> one stage -> test."""

from __future__ import annotations

import functools
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from pipelines.annotations import Split, VideoRecord
from pipelines.features.clips import FeatureClipSource
from pipelines.features.feature_index import drop_without_features
from pipelines.features.feature_set import FeatureSet
from pipelines.video_index import BrokenVideo
from tfvlad.cli.data import clip_names, read_split, set_validation_aside, write_lists
from tfvlad.cli.run_folder import (
    FeatureRunConfig,
    absolute_path,
    build_feature_model,
    load_config,
    load_model,
    report_broken,
    save_model,
    save_scores,
    tell_parts,
)
from tfvlad.training import (
    Stage,
    attention_lstm_stage,
    fit_on_features,
    hollywood2_stage,
    predict_on_features,
)

# What two feature sets must share for a model to take one in the place of the other.
_OF_THE_SAME_KIND = (
    *("network", "layer", "fingerprint", "frame_step", "window_frames"),
    *("image_size", "short_side"),
)


def train_on_features(
    data: str,
    folder: Path,
    *,
    split: int,
    seed: int,
    console: Console,
    **options: Any,
) -> dict[str, Any]:
    """Train, choose on the validation set, test; returns the measures."""
    started = time.monotonic()
    config, parts, broken = plan_run(data, split, seed, options)
    # The same command gives the same figures, also when it was killed in between.
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    folders = feature_folders(options["model_name"], data, options["attended"])
    source = functools.partial(feature_source, config, folders, seed=seed)
    sources = {part: source(found) for part, found in parts.items()}
    model = build_feature_model(config)
    if options["initialize_from"] is not None:
        initialize(model, config, Path(options["initialize_from"]))
    config.save(folder)
    report_broken(broken, folder, console)
    tell_parts(config, parts, console)
    fit_on_features(
        model,
        sources["train"],
        sources["validation"],
        folder,
        stage=Stage(**config.training["stage"]),
        batch_size=options["batch_size"],
        seed=seed,
    )
    write_lists(folder / "lists.csv", parts, config.class_names)
    test = sources["test"]
    scores = predict_clips(model, test, options["test_chunks"])
    report = save_scores(folder, scores, test.labels, clip_names(parts["test"]), config.class_names)
    save_model(model, folder, 1)
    result = {
        "run": str(folder),
        "split": split,
        "seed": seed,
        "broken": len(broken),
        "clip_frames": int(np.median(sources["train"].clip_frames())),
        "stages": [report.metrics],
        "seconds": round(time.monotonic() - started, 1),
    }
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def plan_run(
    data: str, split: int, seed: int, options: dict[str, Any]
) -> tuple[FeatureRunConfig, dict[str, tuple[VideoRecord, ...]], list[BrokenVideo]]:
    """What a run is: its configuration, its training, validation and test clips, and the broken.

    Args:
        data: the features of the clips, or of the input-data.
        split: number of the official split.
        seed: of the validation clips.
        options: of `tfvlad train`.
    """
    model, lists = options["model_name"], options["lists"]
    folders = feature_folders(model, data, options["attended"])
    records, broken = _leave_out(
        read_split(data, lists, split, None), folders, options["max_broken"]
    )
    training, validation = set_validation_aside(records, options["validation_fraction"], seed)
    several = [r for r in (*records.train, *records.test) if len(r.labels) != 1]
    config = FeatureRunConfig(
        model=model,
        model_options=_model_options(model, options),
        class_names=list(records.class_names),
        multi_label=bool(several),
        feature_sets=[asdict(FeatureSet.load(path)) for path in folders],
        num_steps=[options["num_steps"], options["num_attended"]][: len(folders)],
        chunk_frames=options["chunk_frames"] if options["sampling"] == "chunk" else None,
        data={
            "data": absolute_path(data),
            "attended": absolute_path(options["attended"]),
            "lists": absolute_path(lists),
            "split": split,
        },
        training={
            "stage": vars(_stage(options, -(-len(training) // options["batch_size"]))),
            "batch_size": options["batch_size"],
            "seed": seed,
            "initialize_from": absolute_path(options["initialize_from"]),
            "validation_fraction": options["validation_fraction"],
        },
    )
    return config, {"train": training, "validation": validation, "test": records.test}, broken


def feature_source(
    config: FeatureRunConfig,
    folders: list[str],
    records: tuple[VideoRecord, ...],
    *,
    seed: int = 0,
) -> FeatureClipSource:
    """The clips of a run's model from feature sets like its own.

    Raises:
        ValueError: a set was extracted in another way.
    """
    for known, folder in zip(config.feature_sets, folders, strict=True):
        trained_on, found = FeatureSet(**known), FeatureSet.load(folder)
        for name in _OF_THE_SAME_KIND:
            there, here = getattr(trained_on, name), getattr(found, name)
            if there != here:
                raise ValueError(
                    f"'{folder}' holds other features than the model was trained on: {name} is "
                    f"{here}, and {there} there."
                )
    return FeatureClipSource(
        records,
        config.class_names,
        folders,
        num_steps=config.num_steps,
        chunk_frames=config.chunk_frames,
        multi_label=config.multi_label,
        seed=seed,
    )


def _leave_out(
    records: Split, folders: list[str], max_broken: int | None
) -> tuple[Split, list[BrokenVideo]]:
    """The records that have features, and the others."""
    train, broken_train = drop_without_features(records.train, folders, max_broken)
    test, broken_test = drop_without_features(records.test, folders, max_broken)
    return Split(train, test, records.class_names), broken_train + broken_test


def predict_clips(model: keras.Model, source: FeatureClipSource, num_chunks: int) -> np.ndarray:
    """Scores of all clips, from mirrored chunks too where the features have them."""
    return predict_on_features(model, source, num_chunks=num_chunks, flipped=source.has_flipped)


def initialize(model: keras.Model, config: FeatureRunConfig, run: Path) -> None:
    """Take the weights of another run's model; the head stays new where the classes differ.

    Raises:
        ValueError: the other run's model has other layers.
    """
    other = load_config(run)
    if not isinstance(other, FeatureRunConfig) or other.model != config.model:
        raise ValueError(
            f"--initialize-from must name a run of the same model, {config.model}. "
            f"Received: '{run}', a run of {other.model}."
        )
    same_head = (other.class_names, other.multi_label) == (config.class_names, config.multi_label)
    trained = load_model(run)
    for layer in model.layers:
        if not layer.weights or (layer.name == "logits" and not same_head):
            continue
        weights = trained.get_layer(layer.name).get_weights()
        shapes = [np.shape(w) for w in weights], [tuple(w.shape) for w in layer.weights]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"The layer '{layer.name}' of '{run}' has weights of the shapes {shapes[0]}, and "
                f"{shapes[1]} are needed. Train with its features and sizes."
            )
        layer.set_weights(weights)


def feature_folders(model_name: str, data: str, attended: str | None) -> list[str]:
    """The feature sets that a model takes.

    Raises:
        ValueError: it takes no attended features.
    """
    if model_name == "attention-lstm":
        return [data, attended or data]
    if attended is not None:
        raise ValueError(f"{model_name} attends to nothing. Received: --attended {attended}.")
    return [data]


def _model_options(model_name: str, options: dict[str, Any]) -> dict[str, Any]:
    chosen = {"dropout": options["dropout"]}
    if model_name != "feature-softmax":
        chosen["units"] = options["units"]
    if model_name == "attention-lstm":
        chosen["matching_units"] = options["matching_units"]
        chosen["attend"] = options["attend"].replace("-", "_")
    return chosen


def _stage(options: dict[str, Any], steps_per_epoch: int) -> Stage:
    recipe = hollywood2_stage if options["recipe"] == "hollywood2" else attention_lstm_stage
    changes = {
        "epochs": options["max_epochs"],
        "learning_rate": options["learning_rate"],
        "patience": options["patience"],
        "optimizer": options["optimizer"],
        "weight_decay": options["weight_decay"],
    }
    given = {name: value for name, value in changes.items() if value is not None}
    return replace(recipe(steps_per_epoch), **given)
