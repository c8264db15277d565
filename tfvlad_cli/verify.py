"""`tfvlad verify`: which videos can be decoded."""

from __future__ import annotations

import json
import sys

import click

from tfvlad_cli.options import json_option


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("--jobs", "num_workers", type=click.IntRange(min=1), help="Files decoded at a time.")
@json_option
def verify(paths: tuple[str, ...], num_workers: int | None, as_json: bool) -> None:
    """Decode every frame of every video in PATHS (files or folders), one line a file.

    In a folder, files with a video's suffix or none are looked at; a named file
    always is. Ends with exit code 1 if any of them is broken.

    \b
    Example:
      tfvlad verify videos/ another.mp4
    """
    import pipelines

    found = pipelines.verify(paths, num_workers=num_workers)
    if as_json:
        click.echo(json.dumps(found.to_dict()))
    else:
        for path, video in found.videos.items():
            if isinstance(video, pipelines.VideoInfo):
                click.echo(
                    f"ok      {path}: {video.num_frames} frames of {video.width}x{video.height}, "
                    f"{video.duration_seconds:.2f} s"
                )
            else:
                click.echo(f"broken  {path}: {video.reason}")
        click.echo(f"{len(found.good)} of {len(found.videos)} videos can be decoded.")
    sys.exit(1 if found.broken else 0)
