"""`tfvlad demo`: the whole way, from videos to a table, on videos that it makes."""

from __future__ import annotations

import json
from typing import Any

import click

from tfvlad_cli.options import given, json_option, shown


@click.command()
@click.argument("folder", type=click.Path(file_okay=False))
@click.option("--seed", type=int, help=shown("Of the videos and the training.", 0))
@json_option
@click.pass_context
def demo(context: click.Context, folder: str, as_json: bool, **_: Any) -> None:
    """Make labelled videos, train average pooling, ActionVLAD and TA-VLAD on them, compare.

    The videos show objects that change on moving, cluttered backgrounds; half of the classes are
    the others played backwards. A small network is trained on still images of the objects first;
    its dense layer gives TA-VLAD's attention. FOLDER receives the videos, the table and a folder
    for each model. If it is stopped, give the same command again and it continues.

    \b
    Example:
      tfvlad demo demo-output --seed 1
    """
    from tfvlad import studies

    made = studies.demo(folder, **given(context, "as_json"))
    if as_json:
        click.echo(json.dumps(made.to_dict()))
    else:
        from rich.console import Console

        from tfvlad_cli.tables import metrics_table

        title = "Test videos; every class has a twin that is played backwards"
        Console().print(metrics_table(made.reports, title=title))
        click.echo(f"Pictures: {made.folder}/attention.png, {made.folder}/*/confusion.png")
