"""`tfvlad highlight`: when the action happens in videos."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click


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
    default=1.5,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Multiple of the video's mean score from which a moment stands out.",
)
@click.option("--clip", is_flag=True, help="Cut the highlights out into highlight.mp4.")
@click.option(
    "--max-clip-seconds",
    default=30.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Longest highlight.mp4; the highlights of the highest scores enter first.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def highlight(
    run: str,
    videos: tuple[str, ...],
    output: str,
    class_name: str | None,
    threshold: float,
    clip: bool,
    max_clip_seconds: float,
    as_json: bool,
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

    A video that cannot be decoded is named, the others are highlighted, and the exit code is 1.

    \b
    Example:
      tfvlad highlight run/ match.mp4 --output highlights/ --clip --max-clip-seconds 20
    """
    from pipelines.video_index import BrokenVideo, index_videos
    from tfvlad.cli.highlight_files import describe, write_clip, write_figures
    from tfvlad.cli.highlight_run import load_chunk_model, predict_video
    from tfvlad.cli.highlight_scores import find_highlights
    from tfvlad.cli.run_folder import load_config

    folders = _folders(videos, Path(output))
    class_names = load_config(Path(run)).class_names
    class_index = None if class_name is None else _class_index(class_name, class_names)
    model = load_chunk_model(Path(run))
    index = index_videos(videos)
    results: dict[str, dict[str, Any]] = {}
    broken = []
    for path, info in index.items():
        if isinstance(info, BrokenVideo):
            broken.append(info)
            continue
        predictions = predict_video(model, path, info)
        found = find_highlights(predictions, info, model, class_index, threshold)
        folder = folders[path]
        folder.mkdir(parents=True, exist_ok=True)
        results[path] = describe(found, path, info, class_names)
        (folder / "highlights.json").write_text(json.dumps(results[path], indent=2) + "\n")
        write_figures(folder, found, path, info, class_names)
        if clip and found.intervals:
            write_clip(folder / "highlight.mp4", found, path, max_clip_seconds)
        if not as_json:
            _print(path, results[path], folder)
    if as_json:
        unread = [{"path": video.path, "reason": video.reason} for video in broken]
        shown = {
            path: {name: value for name, value in result.items() if name != "rows"}
            for path, result in results.items()
        }
        click.echo(json.dumps({"highlights": shown, "broken": unread}))
    for video in broken:
        click.echo(f"tfvlad: {video.path}: {video.reason}", err=True)
    sys.exit(1 if broken else 0)


def _folders(videos: tuple[str, ...], output: Path) -> dict[str, Path]:
    """The folder of each video: its name without the ending."""
    folders = {path: output / Path(path).stem for path in videos}
    owners: dict[Path, str] = {}
    for path, folder in folders.items():
        owner = owners.setdefault(folder, path)
        if owner != path:
            raise ValueError(
                f"{owner} and {path} would both write to {folder}. Highlight them one at a time, "
                "each with its own --output."
            )
    return folders


def _class_index(name: str, class_names: list[str]) -> int:
    if name not in class_names:
        raise ValueError(f"--class must be one of {', '.join(class_names)}. Received: {name}.")
    return class_names.index(name)


def _print(path: str, result: dict[str, Any], folder: Path) -> None:
    name, probability = result["class"], result["probability"]
    click.echo(f"{path}: {name} {100 * probability:.1f} %, see {folder}")
    for row in result["intervals"]:
        start, end = (clock_time(row[f"{edge}_seconds"]) for edge in ("start", "end"))
        click.echo(f"  {start} - {end}  {name}  x{row['score']:.1f}")
    if not result["intervals"]:
        click.echo("  no moment stands out; a lower --threshold shows more")


def clock_time(seconds: float) -> str:
    """75.25 -> 1:15.2"""
    minutes, tenths = divmod(int(10 * seconds), 600)
    hours, minutes = divmod(minutes, 60)
    shown = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{shown}:{tenths // 10:02}.{tenths % 10}"
