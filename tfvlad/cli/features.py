"""`tfvlad features`: a network's layer on every frame step of videos, written to disk."""

from __future__ import annotations

import json
from pathlib import Path

import click

NETWORKS = ("mobilenet_v2", "resnet18", "resnet34", "vgg16", "vgg19", "c3d")


@click.command()
@click.argument("videos", type=click.Path(exists=True))
@click.argument("folder", type=click.Path(file_okay=False))
@click.option(
    "--network", default="mobilenet_v2", show_default=True, type=click.Choice(list(NETWORKS))
)
@click.option(
    "--layer",
    default="pooled",
    show_default=True,
    help='"pooled", the last feature map averaged over space; "scores", the classifier\'s; fc6, '
    "fc7 or fc8 of VGG and C3D; or a layer by its name.",
)
@click.option(
    "--weights",
    default="imagenet",
    show_default=True,
    help='The network\'s weights: a file, "imagenet" (downloaded) or "none".',
)
@click.option(
    "--frame-step",
    default=16,
    show_default=True,
    type=click.IntRange(min=1),
    help="Frames from one row of features to the next.",
)
@click.option(
    "--image-size",
    type=click.IntRange(min=32),
    help="Side of a frame in pixels; the network's own by default.",
)
@click.option(
    "--flipped/--no-flipped", default=True, show_default=True, help="Mirrored frames too."
)
@click.option(
    "--dtype", default="float32", show_default=True, type=click.Choice(["float32", "float16"])
)
@click.option(
    "--format",
    "file_format",
    default="hdf5",
    show_default=True,
    type=click.Choice(["hdf5", "tfrecord"]),
)
@click.option(
    "--batch-size",
    default=32,
    show_default=True,
    type=click.IntRange(min=1),
    help="Frames, or windows of them, computed at a time.",
)
@click.option("--max-broken", type=click.IntRange(min=0), help="Most broken videos to leave out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
def features(
    videos: str,
    folder: str,
    network: str,
    layer: str,
    weights: str,
    frame_step: int,
    image_size: int | None,
    flipped: bool,
    dtype: str,
    file_format: str,
    batch_size: int,
    max_broken: int | None,
    as_json: bool,
) -> None:
    """Write a layer's features of all videos below VIDEOS (a folder, or one file) to FOLDER.

    One file a video, in the same sub-folders; an extraction that was killed goes on. `tfvlad train`
    takes FOLDER in the place of the videos, with the same lists.

    \b
    Example:
      tfvlad features videos/ features/pooled --weights mobilenet_v2.h5
      tfvlad features videos/ features/objects --network vgg19 --layer fc8 --weights vgg19.h5
    """
    from rich.console import Console

    from tfvlad.cli.extraction import build_network, describe, extract

    paths, root = _videos(Path(videos))
    extractor = build_network(network, layer, weights, image_size)
    description = describe(extractor, network, layer, weights, frame_step)
    broken = extract(
        extractor,
        description,
        paths,
        root,
        folder,
        flipped=flipped,
        dtype=dtype,
        file_format=file_format,
        batch_size=batch_size,
    )
    console = Console(stderr=as_json)
    for video in broken:
        line = f"left out: {video.path}: {video.reason}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if len(broken) > (len(paths) - 1 if max_broken is None else max_broken):
        raise ValueError(f"{len(broken)} of {len(paths)} videos are broken and have no features.")
    num_written = len(paths) - len(broken)
    console.print(
        f"{folder}: {extractor.num_channels} channels of {extractor.name} for {num_written} videos",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    if as_json:
        result = {"folder": folder, "videos": num_written, "broken": len(broken)}
        click.echo(json.dumps({**result, "num_channels": extractor.num_channels}))


def _videos(path: Path) -> tuple[list[str], str]:
    """The videos below a folder, or the one file, and the folder whose tree is mirrored."""
    from pipelines.listing import videos_below

    if path.is_file():
        return [str(path)], str(path.parent)
    found = videos_below(str(path))
    if not found:
        raise ValueError(f"There is no video below {path}.")
    return found, str(path)
