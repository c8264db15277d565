"""The entry point of the `tfvlad` command."""

from __future__ import annotations

import importlib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from tfvlad_cli.options import flags_of

# A command's module and function; imported when the command runs, so that help is instant.
_COMMANDS = {
    "demo": ("tfvlad_cli.demo", "Make small videos, train three models on them, compare."),
    "verify": ("tfvlad_cli.verify", "Decode every video and list the broken ones."),
    "features": ("tfvlad_cli.features", "Extract a network's features of videos to disk."),
    "import-features": (
        "tfvlad_cli.import_features",
        "Make a feature set of another program's arrays.",
    ),
    "flow": ("tfvlad_cli.flow", "Compute the optical flow of videos."),
    "train": ("tfvlad_cli.train", "Train a classifier on labelled videos and test it."),
    "ablation": ("tfvlad_cli.ablation", "Train variants of a model and compare them."),
    "tune": ("tfvlad_cli.tune", "Search for a model's best hyper-parameters."),
    "evaluate": ("tfvlad_cli.evaluate", "Test a trained model on labelled videos."),
    "compare": ("tfvlad_cli.compare", "Paired difference of runs on the same test clips."),
    "fuse": ("tfvlad_cli.fuse", "Fuse the scores of streams or models, and test them."),
    "predict": ("tfvlad_cli.predict", "Name the action in videos."),
    "highlight": ("tfvlad_cli.highlight", "Find when the action happens in videos."),
    "watch": ("tfvlad_cli.watch", "Name the action in a live video."),
    "export": ("tfvlad_cli.export", "Write a model for TensorFlow Serving or for phones."),
    "show": ("tfvlad_cli.show", "Draw what a trained model sees in videos."),
}


# What an earlier version had, and what does it now.
_REMOVED = {"ensemble": "tfvlad fuse --on probabilities"}
# What a user can mend.
_ERRORS = (ValueError, OSError, FloatingPointError, ImportError)
_PACKAGES = ("tfvlad", "pipelines", "tuning", "export")


class _LazyGroup(click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name in _REMOVED:
            raise click.UsageError(f"`tfvlad {name}` is now `{_REMOVED[name]}`.", context)
        if name not in _COMMANDS:
            return None
        return getattr(importlib.import_module(_COMMANDS[name][0]), name.replace("-", "_"))

    def invoke(self, context: click.Context) -> Any:
        """Run a command; what a user can mend is one sentence, not a traceback."""
        try:
            with _messages():
                return super().invoke(context)
        except _ERRORS as error:
            if os.environ.get("TFVLAD_TRACEBACK"):
                raise
            command = self.get_command(context, context.invoked_subcommand or "")
            click.echo(f"tfvlad: {_in_flags(str(error), command)}", err=True)
            context.exit(1)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tfvlad")
def cli() -> None:
    """Recognise actions in videos with VLAD pooling and attention.

    \b
    Example:
      tfvlad train videos/ run/     a folder of videos with a sub-folder for each class
      tfvlad predict run/ clip.mp4
    """


def main() -> None:
    """Run the command."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    cli(prog_name="tfvlad")


def _in_flags(message: str, command: click.Command | None) -> str:
    """A message of the library, with the command's flags in the place of its arguments' names."""
    flags = flags_of(command) if command else {}
    return re.sub(r"`(\w+)`", lambda match: f"`{flags.get(match[1], match[1])}`", message)


@contextmanager
def _messages() -> Iterator[None]:
    """What the library tells goes to the standard error stream."""
    from pipelines.progress import MessageHandler

    handler = MessageHandler()
    loggers = [logging.getLogger(name) for name in _PACKAGES]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
