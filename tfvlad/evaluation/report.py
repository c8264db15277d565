"""The figures of a test run: computed, written to a folder."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from pipelines.storage.files import write_aside, write_json
from tfvlad.evaluation import metrics as measures
from tfvlad.evaluation.bootstrap import bootstrap_mean


@dataclass(frozen=True)
class EvaluationReport:
    """What `evaluate_scores` found.

    Attributes:
        metrics: name to figure, ready for JSON. An `<name>_interval` is the `[low, high]` of its
            95 % bootstrap interval.
        class_names: the classes in the order of the scores.
        num_clips_per_class: number of test clips of each class, `(num_classes,)`.
        per_class: accuracy, or average precision for multi-label truth, of each class,
            `(num_classes,)`; NaN for a class without clips.
        confusion: counts of true class (row) by predicted class (column), None for multi-label
            truth.
    """

    metrics: dict[str, float | int | list[float]]
    class_names: tuple[str, ...]
    num_clips_per_class: np.ndarray
    per_class: np.ndarray
    confusion: np.ndarray | None = None

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values; a class without clips has the figure None."""
        per_class = [None if np.isnan(figure) else float(figure) for figure in self.per_class]
        return {
            "metrics": self.metrics,
            "class_names": list(self.class_names),
            "num_clips_per_class": self.num_clips_per_class.tolist(),
            "per_class": per_class,
            "confusion": None if self.confusion is None else self.confusion.tolist(),
        }

    def __repr__(self) -> str:
        figures = []
        for name, value in self.metrics.items():
            if isinstance(value, float):
                interval = self.metrics.get(f"{name}_interval")
                ends = ""
                if isinstance(interval, list):
                    ends = f" [{interval[0]:.3f}, {interval[1]:.3f}]"
                figures.append(f"{name}={value:.3f}{ends}")
        size = f"{self.metrics['num_clips']} clips of {len(self.class_names)} classes"
        return f"EvaluationReport({size}: {', '.join(figures)})"


def evaluate_scores(
    logits: ArrayLike,
    labels: ArrayLike,
    class_names: Sequence[str],
    *,
    unlabeled_last: bool = False,
    seed: int = 0,
) -> EvaluationReport:
    """Computes the measures that fit the truth: accuracies, or average precisions if multi-hot.

    Args:
        logits: logits or log-probabilities, `(num_clips, num_classes)`, or `(num_clips, num_crops,
            num_classes)` whose crops are averaged first.
        labels: class indices `(num_clips,)`, or multi-hot truth `(num_clips, num_classes)`.
        class_names: one name a class.
        unlabeled_last: whether clips without any class are ranked last in multi-label measures, as
            Charades' official one has it (so does `tfvlad.studies.fuse` with Charades' CSV). In
            other data sets they are negatives like any others.
        seed: seed of the bootstrap.

    Returns:
        The report. Its metrics are `num_clips`, and for single-label truth `top1`, `top5` (where
        there are more than 5 classes), `mean_class_accuracy` and `mAP` (of the class
        probabilities), with `top1_interval` and `mean_class_accuracy_interval`; for multi-label
        truth `mAP` and `wAP`.

    Raises:
        ValueError: when shapes, labels and names do not fit together.
    """
    scores, labels = measures.average_crops(logits), np.asarray(labels)
    if len(class_names) != scores.shape[1]:
        raise ValueError(
            f"`class_names` must have one name for each of the {scores.shape[1]} columns of "
            f"`logits`. Received: {len(class_names)} names."
        )
    if labels.ndim == 2:
        ranking = {"unlabeled_last": unlabeled_last}
        return EvaluationReport(
            metrics={
                "num_clips": len(scores),
                "mAP": measures.mean_average_precision(scores, labels, **ranking),
                "wAP": measures.weighted_average_precision(scores, labels, **ranking),
            },
            class_names=tuple(class_names),
            num_clips_per_class=labels.sum(axis=0),
            per_class=measures.average_precision_per_class(scores, labels, **ranking),
        )
    hits = measures.top_k_correct(scores, labels)
    top1 = bootstrap_mean(hits, seed=seed)
    mean_class = bootstrap_mean(hits, groups=labels, seed=seed)
    metrics: dict[str, float | int | list[float]] = {
        "num_clips": len(scores),
        "top1": top1.mean,
        "top1_interval": [top1.low, top1.high],
        "mean_class_accuracy": mean_class.mean,
        "mean_class_accuracy_interval": [mean_class.low, mean_class.high],
    }
    if scores.shape[1] > 5:
        metrics["top5"] = measures.top_k_accuracy(scores, labels, k=5)
    # Logits of two clips are not comparable, their probabilities are.
    metrics["mAP"] = measures.mean_average_precision(
        measures.class_probabilities(scores), np.eye(scores.shape[1], dtype=int)[labels]
    )
    confusion = measures.confusion_matrix(scores, labels)
    return EvaluationReport(
        metrics=metrics,
        class_names=tuple(class_names),
        num_clips_per_class=confusion.sum(axis=1),
        per_class=measures.per_class_accuracy(scores, labels),
        confusion=confusion,
    )


def write_report(folder: str | os.PathLike[str], report: EvaluationReport) -> None:
    """Writes `metrics.json` and `per_class.csv`, and for single-label truth `confusion.csv|png`.

    Args:
        folder: made if it is missing; files of these names are replaced.
        report: what `evaluate_scores` returned.
    """
    folder = Path(folder)
    write_json(folder / "metrics.json", report.metrics)
    names, confusion = report.class_names, report.confusion
    write_per_class(folder / "per_class.csv", report)
    if confusion is not None:
        rows = [(name, *counts) for name, counts in zip(names, confusion.tolist(), strict=True)]
        _write_csv(folder / "confusion.csv", ("true class", *names), rows)
        with write_aside(folder / "confusion.png") as path:
            confusion_figure(confusion, names).savefig(path)


def write_per_class(path: str | os.PathLike[str], report: EvaluationReport) -> None:
    """Writes a CSV of class, num_clips and accuracy, or average_precision for multi-label truth.

    Args:
        path: the file; replaced if it is there. A class without clips has no figure.
        report: what `evaluate_scores` returned.
    """
    measure = "average_precision" if report.confusion is None else "accuracy"
    rows = [
        (name, int(num_clips), "" if np.isnan(value) else f"{value:.6f}")
        for name, num_clips, value in zip(
            report.class_names, report.num_clips_per_class, report.per_class, strict=True
        )
    ]
    _write_csv(Path(path), ("class", "num_clips", measure), rows)


def confusion_figure(confusion: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Draws a confusion matrix; colours are shares of the true class's clips.

    Up to 25 classes, the cells show their counts.

    Args:
        confusion: counts, `(num_classes, num_classes)`, true classes in rows.
        class_names: one name a class.

    Returns:
        A figure of its own, outside pyplot's global state.
    """
    num_classes = len(class_names)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    cell_inches, font_points = (0.5, 9) if num_classes <= 25 else (0.16, 7)
    side = 3 + cell_inches * num_classes
    figure = Figure(figsize=(side, side), dpi=120, layout="constrained")
    axes = figure.add_subplot(xlabel="predicted class", ylabel="true class")
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    positions = np.arange(num_classes)
    axes.set_xticks(positions, class_names, rotation=90, fontsize=font_points)
    axes.set_yticks(positions, class_names, fontsize=font_points)
    if num_classes <= 25:
        for row, column in np.argwhere(confusion):
            axes.text(
                column,
                row,
                str(confusion[row, column]),
                ha="center",
                va="center",
                fontsize=font_points,
                color="white" if shares[row, column] > 0.5 else "black",
            )
    figure.colorbar(image, ax=axes, shrink=0.6, label="share of the true class")
    return figure


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    with write_aside(path) as aside, aside.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
