"""`tfvlad verify`: which videos can be decoded."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("--jobs", type=click.IntRange(min=1), help="Files decoded at a time.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(paths: tuple[str, ...], jobs: int | None, as_json: bool) -> None:
    """Decode every frame of every video in PATHS (files or folders), one line a file.

    In a folder, files with a video's suffix or none are looked at; a named file
    always is. Ends with exit code 1 if any of them is broken.

    \b
    Example:
      tfvlad verify videos/ another.mp4
    """
    from pipelines.video_index import BrokenVideo, index_videos

    files = [file for path in paths for file in _files(Path(path))]
    if not files:
        raise ValueError(f"There is no file to verify in: {', '.join(paths)}.")
    index = index_videos(files, num_workers=jobs)
    broken = [video for video in index.values() if isinstance(video, BrokenVideo)]
    if as_json:
        good = [
            {"path": path, "num_frames": video.num_frames, "seconds": video.duration_seconds}
            for path, video in index.items()
            if not isinstance(video, BrokenVideo)
        ]
        click.echo(json.dumps({"good": good, "broken": [asdict(video) for video in broken]}))
    else:
        for path, video in index.items():
            if isinstance(video, BrokenVideo):
                click.echo(f"broken  {path}: {video.reason}")
            else:
                click.echo(
                    f"ok      {path}: {video.num_frames} frames of {video.width}x{video.height}, "
                    f"{video.duration_seconds:.2f} s"
                )
        click.echo(f"{len(files) - len(broken)} of {len(files)} videos can be decoded.")
    sys.exit(1 if broken else 0)


def _files(path: Path) -> list[str]:
    from pipelines.annotations import VIDEO_SUFFIXES

    if path.is_file():
        return [str(path)]
    return [
        str(file)
        for file in sorted(path.rglob("*"))
        if file.is_file()
        and file.suffix.lower() in VIDEO_SUFFIXES | {""}
        and not file.name.startswith(".")
    ]
