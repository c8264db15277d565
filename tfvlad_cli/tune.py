"""`tfvlad tune`: search for a model's best hyper-parameters."""

from __future__ import annotations

import importlib.util
import json
import re
from typing import Any

import click

from tfvlad_cli.data_options import data_options, given_data, seeds_option, splits_option
from tfvlad_cli.training_options import given_settings, settings_options


def _check_address(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    address = value[0] if isinstance(value, tuple) else value
    if address and not re.fullmatch(r".+:\d+", address):
        raise click.BadParameter(f"{address!r} is no HOST:PORT, such as 127.0.0.1:8000.")
    return value


@click.command()
@click.argument("data", type=click.Path(exists=True))
@click.argument("folder", type=click.Path(file_okay=False))
@click.option(
    "--space",
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
    callback=_check_address,
    help="Serve the trials to workers, which run the same command with --worker; trains nothing.",
)
@click.option(
    "--worker",
    nargs=2,
    metavar="HOST:PORT NAME",
    callback=_check_address,
    help="Run trials of the chief at this address. Each worker has a name of its own, by which it "
    "continues after it was stopped; DATA and FOLDER are shared.",
)
@data_options
@splits_option
@seeds_option
@settings_options
@click.option("--json", "as_json", is_flag=True, help="Print the best trial as JSON at the end.")
@click.pass_context
def tune(
    context: click.Context,
    data: str,
    folder: str,
    splits: tuple[int, ...],
    seeds: tuple[int, ...],
    as_json: bool,
    **_: Any,
) -> None:
    """Search for the values with which a model does best on validation videos of DATA.

    DATA and the options are those of `tfvlad train`. FOLDER gets trials.csv, best.json, the figures
    (clusters against units, what parameters and latency cost), a folder for each trial in trials/,
    which TensorBoard shows (`tensorboard --logdir FOLDER/trials`), and best/, the best model as a
    run of `tfvlad train`. A stage ends after --patience epochs without a better one (5, of features
    10). The validation videos are taken from the training list; test videos are checked, never
    scored: test the best model once with `tfvlad evaluate`. If it is stopped, give the same command
    again and it continues.

    \b
    Example:
      tfvlad tune videos/ search/ --max-hours 8
      tfvlad tune hmdb51/ search/ --lists hmdb51/splits --space paper --epochs 10 0
      tfvlad tune videos/ search/ --chief 127.0.0.1:8000 &
      tfvlad tune videos/ search/ --worker 127.0.0.1:8000 a &
      tfvlad tune videos/ search/ --worker 127.0.0.1:8000 b
    """
    if importlib.util.find_spec("keras_tuner") is None:
        raise ImportError('Searches need the extra "tune": pip install "tfvlad[tune]".')
    if len(splits) > 1 or len(seeds) > 1:
        raise ValueError(
            f"A search has one --split and one --seed. Received: {len(splits)} and {len(seeds)}."
        )
    from tuning import tune as search

    found = search(
        data,
        folder,
        split=(splits or (1,))[0],
        seed=(seeds or (0,))[0],
        **given_data(context),
        **given_settings(context),
    )
    if found.best is None:  # a worker's
        return
    if as_json:
        click.echo(json.dumps(found.to_dict()["best"]))
    else:
        click.echo(f"Test the best model once: tfvlad evaluate {found.run.folder}")
