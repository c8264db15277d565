"""`tfvlad show`: pictures of what a trained model sees."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from tfvlad_cli.options import given, json_option, shown

PICTURES = ("attention", "words", "track", "embedding")


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False))
@click.argument("videos", nargs=-1, type=click.Path(exists=True))
@click.option("--output", type=click.Path(file_okay=False), help="RUN/pictures by default.")
@click.option(
    "--what",
    multiple=True,
    type=click.Choice(PICTURES),
    help="May be repeated; by default all that the model has.",
)
@click.option(
    "--word",
    type=click.IntRange(min=0),
    help="Action word to track, from 0; by default the one with the largest share of each video.",
)
@click.option(
    "--num-videos",
    type=click.IntRange(min=1),
    help=shown("Most videos of the run's test list, spread evenly over it.", 60),
)
@json_option
@click.pass_context
def show(
    context: click.Context,
    run: str,
    videos: tuple[str, ...],
    output: str | None,
    as_json: bool,
    **_: object,
) -> None:
    """Draw what the model of RUN sees in VIDEOS, or in videos of the run's own test list.

    Each video, of the test list eight, gets a folder with attention.png (where the model looks
    after stage 1 and after stage 2), words.png (the action word of each location) and track.png
    (one word over time). Beside them, of all videos: words.png (regions assigned to the words that
    the model uses most), tsne_features.png (locations of the feature maps, coloured by video) and
    tsne_descriptors.png (coloured by class; of VIDEOS, the predicted one).

    A video that cannot be decoded is named, the others are drawn, and the exit code is 1.

    \b
    Example:
      tfvlad show run/ clip.mp4 --output pictures/ --what attention --what track
    """
    import tfvlad

    options = given(context, "output", "as_json")
    found = tfvlad.load(run).show(videos or None, **options)
    written = [str(path) for path in found.save(output or Path(run, "pictures"))]
    if as_json:
        unread = [{"path": video.path, "reason": video.reason} for video in found.broken]
        click.echo(json.dumps({"pictures": written, "broken": unread}))
    else:
        click.echo("\n".join(written))
    for video in found.broken:
        click.echo(f"tfvlad: {video.path}: {video.reason}", err=True)
    sys.exit(1 if found.broken else 0)
