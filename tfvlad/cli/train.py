"""`tfvlad train`: from labelled videos to a tested model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from tfvlad.cli.data import lists_option


def _alpha(context: click.Context, parameter: click.Parameter, value: str) -> float | str:
    try:
        if value == "auto" or 0 < float(value) < float("inf"):
            return value if value == "auto" else float(value)
    except ValueError:
        pass
    raise click.BadParameter(f'{value!r} is neither a positive number nor "auto".')


@click.command()
@click.argument("data", type=click.Path(exists=True))
@click.argument("run", type=click.Path(file_okay=False))
@click.option(
    "--test-data", type=click.Path(exists=True), help="Test videos: a folder or a CSV, like DATA."
)
@lists_option
@click.option(
    "--split",
    "splits",
    multiple=True,
    type=click.IntRange(min=1),
    default=(1,),
    show_default=True,
    help="Number of the official split; may be repeated.",
)
@click.option(
    "--model",
    "model_name",
    default="ta-vlad",
    show_default=True,
    type=click.Choice(["ta-vlad", "action-vlad", "average-pooling", "max-pooling"]),
)
@click.option(
    "--backbone",
    default="mobilenet_v2",
    show_default=True,
    type=click.Choice(["mobilenet_v2", "resnet18", "resnet34", "vgg16", "vgg19"]),
)
@click.option(
    "--weights",
    default="imagenet",
    show_default=True,
    help='The backbone\'s first weights: a file, "imagenet" (downloaded, MobileNetV2 and VGG) or '
    '"none".',
)
@click.option(
    "--frames",
    "num_frames",
    default=25,
    show_default=True,
    type=click.IntRange(min=1),
    help="Frames of a clip.",
)
@click.option(
    "--sampling",
    default="uniform",
    show_default=True,
    type=click.Choice(["uniform", "segments"]),
    help="Frames spread evenly, or one drawn from each of as many segments.",
)
@click.option(
    "--color-jitter",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Strength, 0 to 1.",
)
@click.option(
    "--image-size",
    default=224,
    show_default=True,
    type=click.IntRange(min=32),
    help="Side of a frame in pixels.",
)
@click.option(
    "--clusters",
    "num_clusters",
    default=64,
    show_default=True,
    type=click.IntRange(min=1),
    help="Action words K.",
)
@click.option(
    "--units",
    default=256,
    show_default=True,
    type=click.IntRange(min=1),
    help="State of the GRU for a cluster, U.",
)
@click.option(
    "--alpha",
    default="1000",
    show_default=True,
    callback=_alpha,
    help='Sharpness, a positive number or "auto".',
)
@click.option("--bidirectional", is_flag=True, help="A second GRU reads the frames backwards.")
@click.option(
    "--attention/--no-attention",
    default=None,
    help="Top-down attention: by default on for TA-VLAD and off for ActionVLAD.",
)
@click.option(
    "--dropout",
    default=0.5,
    show_default=True,
    type=click.FloatRange(0, 1, max_open=True),
    help="In front of the classifier.",
)
@click.option(
    "--recipe",
    default="ta-vlad",
    show_default=True,
    type=click.Choice(["ta-vlad", "action-vlad"]),
    help="The paper that the optimizer follows: the learning rate is halved (TA-VLAD), or divided "
    "by 10, gradients clipped and weights decayed (ActionVLAD).",
)
@click.option(
    "--epochs",
    type=(click.IntRange(min=1), click.IntRange(min=0)),
    default=(30, 30),
    show_default=True,
    help="Of stage 1 and stage 2; 0 leaves stage 2 out.",
)
@click.option(
    "--learning-rates",
    type=(click.FloatRange(min=0, min_open=True), click.FloatRange(min=0, min_open=True)),
    default=(1e-2, 1e-4),
    show_default=True,
    help="Of stage 1 and stage 2.",
)
@click.option(
    "--decay-epochs",
    type=(click.IntRange(min=1), click.IntRange(min=1)),
    default=(5, 8),
    show_default=True,
    help="Epochs after which the learning rate falls, in stage 1 and stage 2.",
)
@click.option(
    "--weight-decay",
    type=click.FloatRange(min=0),
    help="Decoupled weight decay; the recipe's by default.",
)
@click.option("--freed-block", help="First block trained in stage 2; the last one by default.")
@click.option("--batch-size", default=16, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--validation-fraction",
    default=0.15,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of the training videos that chooses the best epoch.",
)
@click.option(
    "--seed",
    "seeds",
    multiple=True,
    type=click.IntRange(min=0),
    default=(0,),
    show_default=True,
    help="May be repeated.",
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False),
    help="Folder of cached features, shared by runs; RUN/features by default.",
)
@click.option("--no-cache", is_flag=True, help="Run the whole backbone in every epoch.")
@click.option(
    "--cache-dtype", default="float16", show_default=True, type=click.Choice(["float16", "float32"])
)
@click.option(
    "--cached-crops",
    default=4,
    show_default=True,
    type=click.IntRange(min=1),
    help="Random crops cached of a training clip.",
)
@click.option("--test-crops", default="1", show_default=True, type=click.Choice(["1", "5", "10"]))
@click.option("--max-broken", type=click.IntRange(min=0), help="Most broken videos to leave out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
def train(
    data: str,
    run: str,
    splits: tuple[int, ...],
    seeds: tuple[int, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Train a classifier on the videos in DATA and write everything to the folder RUN.

    DATA is a folder with a sub-folder of videos for each class (or train/ and test/ with such
    sub-folders), a CSV of path,label[,start_seconds,end_seconds], or with --lists the video folder
    of HMDB51 or UCF101. The best epoch is chosen on videos carved from the training list; the test
    list is read once, at the end. A run that was killed goes on with the same command. Several
    --split and --seed make a run each, and a summary.

    \b
    Example:
      tfvlad train videos/ run/ --weights mobilenet_v2.h5
      tfvlad train hmdb51/ run/ --lists hmdb51/splits --split 1 --split 2 --split 3
    """
    from rich.console import Console

    from tfvlad.cli.run_folder import check_is_free
    from tfvlad.cli.training_run import summary_table, train_one

    console = Console(stderr=as_json)
    combinations = list(dict.fromkeys((split, seed) for split in splits for seed in seeds))
    if options["lists"] is None and len(set(splits)) > 1:
        raise ValueError("Several --split need --lists, the folder of the official lists.")
    several = len(combinations) > 1
    root = Path(run)
    check_is_free(root, "split*-seed*/config.json" if several else "config.json")
    results = []
    for split, seed in combinations:
        folder = root / f"split{split}-seed{seed}" if several else root
        if several:
            console.print(f"[bold]Split {split}, seed {seed}[/bold]")
        results.append(
            train_one(data, folder, root=root, split=split, seed=seed, console=console, **options)
        )
    console.print(summary_table(results))
    if as_json:
        click.echo(json.dumps({"runs": results}))
