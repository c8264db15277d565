"""What an ablation has found: rows, a table, a picture, files."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pipelines.storage.files import write_aside, write_json
from tfvlad.runs.run_files import read_result
from tfvlad.studies.comparison import run_difference


@dataclass(frozen=True)
class AblationRow:
    """A variant's test top-1 accuracy; shares of 1.

    Attributes:
        variant: its name.
        mean: accuracy, over the splits, and the seeds of a split.
        spread: standard deviation over the runs.
        difference: from the first variant, paired clip by clip.
        low: lower end of the difference's 95 % interval.
        high: upper end of it.
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


@dataclass(frozen=True)
class Ablation:
    """What `ablation` has found.

    Attributes:
        folder: the runs of each variant, see `variant_folder`, and the files that `save` writes.
        data: what the variants were trained on: `data`, `lists`, `test_data`, `flow` and
            `attended`.
        rows: one a variant; the first one is what the others are compared with.
    """

    folder: Path
    data: Mapping[str, str | None]
    rows: tuple[AblationRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """The data and the rows as JSON values."""
        return {"data": dict(self.data), "variants": [asdict(row) for row in self.rows]}

    def figure(self) -> Figure:
        """Bars of the variants' accuracies, with the intervals of the paired differences."""
        rows = self.rows
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

    def save(self) -> None:
        """Writes ablation.csv, ablation.json and ablation.png to the folder."""
        names = [field.name for field in fields(AblationRow)]
        with (
            write_aside(self.folder / "ablation.csv") as path,
            open(path, "w", newline="") as file,
        ):
            csv.writer(file).writerows([names, *(asdict(row).values() for row in self.rows)])
        write_json(self.folder / "ablation.json", self.to_dict())
        with write_aside(self.folder / "ablation.png") as path:
            self.figure().savefig(path, dpi=130)

    def __repr__(self) -> str:
        lines = [f"Ablation in {self.folder}: test top-1"]
        for row in self.rows:
            line = f"  {row.variant}: {100 * row.mean:.1f} %, {row.num_runs} runs"
            if row is not self.rows[0]:
                difference = f"{100 * row.difference:+.1f} points"
                line += f", {difference} [{100 * row.low:+.1f}, {100 * row.high:+.1f}]"
            lines.append(line)
        return "\n".join(lines)


def variant_folder(root: Path, variant: str) -> Path:
    """Where the runs of a variant are."""
    return root / re.sub(r"[^\w.-]+", "-", variant)


def ablation_rows(
    root: Path, variants: Sequence[str], runs: Sequence[str]
) -> tuple[AblationRow, ...]:
    """The variants' rows, compared with the first one on the named runs of each."""
    first = variant_folder(root, variants[0])
    rows = []
    for variant in variants:
        folder = variant_folder(root, variant)
        found = run_difference(first, folder, names=runs)
        results = [read_result(folder / run) for run in runs]
        top1 = [result["stages"][-1]["top1"] for result in results]
        rows.append(
            AblationRow(
                variant=variant,
                mean=found.top1,
                spread=float(np.std(top1, ddof=1)) if len(top1) > 1 else 0.0,
                difference=found.difference.mean,
                low=found.difference.low,
                high=found.difference.high,
                num_runs=found.num_runs,
                seconds=sum(result["seconds"] for result in results),
            )
        )
    return tuple(rows)
