"""Runs the command in this process, and makes videos for it."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import av
import click
import numpy as np

from tfvlad_cli.main import main


class Result(NamedTuple):
    exit_code: int
    output: str
    errors: str


def tfvlad(*arguments: object) -> Result:
    """What the shell command `tfvlad` does with the arguments."""
    output, errors = io.StringIO(), io.StringIO()
    exit_code = 0
    with (
        mock.patch.object(sys, "argv", ["tfvlad", *map(str, arguments)]),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        try:
            main()
        except SystemExit as stop:
            exit_code = stop.code or 0
    return Result(exit_code, output.getvalue(), errors.getvalue())


def assert_one_sentence(result: Result, sentence: str) -> None:
    """The command failed for a reason that the user can mend, and told it without a traceback."""
    assert result.exit_code == 1
    assert result.errors.count("\n") == 1
    assert result.errors.startswith("tfvlad: ")
    assert sentence in result.errors
    assert result.output == ""


def shown_defaults(command: click.Command, function: Callable) -> set[str]:
    """The options that show a default, after a look that each is the default of the function."""
    known = inspect.signature(function).parameters
    found = set()
    for option in command.params:
        shown = re.search(r"\[default: (.*)\]$", getattr(option, "help", None) or "")
        if shown:
            default = known[str(option.name)].default
            texts = {str(default), str(option.name)} if default is True else {str(default)}
            assert shown[1] in texts, option.name
            found.add(str(option.name))
    return found


def write_video(path: Path, color: int, *, num_frames: int = 6, seed: int = 0) -> Path:
    """Noise on one bright channel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng([seed, color])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(num_frames):
            image = generator.integers(0, 100, (64, 64, 3)).astype("uint8")
            image[..., color] += 150
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_parts(folder: Path, *, num_train: int, num_test: int) -> Path:
    """Folders `train` and `test` of two classes, green and red."""
    for part, count in (("train", num_train), ("test", num_test)):
        for color, name in enumerate(("green", "red")):
            for i in range(count):
                path = folder / part / name / f"{part}{i}.mp4"
                write_video(path, 1 - color, seed=i + 10 * (part == "test"))
    return folder


def write_broken(path: Path, kind: str, source: Path) -> Path:
    """A file that is no video, an empty one, or the first half of one."""
    contents = {
        "text": b"this is no video",
        "empty": b"",
        "truncated": source.read_bytes()[: source.stat().st_size // 2],
    }
    path.write_bytes(contents[kind])
    return path
