"""`tfvlad train`: from labelled videos to a tested model."""

from __future__ import annotations

import json
from typing import Any

import click

from tfvlad_cli.data_options import data_options, given_data, seeds_option, splits_option
from tfvlad_cli.options import given, json_option, only
from tfvlad_cli.training_options import given_settings, settings_options


@click.command()
@click.argument("data", type=click.Path(exists=True))
@click.argument("run", type=click.Path(file_okay=False))
@data_options
@splits_option
@seeds_option
@settings_options
@json_option
@click.pass_context
def train(context: click.Context, data: str, run: str, as_json: bool, **_: Any) -> None:
    """Train a classifier on the videos in DATA and write everything to the folder RUN.

    DATA is a folder with a sub-folder of videos for each class (or train/ and test/ with such
    sub-folders), a CSV of path,label[,start_seconds,end_seconds], or with --lists the video folder
    of HMDB51, UCF101, Charades, ActivityNet or Hollywood2; for the attention LSTM and its
    baselines, a folder of `tfvlad features` or `tfvlad import-features`, or of arrays. The best
    epoch is chosen on videos taken from the training list; the test list is read once, at the end.
    If it is stopped, give the same command again and it continues. Several --split and --seed make
    a run each, and a summary.

    \b
    Example:
      tfvlad train videos/ run/ --weights mobilenet_v2.h5
      tfvlad train hmdb51/ run/ --lists hmdb51/splits --split 1 --split 2 --split 3
      tfvlad train features/c3d run/ --model attention-lstm --attended features/objects
    """
    from tfvlad import studies

    several = only(given(context), {"splits", "seeds"})
    runs = studies.repeat(data, run, **several, **given_data(context), **given_settings(context))
    if as_json:
        click.echo(json.dumps(runs.to_dict()))
    else:
        from rich.console import Console

        from tfvlad_cli.tables import runs_table

        Console().print(runs_table(runs))
