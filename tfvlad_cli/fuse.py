"""`tfvlad fuse`: the scores of several models or streams, from files or runs, as one."""

from __future__ import annotations

import json
from typing import Any

import click

from tfvlad_cli.number_options import CommandWithWeights
from tfvlad_cli.options import given, json_option, shown


@click.command(cls=CommandWithWeights)
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True))
@click.option(
    "--weights",
    multiple=True,
    type=float,
    metavar="NUMBER...",
    help="One for each of FILES; equal ones of the sum 1 by default.",
)
@click.option(
    "--on",
    type=click.Choice(["logits", "probabilities", "normalized"]),
    help=shown(
        "Add the scores as they are, their probabilities, or rows of length 1 (for scores of other "
        "origin, such as iDT's).",
        "logits",
    ),
)
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False),
    help="The clips' true classes: lines of `video class` or `video frames class`, as HMDB51's and "
    "UCF101's lists have them, or Charades' CSV. Runs and their scores.npz know theirs.",
)
@click.option(
    "--class-names",
    type=click.Path(exists=True, dir_okay=False),
    help="A file with the name of a class in each line.",
)
@click.option(
    "--output",
    type=click.Path(),
    help="Write the fused scores: a file .h5, .npz or .txt, or a folder for `tfvlad compare`.",
)
@click.option(
    "--per-class", type=click.Path(dir_okay=False), help="Write a CSV with each class's figure."
)
@json_option
@click.pass_context
def fuse(context: click.Context, files: tuple[str, ...], as_json: bool, **_: Any) -> None:
    """Fuse the scores in FILES late, and test each of them and the fused ones.

    A file is HDF5 with the dataset stream0/logits, as ActionVLAD's are, npz as in a run's folder,
    Charades' text (`id score ... score` a line), or the folder of a run; where folders hold several
    splits and seeds, runs of the same split and seed go together. Rows are matched by the clips'
    names where files have them, and are in the order of --labels where they have none.

    Figures are percentages. With Charades' CSV, mAP and wAP are the official ones: videos without
    scores, and those without any action, are ranked last in every class.

    \b
    Example:
      tfvlad fuse rgb.h5 flow.h5 --weights 0.333 0.667 --labels test_split1.txt
    """
    from tfvlad import studies

    fusion = studies.fuse(files, **given(context, "as_json"))
    if as_json:
        click.echo(json.dumps(fusion.to_dict()))
    else:
        from rich.console import Console

        from tfvlad_cli.tables import fusion_table

        Console().print(fusion_table(fusion))
