"""`tfvlad predict`: the most probable actions in videos."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import numpy as np

    from pipelines.video_index import BrokenVideo
    from tfvlad.cli.run_folder import FeatureRunConfig, RunConfig

# The scores of the videos that could be read, their paths, and the others.
Predicted = tuple["np.ndarray", list[str], list["BrokenVideo"]]


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False))
@click.argument("videos", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("--top", default=5, show_default=True, type=click.IntRange(min=1))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def predict(run: str, videos: tuple[str, ...], top: int, as_json: bool) -> None:
    """Print the most probable actions in VIDEOS, files or frame folders, with the model of RUN.

    A video that cannot be decoded is named, the others are predicted, and the exit code is 1.

    \b
    Example:
      tfvlad predict run/ clip.mp4 another.avi
    """
    import numpy as np

    from tfvlad.cli.run_folder import FeatureRunConfig, load_config
    from tfvlad.evaluation import class_probabilities

    folder = Path(run)
    config = load_config(folder)
    results: dict[str, list[dict[str, float | str]]] = {}
    if isinstance(config, FeatureRunConfig):
        scores, good, broken = _predict_on_features(folder, config, videos)
    else:
        scores, good, broken = _predict_on_videos(folder, config, videos)
    if good:
        probabilities = class_probabilities(scores, multi_label=config.multi_label)
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


def _predict_on_videos(folder: Path, config: RunConfig, paths: Sequence[str]) -> Predicted:
    """Optical flow is computed to a temporary folder, as the run's was."""
    import numpy as np

    from tfvlad.cli.clip_sources import source_of_videos
    from tfvlad.cli.run_folder import load_model
    from tfvlad.training import predict_logits

    with tempfile.TemporaryDirectory(prefix="tfvlad-") as place:
        source, good, broken = source_of_videos(config, paths, Path(place))
        logits = predict_logits(load_model(folder), source) if source else np.empty(0)
        return logits, good, broken


def _predict_on_features(folder: Path, config: FeatureRunConfig, paths: Sequence[str]) -> Predicted:
    """Through features that are extracted to a temporary folder."""
    import numpy as np

    from pipelines.records import VideoRecord
    from pipelines.video_index import BrokenVideo, index_videos
    from tfvlad.cli.extraction import extract_sets
    from tfvlad.cli.feature_training import feature_source, predict_clips
    from tfvlad.cli.run_folder import load_model

    index = index_videos(paths)
    broken = [video for video in index.values() if isinstance(video, BrokenVideo)]
    good = [path for path, video in index.items() if not isinstance(video, BrokenVideo)]
    if not good:
        return np.empty(0), good, broken
    model = load_model(folder)
    with tempfile.TemporaryDirectory(prefix="tfvlad-") as place:
        folders, files = extract_sets(config.feature_sets, good, Path(place))
        records = tuple(VideoRecord(file, (0,)) for file in files)
        source = feature_source(config, folders, records)
        return predict_clips(model, source, num_chunks=40), good, broken
