"""One run of `tfvlad train`: videos -> records -> features -> stages -> test."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from pipelines.annotations import Split
from pipelines.video_index import VideoIndex, clip_frames
from tfvlad.backbones import Backbone
from tfvlad.cli.clip_sources import (
    clip_source,
    flow_settings,
    index_streams,
    leave_out_broken,
    stream_records,
)
from tfvlad.cli.data import (
    clip_names,
    read_split,
    refuse_options,
    set_validation_aside,
    write_lists,
)
from tfvlad.cli.run_folder import (
    RunConfig,
    absolute_path,
    build_backbones,
    build_model,
    options_of,
    report_broken,
    save_model,
    save_scores,
    tell_parts,
)
from tfvlad.evaluation import EvaluationReport
from tfvlad.training import (
    FeatureCache,
    Stage,
    action_vlad_stages,
    check_one_bag,
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
    skip_finished: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Train, choose on the validation set, test; returns the measures after each stage.

    What can be refused is refused before the first file is written, and that before the first
    video is decoded. Runs below one `root` share what is known of the videos and the features.

    Args:
        data: the videos, as the command line names them.
        folder: of the run.
        root: of the runs.
        split: number of the official split.
        seed: of everything that is drawn.
        console: where it is told what is trained on.
        skip_finished: return what a finished run has written, if it was tested in the same way.
        **options: of `tfvlad train`.
    """
    started = time.monotonic()
    records = read_split(data, options["lists"], split, options["test_data"])
    fraction = options["validation_fraction"]
    set_validation_aside(records, fraction, seed)
    # The same command gives the same figures, also when it was killed in between.
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    config, stages, networks = plan_run(data, records, split, seed, options)
    model = build_model(config, networks)
    if options["one_bag"]:
        check_one_bag(model)
    config.save(folder)
    views = {name: options[name] for name in ("test_crops", "test_clips", "one_bag")}
    if skip_finished and (folder / "result.json").exists():
        result = json.loads((folder / "result.json").read_text())
        if result.get("views") == views:
            return result
    records, indexes, num_broken = usable_records(config, records, folder, root, options, console)
    training, validation = set_validation_aside(records, fraction, seed)
    parts = {"train": training, "validation": validation, "test": records.test}
    tell_parts(config, parts, console)
    source = functools.partial(
        clip_source, config, indexes=indexes, color_jitter=options["color_jitter"]
    )
    cache = None
    if not options["no_cache"]:
        cache = FeatureCache(options["cache"] or root / "features", options["cache_dtype"])
    fit_in_stages(
        model,
        networks,
        source(training),
        source(validation),
        folder,
        stages=stages,
        batch_size=options["batch_size"],
        seed=seed,
        cache=cache,
        num_cached_crops=options["cached_crops"],
    )
    write_lists(folder / "lists.csv", parts, records.class_names)
    crops, num_clips = int(options["test_crops"]), options["test_clips"]
    test = clip_source(config, records.test, indexes, test_crops=crops, test_clips=num_clips)
    clips = clip_names(records.test)
    predict = functools.partial(
        predict_logits, model, test, backbone=networks, cache=cache, one_bag=options["one_bag"]
    )
    reports = _test(model, stages, predict, test.labels, clips, config.class_names, folder)
    save_model(model, folder, len(stages))
    first = config.streams[0]
    result = {
        "run": str(folder),
        "split": split,
        "seed": seed,
        "broken": num_broken,
        "clip_frames": int(
            np.median(clip_frames(stream_records(config, training, first), indexes[first]))
        ),
        "views": views,
        "stages": [report.metrics for report in reports],
        "seconds": round(time.monotonic() - started, 1),
    }
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def check_video_options(options: dict[str, Any]) -> None:
    """Refuse options of the running command that its model or its streams leave unused.

    Sizes (--clusters, --units, --alpha) are passed over by models without them: one command line
    serves several models.

    Raises:
        ValueError: one of them was given, or one that the model needs is missing.
    """
    model = options["model_name"]
    kinds = {"bidirectional", "temporal", "intra_normalize", "fusion", "attention"}
    refuse_options(kinds - options_of(model), f"--model {model}")
    two_streams = model == "two-stream"
    if two_streams and options["flow"] is None:
        raise ValueError(
            "--model two-stream needs --flow, a folder that `tfvlad flow` has written."
        )
    refuse_options({"stream", "test_data"} if two_streams else {"flow"}, f"--model {model}")
    if not two_streams:
        unused = {"rgb": "stack_frames", "flow": "color_jitter"}[options["stream"]]
        refuse_options({unused}, f"--stream {options['stream']}")
    if "num_clusters" not in options_of(model):
        refuse_options({"fixed_centers"}, f"--model {model}")
    if not _model_options(options)["attention"] or two_streams:
        refuse_options({"freeze_attention"}, "a model without attention")


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


def plan_run(
    data: str, records: Split, split: int, seed: int, options: dict[str, Any]
) -> tuple[RunConfig, list[Stage], tuple[Backbone, ...]]:
    """What a run is: its configuration, its stages and its backbones with their first weights."""
    weights = None if options["weights"] == "none" else options["weights"]
    two_streams = options["model_name"] == "two-stream"
    streams = ["rgb", "flow"] if two_streams else [options["stream"]]
    several = [r for r in (*records.train, *records.test) if len(r.labels) != 1]
    config = RunConfig(
        model=options["model_name"],
        model_options=_model_options(options),
        backbone=options["backbone"],
        weights=weights if weights == "imagenet" else absolute_path(weights),
        class_names=list(records.class_names),
        multi_label=bool(several),
        num_frames=options["num_frames"],
        image_size=options["image_size"],
        sampling=options["sampling"],
        short_side=round(options["image_size"] * 256 / 224),
        freed_block=options["freed_block"] or "",
        data={
            "data": absolute_path(data),
            "test_data": absolute_path(options["test_data"]),
            "lists": absolute_path(options["lists"]),
            "split": split,
            "flow": absolute_path(options["flow"]),
        },
        training={},
        streams=streams,
        stack_frames=options["stack_frames"],
        layer=options["aggregate_at"],
        flow=flow_settings(options["flow"] or data) if "flow" in streams else None,
    )
    networks = build_backbones(config, weights)
    freed_block = _freed_block(networks[0], options)
    if options["freeze_attention"]:
        config = replace(config, freed_block=freed_block, freeze_attention=True)
        networks = build_backbones(config, weights)
    stages = _stages(options, freed_block)
    training = {
        "stages": [vars(stage) for stage in stages],
        "batch_size": options["batch_size"],
        "seed": seed,
        "color_jitter": options["color_jitter"],
        "cached_crops": None if options["no_cache"] else options["cached_crops"],
        "validation_fraction": options["validation_fraction"],
    }
    return replace(config, freed_block=freed_block, training=training), stages, networks


def _freed_block(network: Backbone, options: dict[str, Any]) -> str:
    blocks, name = list(network.blocks), options["freed_block"]
    if name is None and (blocks or not options["epochs"][1]):
        return blocks[-1] if blocks else ""
    if name not in blocks:
        known = f"one of {', '.join(blocks)}" if blocks else f"left out: {network.name} has none"
        raise ValueError(f"--freed-block must be {known}. Received: {name}.")
    return name


def usable_records(
    config: RunConfig,
    records: Split,
    folder: Path,
    root: Path,
    options: dict[str, Any],
    console: Console,
) -> tuple[Split, dict[str, VideoIndex], int]:
    """The records that can be decoded; the others are named in broken.csv and on the terminal."""
    indexes = index_streams(config, (*records.train, *records.test), root)
    train, broken_train = leave_out_broken(config, records.train, indexes, options["max_broken"])
    test, broken_test = leave_out_broken(config, records.test, indexes, options["max_broken"])
    broken = broken_train + broken_test
    report_broken(broken, folder, console)
    return Split(train, test, records.class_names), indexes, len(broken)


def _model_options(options: dict[str, Any]) -> dict[str, Any]:
    names = ("num_clusters", "units", "alpha", "bidirectional", "temporal", "intra_normalize")
    attention = options["attention"]
    return {
        **{name: options[name] for name in (*names, "fusion", "dropout")},
        "attention": options["model_name"] == "ta-vlad" if attention is None else attention,
    }


def _stages(options: dict[str, Any], freed_block: str) -> list[Stage]:
    if options["recipe"] == "action-vlad":
        first, second = action_vlad_stages(freed_block, steps_per_epoch=1)
        first = replace(first, trainable_layers=ta_vlad_stages(freed_block)[0].trainable_layers)
    else:
        first, second = ta_vlad_stages(freed_block)
    if options["fixed_centers"]:
        trained = (*(first.trainable_layers or ()), "attention")
        second = replace(second, trainable_layers=trained)
    decay = options["weight_decay"]
    return [
        replace(
            stage,
            epochs=epochs,
            learning_rate=learning_rate,
            decay_epochs=decay_epochs,
            optimizer=options["optimizer"] or stage.optimizer,
            patience=options["patience"],
            weight_decay=stage.weight_decay if decay is None else decay,
        )
        for stage, epochs, learning_rate, decay_epochs in zip(
            (first, second),
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
    predict: Callable[..., np.ndarray],
    labels: np.ndarray,
    clips: list[str],
    class_names: list[str],
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
