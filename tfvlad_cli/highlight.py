"""`tfvlad highlight`: when the action happens in videos."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from tfvlad_cli.options import given, json_option, shown


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False))
@click.argument("videos", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--output",
    required=True,
    type=click.Path(file_okay=False),
    help="Folder that gets a folder for each video.",
)
@click.option(
    "--class",
    "class_name",
    help="Class that is highlighted; the most probable one of each video by default.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(min=0),
    help=shown("Multiple of the video's mean score from which a moment stands out.", 1.5),
)
@click.option("--clip", is_flag=True, help="Cut the highlights out into highlight.mp4.")
@click.option(
    "--max-clip-seconds",
    "max_seconds",
    type=click.FloatRange(min=0, min_open=True),
    help=shown("Longest highlight.mp4; the highlights of the highest scores enter first.", 30.0),
)
@json_option
@click.pass_context
def highlight(
    context: click.Context,
    run: str,
    videos: tuple[str, ...],
    output: str,
    as_json: bool,
    **_: object,
) -> None:
    """Find when the action happens in VIDEOS of any length with the model of RUN.

    Each video's folder gets highlights.json, the frames of the highest and lowest scores
    (extremes.png), frames lightened or darkened by their scores (frames.png) and the scores over
    time (timeline.png).

    A video is checked, and then read once in chunks as long as the training clips, each half over
    the one before it. A frame's score is its attention (of a model of videos: the positive part of
    what it adds to the class's logit) relative to the chunk's mean, times the chunk's confidence,
    averaged over the chunks that saw it. The confidence is the probability above chance, or the
    probability where a clip may have several classes. Scores are smoothed over a quarter of a
    chunk; highlights closer than that to each other become one, shorter ones are dropped.

    For a model of imported arrays (`tfvlad import-features`), VIDEOS are arrays. There are no
    frames to draw or to cut out, and where the frame rate is not known, moments are positions in
    the array.

    A video that cannot be decoded is named, before all others if it cannot be opened, the others
    are highlighted, and the exit code is 1.

    \b
    Example:
      tfvlad highlight run/ match.mp4 --output highlights/ --clip --max-clip-seconds 20
    """
    import tfvlad
    from pipelines.video.index import BrokenVideo

    highlights: dict[str, dict[str, Any]] = {}
    broken = []
    options = given(context, "output", "as_json")
    for folder, found in tfvlad.load(run).highlight_all(videos, output, **options):
        if isinstance(found, BrokenVideo):
            broken.append({"path": found.path, "reason": found.reason})
            click.echo(f"tfvlad: {found.path}: {found.reason}", err=True)
            continue
        result = found.to_dict()
        if not as_json:
            _print(found.path, result, folder, found.unit)
        del result["rows"]
        highlights[found.path] = result
    if as_json:
        click.echo(json.dumps({"highlights": highlights, "broken": broken}))
    sys.exit(1 if broken else 0)


def _print(path: str, result: dict[str, Any], folder: Path, unit: str) -> None:
    name, probability = result["class"], result["probability"]
    click.echo(f"{path}: {name} {100 * probability:.1f} %, see {folder}")
    for row in result["intervals"]:
        start, end = row[f"start_{unit}"], row[f"end_{unit}"]
        times = (
            f"{clock_time(start)} - {clock_time(end)}"
            if unit == "seconds"
            else f"{start:.1f} - {end:.1f} {unit}"
        )
        click.echo(f"  {times}  {name}  x{row['score']:.1f}")
    if not result["intervals"]:
        click.echo("  no moment stands out; a lower --threshold shows more")


def clock_time(seconds: float) -> str:
    """75.25 -> 1:15.2"""
    minutes, tenths = divmod(int(10 * seconds), 600)
    hours, minutes = divmod(minutes, 60)
    shown = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{shown}:{tenths // 10:02}.{tenths % 10}"
