"""`tfvlad flow`: the optical flow of videos, written to disk as images."""

from __future__ import annotations

import json
from typing import Any

import click

from tfvlad_cli.data_options import max_broken_option
from tfvlad_cli.options import given, json_option, shown


@click.command()
@click.argument("videos", type=click.Path(exists=True))
@click.argument("folder", type=click.Path(file_okay=False))
@click.option(
    "--method",
    type=click.Choice(["tvl1", "dis", "farneback"]),
    help=shown("tvl1 is the papers' and the slowest.", "tvl1"),
)
@click.option(
    "--bound",
    type=click.FloatRange(min=0, min_open=True),
    help=shown("Largest motion that is kept, pixels a frame.", 20.0),
)
@click.option(
    "--short-side",
    type=click.IntRange(min=16),
    help=shown("Shorter side of the frames in pixels.", 256),
)
@click.option("--images", is_flag=True, help="Write the frames too, img_%05d.jpg.")
@click.option(
    "--workers",
    "num_workers",
    type=click.IntRange(min=1),
    help="Videos at a time; one a processor.",
)
@max_broken_option
@json_option
@click.pass_context
def flow(context: click.Context, videos: str, folder: str, as_json: bool, **_: Any) -> None:
    """Write the optical flow of all videos below VIDEOS (a folder, or one file) to FOLDER.

    One folder per video, in the same sub-folders, with flow_x_00001.jpg, flow_y_00001.jpg and so
    on. If it is stopped, give the same command again and it continues.

    \b
    Example:
      tfvlad flow videos/ flow/
    """
    import pipelines

    done = pipelines.extract_flow(videos, folder, **given(context, "as_json"))
    if as_json:
        click.echo(json.dumps(done.to_dict()))
    else:
        click.echo(f"{folder}: optical flow ({done.method}) of {done.num_videos} videos")
