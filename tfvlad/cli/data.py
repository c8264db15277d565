"""Labelled videos as the command line names them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pipelines.annotations import Split, read_csv, read_folder, read_hmdb51, read_ucf101
from pipelines.annotations import split_validation as set_aside


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options by which a command is told of training and test videos."""
    for option in (
        click.option(
            "--test-data",
            type=click.Path(exists=True),
            help="Test videos: a folder or a CSV, like DATA.",
        ),
        click.option(
            "--lists",
            type=click.Path(exists=True, file_okay=False),
            help="Folder of HMDB51's (<class>_test_split<n>.txt) or UCF101's (trainlist0<n>.txt) "
            "official lists.",
        ),
    ):
        command = option(command)
    return command


def read_split(data: str, lists: str | None, split: int, test_data: str | None) -> Split:
    """Training and test records of what the options name.

    A folder with official lists; a CSV or a folder of classes with `test_data`; a folder that has
    `train` and `test`; else a fifth of the videos, whole source videos at a time, is the test list.

    Raises:
        ValueError: the combination is not possible, or the lists say so.
    """
    if lists is not None:
        if test_data is not None:
            raise ValueError("Give either --lists or --test-data: the lists name the test videos.")
        is_ucf101 = (Path(lists) / "classInd.txt").exists()
        return (read_ucf101 if is_ucf101 else read_hmdb51)(data, lists, split)
    if test_data is None and (Path(data) / "train").is_dir() and (Path(data) / "test").is_dir():
        data, test_data = os.path.join(data, "train"), os.path.join(data, "test")
    train = _read(data)
    if test_data is not None:
        test = _read(test_data, train.class_names)
        return Split(train.records, test.records, train.class_names)
    training, testing = set_aside(train.records, fraction=0.2, seed=0)
    return Split(training, testing, train.class_names)


def _read(data: str, class_names: Any = None) -> Any:
    return (read_folder if os.path.isdir(data) else read_csv)(data, class_names=class_names)
