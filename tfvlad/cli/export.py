"""`tfvlad export`: a trained model as a SavedModel for serving or a LiteRT file for phones."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click

from tfvlad.cli.data import refuse_options
from tfvlad.cli.number_options import CommandWithWeights


@click.command(cls=CommandWithWeights)
@click.argument("models", nargs=-1, required=True, type=click.Path(exists=True))
@click.argument("output", type=click.Path())
@click.option(
    "--to",
    "target",
    required=True,
    type=click.Choice(["saved-model", "litert"]),
    help="OUTPUT/<version>/ for TensorFlow Serving, or a file OUTPUT.tflite for phones.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "float16", "dynamic", "int8"]),
    help="Of a LiteRT file: of its weights, and with int8 of the backbone's activations too.  "
    "[default: float32]",
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
@click.option("--version", type=click.IntRange(min=1), help="Of a SavedModel.  [default: the next]")
@click.option(
    "--weights",
    multiple=True,
    type=float,
    metavar="NUMBER...",
    help="Of several MODELS, one for each; equal ones by default.",
)
@click.option(
    "--on",
    type=click.Choice(["logits", "probabilities"]),
    help="What is averaged of several MODELS.  [default: logits]",
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
@click.option("--json", "as_json", is_flag=True, help="Print the proof as one JSON object.")
def export(
    models: tuple[str, ...],
    output: str,
    target: str,
    precision: str | None,
    streaming: bool,
    videos: tuple[str, ...],
    version: int | None,
    weights: tuple[float, ...],
    on: str | None,
    class_names: str | None,
    tolerance: float | None,
    as_json: bool,
) -> None:
    """Export MODELS, run folders or .keras files, to OUTPUT; several are fused into one.

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
    if len(models) == 1:
        refuse_options(("weights", "on"), "a single model")

    from rich.console import Console
    from rich.progress import track

    from export.publishing import (
        export_litert,
        export_saved_model,
        litert_files,
        version_folder,
    )
    from tfvlad.cli.exportable import clips_of_runs, clips_of_videos, load_exportable

    # Before the long work.
    if target == "saved-model":
        version_folder(output, version)
    else:
        litert_files(output)
    console = Console(stderr=True)
    exportable = load_exportable(
        models, weights=weights or None, on=on or "logits", class_names=class_names
    )
    with tempfile.TemporaryDirectory(prefix="tfvlad-") as folder:
        place = Path(folder)
        own = None if videos else clips_of_runs(exportable, place)
        clips = clips_of_videos(exportable, videos, place) if videos else own
        for video in clips.broken if clips else ():
            line = f"{video.path}: {video.reason}"
            console.print(line, markup=False, style="yellow", soft_wrap=True)
        if clips is None:
            console.print(
                "No videos of the model's own lists are at hand: it is proved on made clips.",
                soft_wrap=True,
            )
            if precision == "int8":
                raise ValueError("int8 is calibrated on typical videos: give --videos.")
        proof = clips.proof if clips else None
        if target == "saved-model":
            written = export_saved_model(
                exportable.clip_model, output, version=version, clips=proof, tolerance=tolerance
            )
            report = json.loads((written / "assets.extra" / "parity.json").read_text())
        else:
            calibration = None
            if clips and precision == "int8":
                calibration = track(
                    clips.calibration,
                    "Calibrating",
                    total=clips.num_calibration,
                    console=console,
                )
            written = export_litert(
                exportable.clip_model,
                output,
                precision=precision or "float32",
                streaming=streaming,
                calibration_clips=calibration,
                clips=proof,
                tolerance=tolerance,
            )
            report = json.loads(written.with_suffix(".parity.json").read_text())
    if as_json:
        click.echo(json.dumps({"path": str(written), **report}))
        return
    click.echo(
        f"{written}: {report['bytes'] / 1e6:.1f} MB, largest difference "
        f"{report['largest_difference']:.1g}, top-1 agreement {report['top1_agreement']:.0%} on "
        f"{report['num_clips']} {report['clips']} clips, {report['latency_ms']:.0f} ms a clip"
    )
