"""The entry point of the `tfvlad` command."""

from __future__ import annotations

import importlib
import os
import sys

import click

# A command's module and function; imported when the command runs, so that help is instant.
_COMMANDS = {
    "demo": ("tfvlad.cli.demo", "Make small videos, train three models on them, compare."),
    "verify": ("tfvlad.cli.verify", "Decode every video and list the broken ones."),
    "features": ("tfvlad.cli.features", "Extract a network's features of videos to disk."),
    "flow": ("tfvlad.cli.flow", "Compute the optical flow of videos."),
    "train": ("tfvlad.cli.train", "Train a classifier on labelled videos and test it."),
    "ablation": ("tfvlad.cli.ablation", "Train variants of a model and compare them."),
    "tune": ("tfvlad.cli.tune", "Search for a model's best hyper-parameters."),
    "evaluate": ("tfvlad.cli.evaluate", "Test a trained model on labelled videos."),
    "compare": ("tfvlad.cli.compare", "Paired difference of runs on the same test clips."),
    "ensemble": ("tfvlad.cli.ensemble", "Average the class probabilities of runs."),
    "fuse": ("tfvlad.cli.fuse", "Fuse the scores of streams or models, and test them."),
    "predict": ("tfvlad.cli.predict", "Name the action in videos."),
    "highlight": ("tfvlad.cli.highlight", "Find when the action happens in videos."),
    "watch": ("tfvlad.cli.watch", "Name the action in a live video."),
    "export": ("tfvlad.cli.export", "Write a model for TensorFlow Serving or for phones."),
    "show": ("tfvlad.cli.show", "Draw what a trained model sees in videos."),
}


class _LazyGroup(click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        return getattr(importlib.import_module(_COMMANDS[name][0]), name)

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
    """Run the command; what a user can mend is one sentence, not a traceback."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        cli(prog_name="tfvlad")
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        if os.environ.get("TFVLAD_TRACEBACK"):
            raise
        click.echo(f"tfvlad: {error}", err=True)
        sys.exit(1)
