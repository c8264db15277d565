"""`tfvlad features`: a network's layer on every frame step of videos, written to disk."""

from __future__ import annotations

import json
from typing import Any

import click

from tfvlad_cli.data_options import max_broken_option
from tfvlad_cli.options import FileOr, given, json_option, shown
from tfvlad_cli.training_options import BACKBONES


@click.command()
@click.argument("videos", type=click.Path(exists=True))
@click.argument("folder", type=click.Path(file_okay=False))
@click.option(
    "--network",
    type=click.Choice([*BACKBONES, "c3d"]),
    help=shown("Whose features are written.", "mobilenet_v2"),
)
@click.option(
    "--layer",
    help=shown(
        '"pooled", the last feature map averaged over space; "scores", the classifier\'s; fc6, '
        "fc7 or fc8 of VGG and C3D; or a layer by its name.",
        "pooled",
    ),
)
@click.option(
    "--weights",
    type=FileOr("imagenet", "none"),
    help=shown('The network\'s weights: a file, "imagenet" (downloaded) or "none".', "imagenet"),
)
@click.option(
    "--frame-step",
    type=click.IntRange(min=1),
    help=shown("Frames from one row of features to the next.", 16),
)
@click.option(
    "--image-size",
    type=click.IntRange(min=32),
    help="Side of a frame in pixels; the network's own by default.",
)
@click.option("--flipped/--no-flipped", help=shown("Mirrored frames too.", "flipped"))
@click.option("--dtype", type=click.Choice(["float32", "float16"]), help=shown("", "float32"))
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["hdf5", "tfrecord"]),
    help=shown("", "hdf5"),
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    help=shown("Frames, or windows of them, computed at a time.", 32),
)
@max_broken_option
@json_option
@click.pass_context
def features(context: click.Context, videos: str, folder: str, as_json: bool, **_: Any) -> None:
    """Write a layer's features of all videos below VIDEOS (a folder, or one file) to FOLDER.

    One file per video, in the same sub-folders. If it is stopped, give the same command again and
    it continues. `tfvlad train` takes FOLDER in the place of the videos, with the same lists.

    \b
    Example:
      tfvlad features videos/ features/pooled --weights mobilenet_v2.h5
      tfvlad features videos/ features/objects --network vgg19 --layer fc8 --weights vgg19.h5
    """
    import tfvlad

    done = tfvlad.extract_features(videos, folder, **given(context, "as_json"))
    if as_json:
        click.echo(json.dumps(done.to_dict()))
    else:
        click.echo(f"{folder}: {done.num_channels} channels for {done.num_videos} videos")
