"""The table and the picture of an ablation."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from tfvlad.cli.compare import compare_runs


class StudyRow(NamedTuple):
    """A variant's test top-1 accuracy, shares of 1.

    Attributes:
        variant: as it was named.
        mean: over the splits, and the seeds of a split.
        spread: standard deviation over the runs.
        difference: paired, from the first variant.
        low: end of its 95 % interval.
        high: end of its 95 % interval.
        num_runs: splits times seeds.
        seconds: of all runs.
    """

    variant: str
    mean: float
    spread: float
    difference: float
    low: float
    high: float
    num_runs: int
    seconds: float


def run_folder(root: Path, variant: str) -> Path:
    """Where the runs of a variant are."""
    return root / re.sub(r"[^\w.-]+", "-", variant)


def study_rows(root: Path, variants: Sequence[str], names: Sequence[str]) -> list[StudyRow]:
    """The variants' rows, compared with the first one on the named runs of each."""
    first = run_folder(root, variants[0])
    rows = []
    for variant in variants:
        folder = run_folder(root, variant)
        found = compare_runs(first, folder, names=names)
        results = [json.loads((folder / name / "result.json").read_text()) for name in names]
        top1 = [result["stages"][-1]["top1"] for result in results]
        rows.append(
            StudyRow(
                variant,
                found.second,
                float(np.std(top1, ddof=1)) if len(top1) > 1 else 0.0,
                *found.difference,
                found.num_runs,
                sum(result["seconds"] for result in results),
            )
        )
    return rows


def study_table(rows: Sequence[StudyRow]) -> Table:
    """The rows for a terminal, in %."""
    table = Table(title=f"Test top-1, %; difference from {rows[0].variant} with its 95 % interval")
    for column in ("variant", "mean", "spread", "difference", "runs", "seconds"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    for row in rows:
        interval = f"{100 * row.difference:+.1f} [{100 * row.low:+.1f}, {100 * row.high:+.1f}]"
        table.add_row(
            row.variant,
            f"{100 * row.mean:.1f}",
            f"{100 * row.spread:.1f}",
            "" if row is rows[0] else interval,
            str(row.num_runs),
            f"{row.seconds:.0f}",
        )
    return table


def study_figure(rows: Sequence[StudyRow]) -> Figure:
    """Bars of the variants' accuracies; the intervals are those of the paired differences."""
    figure = Figure(figsize=(6.4, 0.8 + 0.36 * len(rows)), layout="constrained")
    axis = figure.subplots()
    means = [100 * row.mean for row in rows]
    # The ends of a difference's interval, on the first variant's scale.
    below = [100 * (row.difference - row.low) for row in rows]
    above = [100 * (row.high - row.difference) for row in rows]
    colors = ["tab:gray", *["tab:blue"] * (len(rows) - 1)]
    positions = np.arange(len(rows))
    axis.barh(positions, means, xerr=[below, above], color=colors, capsize=3)
    axis.set_yticks(positions, [row.variant for row in rows])
    axis.invert_yaxis()
    axis.axvline(means[0], color="black", linewidth=0.8, linestyle=":")
    axis.set_xlabel("test top-1, %; bars: 95 % interval of the difference from the first")
    return figure


def write_study(rows: Sequence[StudyRow], folder: Path) -> None:
    """Write ablation.csv, ablation.json and ablation.png."""
    with open(folder / "ablation.csv", "w", newline="") as file:
        csv.writer(file).writerows([StudyRow._fields, *rows])
    described = {"variants": [row._asdict() for row in rows]}
    (folder / "ablation.json").write_text(json.dumps(described, indent=2) + "\n")
    study_figure(rows).savefig(folder / "ablation.png", dpi=130)
