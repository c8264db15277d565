"""One run of `tfvlad train`: videos -> records -> features -> stages -> test."""

from __future__ import annotations

import functools
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from pipelines.annotations import Split
from pipelines.clip_dataset import VideoClipSource
from pipelines.video_index import VideoIndex, clip_frames, drop_broken, index_videos
from tfvlad.cli.data import clip_names, read_split, set_validation_aside, write_lists
from tfvlad.cli.run_folder import (
    RunConfig,
    build_backbone,
    build_model,
    report_broken,
    save_model,
    save_scores,
)
from tfvlad.evaluation import EvaluationReport
from tfvlad.training import (
    FeatureCache,
    Stage,
    action_vlad_stages,
    fit_in_stages,
    predict_logits,
    ta_vlad_stages,
)


def train_one(
    data: str,
    folder: Path,
    *,
    root: Path,
    split: int,
    seed: int,
    console: Console,
    test_data: str | None,
    lists: str | None,
    model_name: str,
    backbone: str,
    weights: str,
    num_frames: int,
    image_size: int,
    sampling: str,
    color_jitter: float,
    freed_block: str | None,
    validation_fraction: float,
    cache: str | None,
    no_cache: bool,
    cache_dtype: str,
    max_broken: int | None,
    **options: Any,
) -> dict[str, Any]:
    """Train, choose on the validation set, test; returns the measures after each stage.

    What can be refused is refused before the first file is written, and that before the first
    video is decoded. Runs below one `root` share what is known of the videos and the features.
    """
    started = time.monotonic()
    records = read_split(data, lists, split, test_data)
    set_validation_aside(records, validation_fraction, seed)
    # The same command gives the same figures, also when it was killed in between.
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    first_weights = None if weights == "none" else weights
    network = build_backbone(backbone, first_weights, image_size)
    freed_block = freed_block or list(network.blocks)[-1]
    if freed_block not in network.blocks:
        raise ValueError(
            f"--freed-block must be one of {', '.join(network.blocks)}. Received: {freed_block}."
        )
    stages = _stages(options, freed_block)
    several = [r for r in (*records.train, *records.test) if len(r.labels) != 1]
    config = RunConfig(
        model=model_name,
        model_options=_model_options(model_name, options),
        backbone=backbone,
        weights=first_weights if first_weights == "imagenet" else _absolute(first_weights),
        class_names=list(records.class_names),
        multi_label=bool(several),
        num_frames=num_frames,
        image_size=image_size,
        sampling=sampling,
        short_side=round(image_size * 256 / 224),
        freed_block=freed_block,
        data={
            "data": _absolute(data),
            "test_data": _absolute(test_data),
            "lists": _absolute(lists),
            "split": split,
        },
        training={
            "stages": [vars(stage) for stage in stages],
            "batch_size": options["batch_size"],
            "seed": seed,
            "color_jitter": color_jitter,
            "cached_crops": None if no_cache else options["cached_crops"],
            "validation_fraction": validation_fraction,
        },
    )
    model = build_model(config, network)
    config.save(folder)
    records, index, num_broken = _leave_out_broken(records, folder, root, max_broken, console)
    training, validation = set_validation_aside(records, validation_fraction, seed)
    kind = f"several labels a clip (first: {several[0].path})" if several else "one label a clip"
    console.print(
        f"{len(records.class_names)} classes, {kind}: {len(training)} training, "
        f"{len(validation)} validation, {len(records.test)} test clips",
        markup=False,
        highlight=False,
    )
    source = functools.partial(
        VideoClipSource,
        class_names=records.class_names,
        index=index,
        num_frames=num_frames,
        image_size=image_size,
        short_side=config.short_side,
        sampling=sampling,
        color_jitter=color_jitter,
        multi_label=config.multi_label,
    )
    features = None if no_cache else FeatureCache(cache or root / "features", cache_dtype)
    fit_in_stages(
        model,
        network,
        source(training),
        source(validation),
        folder,
        stages=stages,
        batch_size=options["batch_size"],
        seed=seed,
        cache=features,
        num_cached_crops=options["cached_crops"],
    )
    parts = {"train": training, "validation": validation, "test": records.test}
    write_lists(folder / "lists.csv", parts, records.class_names)
    test = source(records.test, test_crops=int(options["test_crops"]))
    reports = _test(model, stages, config, network, test, features, folder)
    save_model(model, folder, len(stages))
    result = {
        "run": str(folder),
        "split": split,
        "seed": seed,
        "broken": num_broken,
        "clip_frames": int(np.median(clip_frames(training, index))),
        "stages": [report.metrics for report in reports],
        "seconds": round(time.monotonic() - started, 1),
    }
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def summary_table(results: list[dict[str, Any]]) -> Table:
    """One row a run and stage; the mean over the runs last."""
    table = Table(title="Test list, %")
    for column in ("split", "seed", "stage"):
        table.add_column(column)
    names = [name for name, value in results[0]["stages"][0].items() if isinstance(value, float)]
    for name in (*names, "seconds"):
        table.add_column(name, justify="right")
    for result in results:
        for number, metrics in enumerate(result["stages"], 1):
            figures = []
            for name in names:
                interval = metrics.get(f"{name}_interval")
                figure = f"{100 * metrics[name]:.1f}"
                if interval:
                    figure += f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
                figures.append(figure)
            row = (str(result["split"]), str(result["seed"]), str(number), *figures)
            table.add_row(*row, f"{result['seconds']:.0f}")
    if len(results) > 1:
        for number in range(len(results[0]["stages"])):
            means = [np.mean([r["stages"][number][name] for r in results]) for name in names]
            table.add_row("mean", "", str(number + 1), *(f"{100 * mean:.1f}" for mean in means), "")
    return table


def _absolute(path: str | None) -> str | None:
    return path and os.path.abspath(path)


def _leave_out_broken(
    records: Split, folder: Path, root: Path, max_broken: int | None, console: Console
) -> tuple[Split, VideoIndex, int]:
    """The records that can be decoded; the others are named in broken.csv and on the terminal."""
    index = index_videos(
        (record.path for record in (*records.train, *records.test)),
        cache_path=str(root / "videos.json"),
    )
    train, broken_train = drop_broken(records.train, index, max_broken)
    test, broken_test = drop_broken(records.test, index, max_broken)
    broken = broken_train + broken_test
    report_broken(broken, folder, console)
    return Split(train, test, records.class_names), index, len(broken)


def _model_options(model_name: str, options: dict[str, Any]) -> dict[str, Any]:
    attention = options["attention"]
    return {
        "num_clusters": options["num_clusters"],
        "units": options["units"],
        "alpha": options["alpha"],
        "bidirectional": options["bidirectional"],
        "attention": model_name == "ta-vlad" if attention is None else attention,
        "dropout": options["dropout"],
    }


def _stages(options: dict[str, Any], freed_block: str) -> list[Stage]:
    if options["recipe"] == "action-vlad":
        first, second = action_vlad_stages(freed_block, steps_per_epoch=1)
    else:
        first, second = ta_vlad_stages(freed_block)
    decay = options["weight_decay"]
    return [
        replace(
            stage,
            epochs=epochs,
            learning_rate=learning_rate,
            decay_epochs=decay_epochs,
            weight_decay=stage.weight_decay if decay is None else decay,
        )
        for stage, epochs, learning_rate, decay_epochs in zip(
            (replace(first, trainable_layers=("shared_gru", "logits")), second),
            options["epochs"],
            options["learning_rates"],
            options["decay_epochs"],
            strict=True,
        )
        if epochs
    ]


def _test(
    model: keras.Model,
    stages: list[Stage],
    config: RunConfig,
    network: Any,
    test: VideoClipSource,
    features: FeatureCache | None,
    folder: Path,
) -> list[EvaluationReport]:
    """Scores after every stage, in one reading of the test list; the last stage's are the run's."""
    reports = []
    clips = clip_names(test.records)
    for number, stage in enumerate(stages, 1):
        model.load_weights(folder / f"stage{number}.keras")
        logits = predict_logits(
            model,
            test,
            backbone=network,
            freed_block=stage.freed_block,
            later_freed_block=stages[-1].freed_block,
            cache=features,
        )
        last = number == len(stages)
        place = folder if last else folder / f"stage{number}"
        place.mkdir(exist_ok=True)
        reports.append(save_scores(place, logits, test.labels, clips, config.class_names))
    return reports
