"""`tfvlad watch`: the action in a camera's picture or another live video, as it happens."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from tfvlad_cli.options import given, shown

if TYPE_CHECKING:
    from pipelines.video.codec.live import LiveFrames


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False))
@click.argument("source")
@click.option(
    "--frames-per-second",
    type=click.FloatRange(min=0, min_open=True),
    help="Frames that the model looks at in a second; by default as close together as in the "
    "training clips (videos of 25 frames a second), which it knows movements from.",
)
@click.option(
    "--memory-seconds",
    type=click.FloatRange(min=0, min_open=True),
    help=shown("Half-life of a frame in a model that sums over time.", 2),
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False),
    help="MP4 file of what the model saw, with the most probable action and, where the model has "
    "top-down attention, where it looked.",
)
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End after that time.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a frame, a line each.")
@click.pass_context
def watch(context: click.Context, run: str, source: str, as_json: bool, **_: object) -> None:
    """Name the action in SOURCE as it happens, with the model of RUN.

    SOURCE is a camera (its number or device), a URL (rtsp, http, hls) or a video file, which plays
    in real time. The newest frame is what counts: a machine that is too slow drops frames instead
    of lagging behind. Ctrl-C, or the source's end, ends it; the MP4 file is finished in any case.

    \b
    Example:
      tfvlad watch run/ 0
      tfvlad watch run/ rtsp://camera.local/stream --output seen.mp4
    """
    from pipelines.video.codec.encoding import check_new_video
    from pipelines.video.codec.live import LiveFrames

    options = given(context, "as_json")
    # Before TensorFlow is imported: a wrong name is told at once.
    check_new_video(options.get("output"))
    with LiveFrames(source) as frames:
        import tfvlad
        from tfvlad_cli.watch_view import open_view

        loaded = tfvlad.load(run)
        with (
            loaded.watch(frames, **options) as moments,
            _ended_by_ctrl_c(frames),
            open_view(as_json=as_json) as show,
        ):
            for moment in moments:
                try:
                    show(moment)
                except BrokenPipeError:
                    # Who read the lines has gone, as `head` does. Python would complain at its end.
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                    frames.stop()


@contextmanager
def _ended_by_ctrl_c(frames: LiveFrames) -> Iterator[None]:
    """The first Ctrl-C ends the frames, and what is written is finished; the second is as ever."""
    before = signal.getsignal(signal.SIGINT)

    def stop(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        frames.stop()

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
