"""One run of `tfvlad train`: videos -> records -> features -> stages -> test."""

from __future__ import annotations

import csv
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from pipelines.annotations import Split, split_validation
from pipelines.clip_dataset import VideoClipSource
from pipelines.video_index import BrokenVideo, VideoIndex, drop_broken, index_videos
from tfvlad.cli.data import read_split
from tfvlad.cli.run_folder import RunConfig, build_backbone, build_model, save_scores
from tfvlad.evaluation import EvaluationReport
from tfvlad.training import FeatureCache, Stage, fit_in_stages, predict_logits


def train_one(
    data: str,
    folder: Path,
    *,
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
    freed_block: str | None,
    validation_fraction: float,
    cache: str | None,
    no_cache: bool,
    cache_dtype: str,
    max_broken: int | None,
    **options: Any,
) -> dict[str, Any]:
    """Train, choose on the validation set, test; returns the measures after each stage."""
    started = time.monotonic()
    records = read_split(data, lists, split, test_data)
    index = index_videos(
        (record.path for record in (*records.train, *records.test)),
        cache_path=str(_made(folder) / "videos.json"),
    )
    records, broken = _leave_out_broken(records, index, max_broken)
    _report_broken(broken, folder, console)
    multi_label = any(len(record.labels) != 1 for record in (*records.train, *records.test))
    training, validation = split_validation(records.train, validation_fraction, seed)

    # The same command gives the same figures, also when it was killed in between.
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    network = build_backbone(backbone, None if weights == "none" else weights, image_size)
    config = RunConfig(
        model=model_name,
        model_options=_model_options(model_name, options),
        backbone=backbone,
        weights=None if weights == "none" else weights,
        class_names=list(records.class_names),
        multi_label=multi_label,
        num_frames=num_frames,
        image_size=image_size,
        short_side=round(image_size * 256 / 224),
        freed_block=freed_block or list(network.blocks)[-1],
        data={"data": data, "test_data": test_data, "lists": lists, "split": split},
        training={
            "stages": [vars(stage) for stage in _stages(options, freed_block, network)],
            "batch_size": options["batch_size"],
            "seed": seed,
            "cached_crops": None if no_cache else options["cached_crops"],
            "validation_fraction": validation_fraction,
        },
    )
    config.save(folder)

    def source(chosen: Any, test_crops: int = 1) -> VideoClipSource:
        return VideoClipSource(
            chosen,
            records.class_names,
            index=index,
            num_frames=num_frames,
            image_size=image_size,
            short_side=config.short_side,
            test_crops=test_crops,
            multi_label=multi_label,
        )

    features = None if no_cache else FeatureCache(cache or folder / "features", cache_dtype)
    model = build_model(config, network)
    stages = _stages(options, freed_block, network)
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
    test = source(records.test, int(options["test_crops"]))
    reports = _test(model, stages, config, network, test, features, folder)
    shutil.copyfile(folder / f"stage{len(stages)}.keras", folder / "model.keras")
    result = {
        "run": str(folder),
        "split": split,
        "seed": seed,
        "broken": len(broken),
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


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _leave_out_broken(
    records: Split, index: VideoIndex, max_broken: int | None
) -> tuple[Split, list[BrokenVideo]]:
    train, broken_train = drop_broken(records.train, index, max_broken)
    test, broken_test = drop_broken(records.test, index, max_broken)
    return Split(train, test, records.class_names), broken_train + broken_test


def _report_broken(broken: list[BrokenVideo], folder: Path, console: Console) -> None:
    with open(folder / "broken.csv", "w", newline="") as file:
        csv.writer(file).writerows([("path", "reason"), *((b.path, b.reason) for b in broken)])
    if broken:
        console.print(f"[yellow]{len(broken)} broken videos are left out:[/yellow]")
        for video in broken:
            console.print(f"  {video.path}: {video.reason}", markup=False, highlight=False)


def _model_options(model_name: str, options: dict[str, Any]) -> dict[str, Any]:
    alpha, attention = options["alpha"], options["attention"]
    return {
        "num_clusters": options["num_clusters"],
        "units": options["units"],
        "alpha": alpha if alpha == "auto" else float(alpha),
        "bidirectional": options["bidirectional"],
        "attention": model_name == "ta-vlad" if attention is None else attention,
        "dropout": options["dropout"],
    }


def _stages(options: dict[str, Any], freed_block: str | None, network: Any) -> list[Stage]:
    first, second = (
        {
            "epochs": epochs,
            "learning_rate": learning_rate,
            "decay_epochs": decay_epochs,
            "weight_decay": options["weight_decay"],
        }
        for epochs, learning_rate, decay_epochs in zip(
            options["epochs"], options["learning_rates"], options["decay_epochs"], strict=True
        )
    )
    stages = [Stage(trainable_layers=("shared_gru", "logits"), **first)]
    if second["epochs"]:
        block = freed_block or list(network.blocks)[-1]
        stages.append(Stage(freed_block=block, **second))
    return stages


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
    clips = [os.path.basename(record.path) for record in test.records]
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
        reports.append(save_scores(_made(place), logits, test.labels, clips, config))
    return reports
