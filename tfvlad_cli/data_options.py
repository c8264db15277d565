"""The options that say what a training or a test reads."""

from __future__ import annotations

from typing import Any

import click

from tfvlad_cli.options import decorated, given, shown

_FOLDER = click.Path(exists=True, file_okay=False)

lists_option = click.option(
    "--lists",
    type=click.Path(exists=True),
    help="Official lists: the folder of HMDB51's (<class>_test_split<n>.txt), UCF101's "
    "(trainlist0<n>.txt), Hollywood2's (ClipSets) or Charades' (Charades_v1_train.csv), or "
    "ActivityNet's JSON file; or a CSV of videos below DATA.",
)
max_broken_option = click.option(
    "--max-broken", type=click.IntRange(min=0), help="Most broken videos to leave out."
)
attended_option = click.option(
    "--attended",
    type=_FOLDER,
    help="Features that the attention LSTM attends to, where DATA is the folder of its input; "
    "DATA's own by default.",
)
flow_option = click.option(
    "--flow", type=_FOLDER, help="Optical flow of the videos in DATA, for a two-stream model."
)
data_options = decorated(
    (
        lists_option,
        click.option(
            "--test-data",
            type=click.Path(exists=True),
            help="Test videos: a folder or a CSV, like DATA.",
        ),
        flow_option,
        attended_option,
        max_broken_option,
        click.option(
            "--cache",
            type=click.Path(file_okay=False),
            help="Folder of cached features, shared by runs; RUN/features by default.",
        ),
    )
)
splits_option = click.option(
    "--split",
    "splits",
    multiple=True,
    type=click.IntRange(min=1),
    help=shown("Number of the official split; may be repeated.", 1),
)
seeds_option = click.option(
    "--seed", "seeds", multiple=True, type=click.IntRange(min=0), help=shown("May be repeated.", 0)
)

# Those that are no settings, but name the data of `tfvlad.train`.
OF_THE_DATA = {"lists", "test_data", "flow", "attended", "cache", "max_broken"}


def given_data(context: click.Context) -> dict[str, Any]:
    """The given options that name the data, as arguments of `tfvlad.train`."""
    return {name: value for name, value in given(context).items() if name in OF_THE_DATA}
