"""`tfvlad train`: from labelled videos to a tested model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from tfvlad.cli.data import is_feature_set, lists_option, refuse_options

VIDEO_MODELS = ("ta-vlad", "action-vlad", "average-pooling", "max-pooling")
FEATURE_MODELS = ("attention-lstm", "plain-lstm", "feature-softmax")
# Options that only one kind of model has; the others refuse them.
_OF_VIDEOS = {
    *("backbone", "weights", "num_frames", "color_jitter", "image_size", "num_clusters", "alpha"),
    *("bidirectional", "attention", "epochs", "learning_rates", "decay_epochs", "freed_block"),
    *("cache", "no_cache", "cache_dtype", "cached_crops", "test_crops", "max_broken"),
    "test_data",
}
_OF_FEATURES = {
    *("attended", "num_steps", "num_attended", "chunk_frames", "matching_units", "attend"),
    *("max_epochs", "learning_rate", "patience", "initialize_from", "test_chunks"),
}


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
    type=click.Choice([*VIDEO_MODELS, *FEATURE_MODELS]),
    help="The last three learn from features alone: DATA is then a folder of `tfvlad features`.",
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
    type=click.Choice(["uniform", "segments", "chunk"]),
    help="Frames spread evenly (the default for videos), one drawn from each of as many segments, "
    "or a chunk of consecutive frames from a random start (the default for features).",
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
    type=click.IntRange(min=1),
    help="State of the GRU for a cluster, U (256 by default), or of the LSTM (512).",
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
    type=click.Choice(["ta-vlad", "action-vlad", "attention-lstm", "hollywood2"]),
    help="The paper that the optimizer follows: the learning rate is halved (ta-vlad), or divided "
    "by 10, gradients clipped and weights decayed (action-vlad); for features SGD with early "
    "stopping (attention-lstm), or its fine-tuning for several labels (hollywood2).",
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
@click.option("--batch-size", type=click.IntRange(min=1), help="16 by default, of features 200.")
@click.option(
    "--attended",
    type=click.Path(exists=True, file_okay=False),
    help="Features that the attention LSTM attends to; DATA's own by default.",
)
@click.option(
    "--steps",
    "num_steps",
    default=12,
    show_default=True,
    type=click.IntRange(min=1),
    help="Steps of the LSTM, N.",
)
@click.option(
    "--attended-steps",
    "num_attended",
    default=12,
    show_default=True,
    type=click.IntRange(min=1),
    help="Attended frames, T.",
)
@click.option(
    "--chunk-frames",
    default=192,
    show_default=True,
    type=click.IntRange(min=1),
    help="Frames of a chunk; a shorter video starts again from its first frame.",
)
@click.option(
    "--matching-units",
    default=512,
    show_default=True,
    type=click.IntRange(min=1),
    help="Size of the attention's matching vector.",
)
@click.option(
    "--attend",
    default="every-step",
    show_default=True,
    type=click.Choice(["every-step", "last-step"]),
    help="The attention LSTM's variant (a) or (b).",
)
@click.option(
    "--max-epochs",
    type=click.IntRange(min=1),
    help="Of a model of features; the recipe's by default.",
)
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Of a model of features; the recipe's by default.",
)
@click.option(
    "--patience",
    type=click.IntRange(min=1),
    help="Epochs without a lower validation loss after which a model of features is finished.",
)
@click.option(
    "--initialize-from",
    type=click.Path(exists=True, file_okay=False),
    help="Run whose weights a model of features begins with; other classes get a new head.",
)
@click.option(
    "--test-chunks",
    default=40,
    show_default=True,
    type=click.IntRange(min=1),
    help="Random chunks of a test clip's features, and as many mirrored ones.",
)
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
    from rich.console import Console

    from tfvlad.cli.run_folder import check_is_free
    from tfvlad.cli.training_run import summary_table

    on_features = options["model_name"] in FEATURE_MODELS
    _check_options(options, data, on_features)
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


def _check_options(options: dict[str, Any], data: str, on_features: bool) -> None:
    """Refuse what does not go together, and fill in the defaults that depend on the model."""
    model = options["model_name"]
    refuse_options(_OF_VIDEOS if on_features else _OF_FEATURES, model)
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
    options["batch_size"] = options["batch_size"] or (200 if on_features else 16)
