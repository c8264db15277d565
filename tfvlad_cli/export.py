"""`tfvlad export`: a trained model as a SavedModel for serving or a LiteRT file for phones."""

from __future__ import annotations

import json
from typing import Any

import click

from tfvlad_cli.number_options import CommandWithWeights
from tfvlad_cli.options import given, json_option, refuse_options, shown


@click.command(cls=CommandWithWeights)
@click.argument("model", nargs=-1, required=True, type=click.Path(exists=True))
@click.argument("path", type=click.Path())
@click.option(
    "--to",
    "target",
    required=True,
    type=click.Choice(["saved-model", "litert"]),
    help="PATH/<version>/ for TensorFlow Serving, or a file PATH.tflite for phones.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "float16", "dynamic", "int8"]),
    help=shown(
        "Of a LiteRT file: of its weights, and with int8 of the backbone's activations too.",
        "float32",
    ),
)
@click.option(
    "--streaming",
    is_flag=True,
    help="A LiteRT file that takes one frame at a time, with its memory handed in and out.",
)
@click.option(
    "--videos",
    multiple=True,
    type=click.Path(exists=True),
    help="Typical videos, or a folder of them, on which int8 is calibrated and the export is "
    "proved. By default those of the run; where they are gone, made ones.",
)
@click.option("--version", type=click.IntRange(min=1), help=shown("Of a SavedModel.", "the next"))
@click.option(
    "--weights",
    multiple=True,
    type=float,
    metavar="NUMBER...",
    help="Of several models, one for each; equal ones by default.",
)
@click.option(
    "--on",
    type=click.Choice(["logits", "probabilities"]),
    help=shown("What is averaged of several models.", "logits"),
)
@click.option(
    "--class-names",
    type=click.Path(exists=True, dir_okay=False),
    help="A file with the name of a class in each line, for a model outside a run folder.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    help="Largest difference from the model: of any class probability in float32 (1e-4), else the "
    "mean over the clips of each one's largest (0.03 in float16, 0.15 in dynamic and int8).",
)
@json_option
@click.pass_context
def export(
    context: click.Context, model: tuple[str, ...], path: str, target: str, as_json: bool, **_: Any
) -> None:
    """Export MODEL, a run folder or a .keras file, to PATH; several are fused into one.

    The export is run in a process of its own on real clips and compared with its model. Further
    from it than allowed, nothing is written.

    \b
    Example:
      tfvlad export run/ serving/actions --to saved-model
      tfvlad export run/ actions.tflite --to litert --precision int8 --videos videos/
    """
    if target == "saved-model":
        refuse_options(("precision", "streaming"), "a SavedModel, which is float32 and streams too")
    else:
        refuse_options(("version",), "a LiteRT file")
    from export import litert, saved_model

    options = given(context, "target", "as_json")
    write = saved_model if target == "saved-model" else litert
    found = write(model, path, **options)
    click.echo(json.dumps(found.to_dict()) if as_json else str(found))
