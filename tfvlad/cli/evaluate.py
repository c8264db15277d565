"""`tfvlad evaluate`: a trained model on labelled videos."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from tfvlad.cli.data import data_options, read_split


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False))
@click.argument("data", required=False, type=click.Path(exists=True))
@data_options
@click.option("--split", type=int, help="Number of the official split; the run's by default.")
@click.option("--test-crops", default="1", show_default=True, type=click.Choice(["1", "5", "10"]))
@click.option("--output", type=click.Path(file_okay=False), help="RUN/evaluation by default.")
@click.option("--max-broken", type=int, help="Most broken videos to leave out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(
    run: str,
    data: str | None,
    test_data: str | None,
    lists: str | None,
    split: int | None,
    test_crops: str,
    output: str | None,
    max_broken: int | None,
    as_json: bool,
) -> None:
    """Test the model of RUN on its test list, or on the test videos of DATA.

    Writes metrics.json, per_class.csv, confusion.csv, confusion.png and scores.npz.

    \b
    Example:
      tfvlad evaluate run/ --test-crops 10
    """
    from rich.console import Console

    from pipelines.clip_dataset import VideoClipSource
    from pipelines.video_index import drop_broken, index_videos
    from tfvlad.cli.run_folder import RunConfig, load_model, save_scores
    from tfvlad.evaluation import metrics_table
    from tfvlad.training import predict_logits

    folder = Path(run)
    config = RunConfig.load(folder)
    if data is None:
        named = dict(config.data)
    else:
        named = {"data": data, "test_data": test_data, "lists": lists, "split": split or 1}
    if split is not None:
        named["split"] = split
    records = read_split(named["data"], named["lists"], named["split"], named["test_data"])
    if list(records.class_names) != config.class_names:
        raise ValueError(
            f"The model knows the classes {config.class_names}. "
            f"Received: videos of the classes {list(records.class_names)}."
        )
    model = load_model(folder)
    index = index_videos(record.path for record in records.test)
    test, broken = drop_broken(records.test, index, max_broken)
    console = Console(stderr=as_json)
    for video in broken:
        console.print(f"left out: {video.path}: {video.reason}", markup=False)
    source = VideoClipSource(
        test,
        config.class_names,
        index=index,
        num_frames=config.num_frames,
        image_size=config.image_size,
        short_side=config.short_side,
        test_crops=int(test_crops),
        multi_label=config.multi_label,
    )
    logits = predict_logits(model, source)
    clips = [os.path.basename(record.path) for record in test]
    place = Path(output) if output else folder / "evaluation"
    place.mkdir(parents=True, exist_ok=True)
    report = save_scores(place, logits, source.labels, clips, config)
    console.print(metrics_table({config.model: report}))
    if as_json:
        click.echo(json.dumps(report.metrics))
