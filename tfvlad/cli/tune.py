"""`tfvlad tune`: search for a model's best hyper-parameters."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import click

from tfvlad.cli.data import given_options, lists_option, refuse_options
from tfvlad.cli.train_options import feature_options, shared_options, video_options

MODELS = ("ta-vlad", "action-vlad", "two-stream", "attention-lstm")
# What concerns the test list, which a search never reads, or is chosen once for a whole search.
_NOT_SEARCHED = {
    *("test_crops", "test_clips", "one_bag", "test_chunks"),
    *("freeze_attention", "no_cache", "initialize_from"),
}


def _address(
    context: click.Context, parameter: click.Parameter, value: Any
) -> tuple[str, ...] | None:
    if not value:
        return None
    address, *name = value if isinstance(value, tuple) else (value,)
    host, colon, port = address.rpartition(":")
    if not host or not colon or not port.isdigit():
        raise click.BadParameter(f"{address!r} is no HOST:PORT, such as 127.0.0.1:8000.")
    return (host, port, *name)


@click.command()
@click.argument("data", type=click.Path(exists=True))
@click.argument("folder", type=click.Path(file_okay=False))
@click.option(
    "--model",
    "model_name",
    default=MODELS[0],
    show_default=True,
    type=click.Choice(MODELS),
)
@click.option(
    "--space",
    default="full",
    show_default=True,
    type=click.Choice(["full", "paper"]),
    help="What is searched: all that matters for the model, or TA-VLAD's clusters and units alone, "
    "in all combinations. An option of the model or its training that is given is fixed.",
)
@click.option(
    "--algorithm",
    type=click.Choice(["random", "bayesian", "hyperband", "grid"]),
    help="Bayesian by default, of the paper's space a grid.",
)
@click.option(
    "--measure",
    type=click.Choice(["val_top1", "val_mean_class_accuracy", "val_mAP"]),
    help="Of the validation clips, that is maximised; val_top1 by default, val_mAP where clips "
    "have several labels.",
)
@click.option(
    "--max-trials",
    type=click.IntRange(min=1),
    help="In all; 30 by default, and all of a grid or Hyperband. Of several processes the chief's "
    "counts.",
)
@click.option(
    "--max-hours",
    type=click.FloatRange(min=0, min_open=True),
    help="Begin no trial after this time; the running one is finished. Of several processes the "
    "chief's counts.",
)
@click.option(
    "--max-parameters",
    type=click.FloatRange(min=0, min_open=True),
    help="Models with more are not trained.",
)
@click.option(
    "--litert-latency",
    is_flag=True,
    help="Measure each model's LiteRT latency, which the figures then show.",
)
@click.option(
    "--max-litert-ms",
    type=click.FloatRange(min=0, min_open=True),
    help="Models that take longer for a clip in LiteRT, milliseconds on this machine with two "
    "threads, are not trained.",
)
@click.option(
    "--chief",
    metavar="HOST:PORT",
    callback=_address,
    help="Serve the trials to workers, which run the same command with --worker; trains nothing.",
)
@click.option(
    "--worker",
    nargs=2,
    metavar="HOST:PORT NAME",
    callback=_address,
    help="Run trials of the chief at this address. Each worker has a name of its own, by which it "
    "goes on after it was killed; DATA and FOLDER are shared.",
)
@lists_option
@shared_options
@video_options
@feature_options
@click.option("--json", "as_json", is_flag=True, help="Print the best trial as JSON at the end.")
def tune(
    data: str,
    folder: str,
    model_name: str,
    splits: tuple[int, ...],
    seeds: tuple[int, ...],
    chief: tuple[str, ...] | None,
    worker: tuple[str, ...] | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Search for the values with which a model does best on validation videos of DATA.

    DATA and the options are those of `tfvlad train`. FOLDER gets trials.csv, best.json, the figures
    (clusters against units, parallel coordinates, what parameters and latency cost), a folder for
    each trial in trials/, which TensorBoard's HParams reads, and best/, the best model as a run of
    `tfvlad train`. A stage ends after --patience epochs without a better one (5, of features 10).
    The validation videos are carved from the training list; test videos are checked, never scored:
    test the best model once with `tfvlad evaluate`. A search that was killed goes on with the same
    command.

    \b
    Example:
      tfvlad tune videos/ search/ --max-hours 8
      tfvlad tune hmdb51/ search/ --lists hmdb51/splits --space paper --epochs 10 0
      tfvlad tune videos/ search/ --chief 127.0.0.1:8000 &
      tfvlad tune videos/ search/ --worker 127.0.0.1:8000 a &
      tfvlad tune videos/ search/ --worker 127.0.0.1:8000 b
    """
    from rich.console import Console

    from tfvlad.cli.train import complete_options

    if importlib.util.find_spec("keras_tuner") is None:
        raise ImportError('Searches need the extra "tune": pip install "tfvlad[tune]".')
    needs_litert = options["litert_latency"] or options["max_litert_ms"]
    if needs_litert and importlib.util.find_spec("ai_edge_litert") is None:
        raise ImportError('LiteRT needs the extra "export": pip install "tfvlad[export]".')
    if chief and worker:
        raise ValueError("A process is --chief or --worker, not both.")
    if len(splits) > 1 or len(seeds) > 1:
        raise ValueError(
            f"A search has one --split and one --seed. Received: {len(splits)} and {len(seeds)}."
        )
    refuse_options(_NOT_SEARCHED, "a search")
    if options["space"] == "paper" and model_name != "ta-vlad":
        raise ValueError(f"--space paper is TA-VLAD's. Received: --model {model_name}.")
    options["algorithm"] = options["algorithm"] or (
        "grid" if options["space"] == "paper" else "bayesian"
    )
    if chief or worker:
        host, port, *name = chief or worker or ()
        os.environ["KERASTUNER_ORACLE_IP"], os.environ["KERASTUNER_ORACLE_PORT"] = host, port
        # A worker's name must not be taken for the chief's.
        os.environ["KERASTUNER_TUNER_ID"] = f"worker-{name[0]}" if name else "chief"
    options["model_name"] = model_name
    on_features = complete_options(options, data)
    if on_features:
        refuse_options({"litert_latency", "max_litert_ms"}, "a model of features")
    console = Console(stderr=as_json)
    from tfvlad.cli.tuning_run import search_features, search_videos

    best = (search_features if on_features else search_videos)(
        data,
        Path(folder),
        split=splits[0],
        seed=seeds[0],
        given=set(given_options()),
        console=console,
        **options,
    )
    if as_json and best is not None:
        click.echo(json.dumps(best))
