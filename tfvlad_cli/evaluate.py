"""`tfvlad evaluate`: a trained model on labelled videos."""

from __future__ import annotations

import json
from typing import Any

import click

from tfvlad_cli.data_options import attended_option, flow_option, lists_option, max_broken_option
from tfvlad_cli.options import given, json_option
from tfvlad_cli.training_options import test_chunks_option, view_options


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
@flow_option
@attended_option
@test_chunks_option
@click.option(
    "--controls",
    is_flag=True,
    help="Does order matter? Test the clips with their frames shuffled, reversed, and all of them "
    "the middle one too.",
)
@click.option("--output", type=click.Path(file_okay=False), help="RUN/evaluation by default.")
@max_broken_option
@json_option
@click.pass_context
def evaluate(context: click.Context, run: str, data: str | None, as_json: bool, **_: Any) -> None:
    """Test the model of RUN on its own test list, or on all videos of DATA.

    DATA is a folder with a sub-folder of videos for each class, a CSV of
    path,label[,start_seconds,end_seconds], or a folder of `tfvlad features` for a model of
    features; with --lists the folder of what the official lists name, of which the test list is
    taken. Writes metrics.json, per_class.csv, confusion.csv, confusion.png, scores.npz, and
    evaluation.json, which tells what was tested; with --controls also controls.json and the same
    files of each control in a folder of its own.

    \b
    Example:
      tfvlad evaluate run/ --test-crops 10
      tfvlad evaluate run/ --controls
    """
    import tfvlad

    trained = tfvlad.load(run)
    found = trained.evaluate(data, **given(context, "as_json"))
    if as_json:
        click.echo(json.dumps(found.to_dict()))
    else:
        from rich.console import Console

        from tfvlad_cli.tables import controls_table, metrics_table

        console = Console()
        console.print(metrics_table({trained.settings.model: found.report}))
        if found.controls is not None:
            console.print(controls_table(found.controls))
            click.echo(found.controls.summary)
