"""`tfvlad predict`: the most probable actions in videos."""

from __future__ import annotations

import json
import sys

import click

from tfvlad_cli.options import json_option, shown


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False))
@click.argument("videos", nargs=-1, required=True, type=click.Path(exists=True))
@click.option(
    "--top", default=5, type=click.IntRange(min=1), help=shown("Classes that are printed.", 5)
)
@json_option
def predict(run: str, videos: tuple[str, ...], top: int, as_json: bool) -> None:
    """Print the most probable actions in VIDEOS, files or frame folders, with the model of RUN.

    A video that cannot be decoded is named, the others are predicted, and the exit code is 1.

    \b
    Example:
      tfvlad predict run/ clip.mp4 another.avi
    """
    import tfvlad

    found = tfvlad.load(run).predict(videos)
    if as_json:
        click.echo(json.dumps(found.to_dict(top)))
    else:
        for answer in found:
            click.echo(answer.path)
            for name, probability in answer.top(top):
                click.echo(f"  {100 * probability:5.1f} %  {name}")
    for video in found.broken:
        click.echo(f"tfvlad: {video.path}: {video.reason}", err=True)
    sys.exit(1 if found.broken else 0)
