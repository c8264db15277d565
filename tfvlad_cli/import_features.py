"""`tfvlad import-features`: arrays that any network has written become a feature set."""

from __future__ import annotations

import json
from typing import Any

import click

from tfvlad_cli.options import given, json_option, shown


@click.command()
@click.argument("arrays", type=click.Path(exists=True))
@click.argument("folder", type=click.Path(file_okay=False))
@click.option(
    "--key",
    help="Name of the array in files that name their arrays (.npz, HDF5, MATLAB); the only one by "
    "default.",
)
@click.option(
    "--frame-step",
    type=click.IntRange(min=1),
    help=shown("Frames of the video from one row of an array to the next.", 16),
)
@click.option(
    "--frames-per-second",
    type=click.FloatRange(min=0, min_open=True),
    help="Frame rate of the videos; without it, highlights are positions in the array.",
)
@click.option("--max-broken", type=click.IntRange(min=0), help="Most broken arrays to leave out.")
@json_option
@click.pass_context
def import_features(
    context: click.Context, arrays: str, folder: str, as_json: bool, **_: Any
) -> None:
    """Make a feature set, FOLDER, of the arrays below ARRAYS (a folder, or one file).

    An array is a file .npy, .npz, .h5, .hdf5 or .mat of the features of one clip, (T, D): a row for
    each step of time. `tfvlad train` takes FOLDER in the place of the videos, with the same lists;
    sub-folders are classes, as of videos. Every array is checked before the first is written. If it
    is stopped, give the same command again and it continues.

    \b
    Example:
      tfvlad import-features clip/ features/clip --frame-step 5 --frames-per-second 25
      tfvlad train features/clip run/ --model attention-lstm
    """
    import pipelines

    done = pipelines.import_features(arrays, folder, **given(context, "as_json"))
    if as_json:
        click.echo(json.dumps(done.to_dict()))
    else:
        click.echo(f"{folder}: {done.num_channels} channels for {done.num_videos} clips")
