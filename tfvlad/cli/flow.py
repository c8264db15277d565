"""`tfvlad flow`: the optical flow of videos, written to disk as images."""

from __future__ import annotations

import json

import click


@click.command()
@click.argument("videos", type=click.Path(exists=True, file_okay=False))
@click.argument("folder", type=click.Path(file_okay=False))
@click.option(
    "--method",
    default="tvl1",
    show_default=True,
    type=click.Choice(["tvl1", "dis", "farneback"]),
    help="tvl1 is the papers' and the slowest.",
)
@click.option(
    "--bound",
    default=20.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Largest motion that is kept, pixels a frame.",
)
@click.option(
    "--short-side",
    default=256,
    show_default=True,
    type=click.IntRange(min=16),
    help="Shorter side of the frames in pixels.",
)
@click.option("--images", is_flag=True, help="Write the frames too, img_%05d.jpg.")
@click.option("--workers", type=click.IntRange(min=1), help="Videos at a time; one a processor.")
@click.option("--max-broken", type=click.IntRange(min=0), help="Most broken videos to leave out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
def flow(
    videos: str,
    folder: str,
    method: str,
    bound: float,
    short_side: int,
    images: bool,
    workers: int | None,
    max_broken: int | None,
    as_json: bool,
) -> None:
    """Write the optical flow of all videos below VIDEOS to FOLDER.

    One folder a video, in the same sub-folders, with flow_x_00001.jpg, flow_y_00001.jpg and so on.
    A run that was killed goes on.

    \b
    Example:
      tfvlad flow videos/ flow/
    """
    import warnings

    from rich.console import Console

    from pipelines.flow_extraction import extract_flow
    from pipelines.listing import videos_below

    paths = videos_below(videos)
    if not paths:
        raise ValueError(f"There is no video below {videos}.")
    with warnings.catch_warnings():
        # The broken videos are named below.
        warnings.filterwarnings("ignore", message=".* videos are broken and have no optical flow")
        broken = extract_flow(
            paths,
            videos,
            folder,
            method=method,
            bound=bound,
            short_side=short_side,
            images=images,
            num_workers=workers,
        )
    console = Console(stderr=as_json)
    for video in broken:
        line = f"left out: {video.path}: {video.reason}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if len(broken) > (len(paths) - 1 if max_broken is None else max_broken):
        raise ValueError(
            f"{len(broken)} of {len(paths)} videos are broken and have no optical flow."
        )
    num_written = len(paths) - len(broken)
    line = f"{folder}: optical flow ({method}) of {num_written} videos"
    console.print(line, markup=False, highlight=False, soft_wrap=True)
    if as_json:
        click.echo(json.dumps({"folder": folder, "videos": num_written, "broken": len(broken)}))
