"""`tfvlad evaluate`: a trained model on labelled videos."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipelines.annotations import VideoRecord
from tfvlad.cli.data import clip_names, lists_option, read_lists, read_test_list, refuse_options
from tfvlad.cli.train_options import view_options

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from pipelines.video_index import BrokenVideo
    from tfvlad.cli.run_folder import FeatureRunConfig, RunConfig

# The logits, the labels and the clips that were tested, and what else is to be told of the test.
Tested = tuple["np.ndarray", "np.ndarray", tuple[VideoRecord, ...], dict[str, Any]]


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False))
@click.argument("data", required=False, type=click.Path(exists=True))
@lists_option
@click.option(
    "--split",
    type=click.IntRange(min=1),
    help="Number of the official split of --lists; the run's by default.",
)
@view_options
@click.option(
    "--flow",
    type=click.Path(exists=True, file_okay=False),
    help="Optical flow of the videos in DATA, for a two-stream model.",
)
@click.option(
    "--attended",
    type=click.Path(exists=True, file_okay=False),
    help="Features that the attention LSTM attends to, where DATA is the folder of its input.",
)
@click.option(
    "--test-chunks",
    default=40,
    show_default=True,
    type=click.IntRange(min=1),
    help="Random chunks of a clip's features, and as many mirrored ones.",
)
@click.option("--output", type=click.Path(file_okay=False), help="RUN/evaluation by default.")
@click.option("--max-broken", type=click.IntRange(min=0), help="Most broken videos to leave out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(
    run: str,
    data: str | None,
    lists: str | None,
    split: int | None,
    flow: str | None,
    attended: str | None,
    test_chunks: int,
    output: str | None,
    max_broken: int | None,
    as_json: bool,
    **views: Any,
) -> None:
    """Test the model of RUN on its own test list, or on all videos of DATA.

    DATA is a folder with a sub-folder of videos for each class, a CSV of
    path,label[,start_seconds,end_seconds], or a folder of `tfvlad features` for a model of
    features; with --lists the folder of what the official lists name, of which the test list is
    taken. Writes metrics.json, per_class.csv, confusion.csv, confusion.png, scores.npz, and
    evaluation.json, which tells what was tested.

    \b
    Example:
      tfvlad evaluate run/ --test-crops 10
    """
    from rich.console import Console

    from tfvlad.cli.run_folder import FeatureRunConfig, load_config, save_scores
    from tfvlad.evaluation import metrics_table

    folder = Path(run)
    config = load_config(folder)
    on_features = isinstance(config, FeatureRunConfig)
    foreign = {*views, "flow"} if on_features else {"attended", "test_chunks"}
    refuse_options(foreign, f"a run of {config.model}")
    if data is None and (lists is not None or split is not None):
        raise ValueError("--lists and --split need DATA, the folder of the videos they list.")
    if lists is None and split is not None:
        raise ValueError(f"--split needs --lists. Received: --split {split}.")
    if data is None:
        records = read_lists(folder / "lists.csv", "test", config.class_names)
    else:
        split = split or config.data["split"]
        records = read_test_list(data, lists, split, config.class_names)
    place = Path(output) if output else folder / "evaluation"
    console = Console(stderr=as_json)
    if isinstance(config, FeatureRunConfig):
        sets = _feature_sets(config, data, attended)
        tested = _test_on_features(folder, config, records, sets, test_chunks, max_broken, console)
    else:
        config = _with_data(config, data, flow)
        tested = _test_on_videos(folder, config, records, views, place, max_broken, console)
    logits, labels, clips, told = tested
    report = save_scores(place, logits, labels, clip_names(clips), config.class_names)
    told = {
        "run": os.path.abspath(run),
        "data": os.path.abspath(data or folder / "lists.csv"),
        "lists": lists and os.path.abspath(lists),
        "split": split if lists else None,
        **told,
    }
    (place / "evaluation.json").write_text(json.dumps(told, indent=2) + "\n")
    console.print(metrics_table({config.model: report}))
    if as_json:
        click.echo(json.dumps(report.metrics))


def _with_data(config: RunConfig, data: str | None, flow: str | None) -> RunConfig:
    """The configuration with the folders that were named in the place of the training's."""
    if len(config.streams) == 1:
        refuse_options({"flow"}, f"a run of {config.model}")
    elif (data is None) != (flow is None):
        raise ValueError("A two-stream model needs both DATA and --flow, or neither of them.")
    if data is None:
        return config
    named = {"data": os.path.abspath(data), "flow": flow and os.path.abspath(flow)}
    return replace(config, data={**config.data, **named})


def _test_on_videos(
    folder: Path,
    config: RunConfig,
    records: tuple[VideoRecord, ...],
    views: dict[str, Any],
    place: Path,
    max_broken: int | None,
    console: Console,
) -> Tested:
    from tfvlad.cli.clip_sources import clip_source, index_streams, leave_out_broken
    from tfvlad.cli.run_folder import load_model
    from tfvlad.training import predict_logits

    model = load_model(folder)
    indexes = index_streams(config, records, place)
    test, broken = leave_out_broken(config, records, indexes, max_broken)
    _name_broken(broken, console)
    crops, clips = int(views["test_crops"]), views["test_clips"]
    source = clip_source(config, test, indexes, test_crops=crops, test_clips=clips)
    told = {**views, "test_crops": crops, "broken": len(broken)}
    logits = predict_logits(model, source, one_bag=views["one_bag"])
    return logits, source.labels, test, told


def _test_on_features(
    folder: Path,
    config: FeatureRunConfig,
    records: tuple[VideoRecord, ...],
    sets: list[str],
    test_chunks: int,
    max_broken: int | None,
    console: Console,
) -> Tested:
    from pipelines.features.feature_index import drop_without_features
    from tfvlad.cli.feature_training import feature_source, predict_clips
    from tfvlad.cli.run_folder import load_model

    test, broken = drop_without_features(records, sets, max_broken)
    _name_broken(broken, console)
    source = feature_source(config, sets, test, seed=config.training["seed"])
    scores = predict_clips(load_model(folder), source, test_chunks)
    told = {"feature_sets": sets, "test_chunks": test_chunks, "broken": len(broken)}
    return scores, source.labels, test, told


def _feature_sets(config: FeatureRunConfig, data: str | None, attended: str | None) -> list[str]:
    """The folders of the input-data and, if the model attends, of the attended-data."""
    if data is None:
        if attended is not None:
            raise ValueError("--attended needs DATA, the features of the same clips for the input.")
        data, attended = config.data["data"], config.data["attended"]
    sets = [os.path.abspath(data), os.path.abspath(attended or data)]
    return sets[: len(config.feature_sets)]


def _name_broken(broken: list[BrokenVideo], console: Console) -> None:
    for video in broken:
        line = f"left out: {video.path}: {video.reason}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
