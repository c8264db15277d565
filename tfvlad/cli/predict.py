"""`tfvlad predict`: the most probable actions in videos."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False))
@click.argument("videos", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--top", default=5, show_default=True, type=click.IntRange(min=1))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def predict(run: str, videos: tuple[str, ...], top: int, as_json: bool) -> None:
    """Print the most probable actions in VIDEOS with the model of RUN.

    A video that cannot be decoded is named, the others are predicted, and the exit code is 1.

    \b
    Example:
      tfvlad predict run/ clip.mp4 another.avi
    """
    import numpy as np

    from pipelines.annotations import VideoRecord
    from pipelines.clip_dataset import VideoClipSource
    from pipelines.video_index import BrokenVideo, index_videos
    from tfvlad.cli.run_folder import RunConfig, load_model
    from tfvlad.evaluation import class_probabilities
    from tfvlad.training import predict_logits

    folder = Path(run)
    config = RunConfig.load(folder)
    index = index_videos(videos)
    broken = [video for video in index.values() if isinstance(video, BrokenVideo)]
    good = [path for path, video in index.items() if not isinstance(video, BrokenVideo)]
    results: dict[str, list[dict[str, float | str]]] = {}
    if good:
        model = load_model(folder)
        source = VideoClipSource(
            [VideoRecord(path, (0,)) for path in good],
            config.class_names,
            index=index,
            num_frames=config.num_frames,
            image_size=config.image_size,
            short_side=config.short_side,
            sampling=config.sampling,
        )
        probabilities = class_probabilities(
            predict_logits(model, source), multi_label=config.multi_label
        )
        for path, row in zip(good, probabilities, strict=True):
            best = np.argsort(-row, kind="stable")[:top]
            results[path] = [
                {"class": config.class_names[i], "probability": round(float(row[i]), 6)}
                for i in best
            ]
    if as_json:
        unread = [{"path": video.path, "reason": video.reason} for video in broken]
        click.echo(json.dumps({"predictions": results, "broken": unread}))
    for path, rows in () if as_json else results.items():
        click.echo(path)
        for found in rows:
            click.echo(f"  {100 * found['probability']:5.1f} %  {found['class']}")
    for video in broken:
        click.echo(f"tfvlad: {video.path}: {video.reason}", err=True)
    sys.exit(1 if broken else 0)
