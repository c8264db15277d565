"""The figures of a test run: computed, written to a folder, shown in a terminal."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from rich.table import Table

from tfvlad.evaluation import metrics as measures
from tfvlad.evaluation.bootstrap import bootstrap_mean


@dataclass(frozen=True)
class EvaluationReport:
    """What `evaluate_scores` found.

    Attributes:
        metrics: Name to figure, ready for JSON. An `<name>_interval` is the `[low, high]` of its
            95 % bootstrap interval.
        class_names: The classes in the order of the scores.
        num_clips_per_class: Number of test clips of each class, `(num_classes,)`.
        per_class: Accuracy, or average precision for multi-label truth, of each class,
            `(num_classes,)`; NaN for a class without clips.
        confusion: Counts of true class (row) by predicted class (column), None for multi-label
            truth.
    """

    metrics: dict[str, float | int | list[float]]
    class_names: tuple[str, ...]
    num_clips_per_class: np.ndarray
    per_class: np.ndarray
    confusion: np.ndarray | None = None


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
        logits: Logits or log-probabilities, `(num_clips, num_classes)`, or `(num_clips, num_crops,
            num_classes)` whose crops are averaged first.
        labels: Class indices `(num_clips,)`, or multi-hot truth `(num_clips, num_classes)`.
        class_names: One name a class.
        unlabeled_last: Whether clips without any class are ranked last in multi-label measures, as
            Charades' official one has it (`tfvlad fuse --labels Charades_v1_test.csv` does so). In
            other data sets they are negatives like any others.
        seed: Seed of the bootstrap.

    Returns:
        The report. Its metrics are `num_clips`, and for single-label truth `top1`, `top5` (where
        there are more than 5 classes), `mean_class_accuracy` and `mAP` (of the class
        probabilities), with `top1_interval` and `mean_class_accuracy_interval`; for multi-label
        truth `mAP` and `wAP`.

    Raises:
        ValueError: If shapes, labels and names do not fit together.
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


def write_report(folder: str | os.PathLike, report: EvaluationReport) -> None:
    """Writes `metrics.json` and `per_class.csv`, and for single-label truth `confusion.csv|png`.

    Args:
        folder: Made if it is missing; files of these names are replaced.
        report: What `evaluate_scores` returned.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(report.metrics, indent=2) + "\n")
    names, confusion = report.class_names, report.confusion
    write_per_class(folder / "per_class.csv", report)
    if confusion is not None:
        rows = [(name, *counts) for name, counts in zip(names, confusion.tolist(), strict=True)]
        _write_csv(folder / "confusion.csv", ("true class", *names), rows)
        confusion_figure(confusion, names).savefig(folder / "confusion.png")


def write_per_class(path: str | os.PathLike, report: EvaluationReport) -> None:
    """Writes a CSV of class, num_clips and accuracy, or average_precision for multi-label truth.

    Args:
        path: The file; replaced if it is there. A class without clips has no figure.
        report: What `evaluate_scores` returned.
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
        confusion: Counts, `(num_classes, num_classes)`, true classes in rows.
        class_names: One name a class.

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


def metrics_table(reports: Mapping[str, EvaluationReport], *, title: str | None = None) -> Table:
    """Makes a table for the terminal: one row a model, one column a figure, in percent.

    Args:
        reports: Model name to report. A figure that a report lacks is left empty.
        title: Printed above the table.
    """
    table = Table(title=title)
    table.add_column("model")
    columns = list(
        dict.fromkeys(
            name
            for report in reports.values()
            for name, value in report.metrics.items()
            if isinstance(value, float)
        )
    )
    for name in columns:
        table.add_column(name.replace("_", " "), justify="right")
    table.add_column("clips", justify="right")
    for model, report in reports.items():
        cells = [_percent(report, name) for name in columns]
        table.add_row(model, *cells, str(report.metrics["num_clips"]))
    return table


def _percent(report: EvaluationReport, name: str) -> str:
    value, interval = report.metrics.get(name), report.metrics.get(f"{name}_interval")
    if not isinstance(value, float):
        return ""
    text = f"{100 * value:.1f}"
    if isinstance(interval, list):
        text += f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"
    return text


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
