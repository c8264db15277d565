"""`tfvlad evaluate`: a trained model on labelled videos."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from tfvlad.cli.data import clip_names, lists_option, read_lists, read_test_list


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False))
@click.argument("data", required=False, type=click.Path(exists=True))
@lists_option
@click.option(
    "--split",
    type=click.IntRange(min=1),
    help="Number of the official split of --lists; the run's by default.",
)
@click.option("--test-crops", default="1", show_default=True, type=click.Choice(["1", "5", "10"]))
@click.option("--output", type=click.Path(file_okay=False), help="RUN/evaluation by default.")
@click.option("--max-broken", type=click.IntRange(min=0), help="Most broken videos to leave out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(
    run: str,
    data: str | None,
    lists: str | None,
    split: int | None,
    test_crops: str,
    output: str | None,
    max_broken: int | None,
    as_json: bool,
) -> None:
    """Test the model of RUN on its own test list, or on all videos of DATA.

    DATA is a folder with a sub-folder of videos for each class or a CSV of
    path,label[,start_seconds,end_seconds]; with --lists the video folder of HMDB51 or UCF101, of
    which the test list is taken. Writes metrics.json, per_class.csv, confusion.csv, confusion.png,
    scores.npz, and evaluation.json, which tells what was tested.

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
    if data is None and (lists is not None or split is not None):
        raise ValueError("--lists and --split need DATA, the folder of the videos they list.")
    if lists is None and split is not None:
        raise ValueError(f"--split needs --lists. Received: --split {split}.")
    if data is None:
        records = read_lists(folder / "lists.csv", "test", config.class_names)
    else:
        split = split or config.data["split"]
        records = read_test_list(data, lists, split, config.class_names)
    model = load_model(folder)
    place = Path(output) if output else folder / "evaluation"
    index = index_videos((record.path for record in records), cache_path=str(place / "videos.json"))
    test, broken = drop_broken(records, index, max_broken)
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
        sampling=config.sampling,
        test_crops=int(test_crops),
        multi_label=config.multi_label,
    )
    logits = predict_logits(model, source)
    report = save_scores(place, logits, source.labels, clip_names(test), config)
    tested = {
        "run": os.path.abspath(run),
        "data": os.path.abspath(data or folder / "lists.csv"),
        "lists": lists and os.path.abspath(lists),
        "split": split if lists else None,
        "test_crops": int(test_crops),
        "broken": len(broken),
    }
    (place / "evaluation.json").write_text(json.dumps(tested, indent=2) + "\n")
    console.print(metrics_table({config.model: report}))
    if as_json:
        click.echo(json.dumps(report.metrics))
