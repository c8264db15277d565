"""`tfvlad train`: from labelled videos to a tested model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from tfvlad.cli.data import is_feature_set, lists_option, refuse_options
from tfvlad.cli.train_options import feature_options, names_of, shared_options, video_options

VIDEO_MODELS = ("ta-vlad", "action-vlad", "average-pooling", "max-pooling", "two-stream")
FEATURE_MODELS = ("attention-lstm", "plain-lstm", "feature-softmax")


@click.command()
@click.argument("data", type=click.Path(exists=True))
@click.argument("run", type=click.Path(file_okay=False))
@lists_option
@click.option(
    "--model",
    "model_name",
    default="ta-vlad",
    show_default=True,
    type=click.Choice([*VIDEO_MODELS, *FEATURE_MODELS]),
    help="The last three learn from features alone: DATA is then a folder of `tfvlad features`.",
)
@shared_options
@video_options
@feature_options
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
    of HMDB51, UCF101, ActivityNet or Hollywood2; for the attention LSTM and its baselines, a folder
    of `tfvlad features` made from these. The best epoch is chosen on videos carved from the
    training list; the test list is read once, at the end. A run that was killed goes on with the
    same command. Several --split and --seed make a run each, and a summary.

    \b
    Example:
      tfvlad train videos/ run/ --weights mobilenet_v2.h5
      tfvlad train hmdb51/ run/ --lists hmdb51/splits --split 1 --split 2 --split 3
      tfvlad train features/c3d run/ --model attention-lstm --attended features/objects
    """
    import keras
    from rich.console import Console

    from tfvlad.cli.run_folder import check_is_free
    from tfvlad.cli.training_run import check_video_options, summary_table

    on_features = complete_options(options, data)
    if not on_features:
        check_video_options(options)
    console = Console(stderr=as_json)
    combinations = list(dict.fromkeys((split, seed) for split in splits for seed in seeds))
    check_splits(options["lists"], splits)
    several = len(combinations) > 1
    root = Path(run)
    check_is_free(root, "split*-seed*/config.json" if several else "config.json")
    results = []
    for split, seed in combinations:
        folder = root / f"split{split}-seed{seed}" if several else root
        if several:
            console.print(f"[bold]Split {split}, seed {seed}[/bold]")
            keras.backend.clear_session()  # the memory of the models before
        shared = {"split": split, "seed": seed, "console": console, **options}
        if on_features:
            from tfvlad.cli.feature_training import train_on_features

            results.append(train_on_features(data, folder, **shared))
        else:
            from tfvlad.cli.training_run import train_one

            results.append(train_one(data, folder, root=root, **shared))
    console.print(summary_table(results))
    if as_json:
        click.echo(json.dumps({"runs": results}))


def check_splits(lists: str | None, splits: tuple[int, ...]) -> None:
    """Refuse several splits without official lists."""
    if lists is None and len(set(splits)) > 1:
        raise ValueError("Several --split need --lists, the folder of the official lists.")


def complete_options(options: dict[str, Any], data: str) -> bool:
    """Refuse what does not go together, and fill in the defaults that depend on the model.

    Returns:
        Whether the model learns from features.
    """
    model = options["model_name"]
    on_features = model in FEATURE_MODELS
    refuse_options(names_of(video_options if on_features else feature_options), model)
    if is_feature_set(data) != on_features:
        raise ValueError(
            f"--model {model} learns from features: make them with `tfvlad features {data} FOLDER` "
            "and give FOLDER."
            if on_features
            else f"'{data}' holds extracted features, and {model} learns from videos. Give the "
            f"videos, or --model {FEATURE_MODELS[0]}."
        )
    choices = {
        "sampling": ("chunk", "uniform") if on_features else ("uniform", "segments", "chunk"),
        "recipe": ("attention-lstm", "hollywood2") if on_features else ("ta-vlad", "action-vlad"),
    }
    for name, known in choices.items():
        options[name] = options[name] or known[0]
        if options[name] not in known:
            raise ValueError(
                f"--{name} must be {' or '.join(known)} for {model}. Received: {options[name]}."
            )
    options["units"] = options["units"] or (512 if on_features else 256)
    of_features = 100 if options["recipe"] == "hollywood2" else 200
    options["batch_size"] = options["batch_size"] or (of_features if on_features else 16)
    return on_features
