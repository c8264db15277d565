"""What a run folder holds beside its configuration and its model: scores, figures, lists."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.storage.files import write_aside, write_json
from pipelines.video.index import BrokenVideo
from tfvlad.evaluation import (
    EvaluationReport,
    OrderControls,
    ScoreFile,
    compare_orders,
    evaluate_scores,
    write_report,
    write_scores,
)
from tfvlad.runs.config import FeatureRunConfig, RunConfig
from tfvlad.runs.settings import FeatureSettings, VideoSettings
from tfvlad.runs.settings.views import views_of

_logger = logging.getLogger(__name__)


def tell_parts(config: RunConfig | FeatureRunConfig, parts: Mapping[str, Sequence[Any]]) -> None:
    """Say how many clips a run learns from, is chosen on and is tested on."""
    labels = "several labels" if config.multi_label else "one label"
    names = {"train": "training", "validation": "validation", "test": "test"}
    counts = ", ".join(f"{len(clips)} {names[part]}" for part, clips in parts.items())
    _logger.info("%d classes, %s a clip: %s clips", len(config.class_names), labels, counts)


def tell_left_out(broken: Sequence[BrokenVideo]) -> None:
    """Name the videos that are left out."""
    for video in broken:
        _logger.warning("left out: %s: %s", video.path, video.reason)


def write_left_out(broken: Sequence[BrokenVideo], folder: Path) -> None:
    """Name the videos that are left out in broken.csv, and tell of them."""
    with (
        write_aside(folder / "broken.csv") as aside,
        open(aside, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        csv.writer(file).writerows([("path", "reason"), *((b.path, b.reason) for b in broken)])
    tell_left_out(broken)


def save_scores(
    folder: Path,
    logits: np.ndarray,
    labels: np.ndarray,
    clips: Sequence[str],
    class_names: Sequence[str],
) -> EvaluationReport:
    """Write the test clips' scores and the report made from them."""
    report = evaluate_scores(logits, labels, class_names)
    _write_scores(folder, report, logits, labels, clips, class_names)
    return report


def save_controls(
    folder: Path,
    logits: Mapping[str, np.ndarray],
    labels: np.ndarray,
    clips: Sequence[str],
    class_names: Sequence[str],
) -> OrderControls:
    """Write what the scores of frames in other orders show, and a folder for each of these."""
    found = compare_orders(logits, labels, class_names)
    for control in found.controls:
        place = folder / control.name
        place.mkdir(exist_ok=True)
        _write_scores(place, control.report, logits[control.name], labels, clips, class_names)
    write_json(folder / "controls.json", found.to_dict())
    return found


def remove_controls(folder: Path) -> None:
    """Remove what `save_controls` has written."""
    path = folder / "controls.json"
    if path.exists():
        for name in json.loads(path.read_text("utf-8"))["controls"]:
            shutil.rmtree(folder / name, ignore_errors=True)
        path.unlink()


def _write_scores(
    folder: Path,
    report: EvaluationReport,
    logits: np.ndarray,
    labels: np.ndarray,
    clips: Sequence[str],
    class_names: Sequence[str],
) -> None:
    write_report(folder, report)
    file = ScoreFile(logits, tuple(clips), labels, tuple(class_names))
    write_scores(folder / "scores.npz", file)


def write_result(folder: Path, config: RunConfig | FeatureRunConfig, **found: Any) -> None:
    """Write result.json: how the test clips were seen, and what was found."""
    settings = config.settings
    told = {"split": config.data.split, "seed": settings.seed, "views": views_of(settings)}
    write_json(folder / "result.json", {"run": str(folder), **told, **found})


def read_result(folder: Path) -> dict[str, Any]:
    """The content of result.json; empty before the end of a training."""
    path = folder / "result.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def is_tested(folder: Path, settings: VideoSettings | FeatureSettings) -> bool:
    """Whether the folder's run is finished, and tested with these views."""
    views = read_result(folder).get("views") or {}
    if "test_crops" in views:  # a text in earlier versions
        views["test_crops"] = int(views["test_crops"])
    return views == views_of(settings)
