"""The files that sum up a search."""

from __future__ import annotations

import csv
import json
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from tuning import figures
from tuning.trials import Trial, best_trials, measured_trials, read_trials, varying_values


def write_report(
    folder: str | os.PathLike,
    *,
    measure: str = "val_top1",
    costs: Sequence[str] = ("parameters",),
) -> list[Trial]:
    """Writes what a search has found so far: trials.csv, best.json and figures.

    heat_map.png shows K against U where both vary, parallel_coordinates.png all values that vary,
    pareto_<cost>.png what the measure costs. A file that the trials are too few for is not there,
    nor is an earlier one of its name.

    Args:
        folder: Of the search, which may be running. A reader never sees half a file.
        measure: Metric that the figures show; more is better.
        costs: Metrics of which less is better.

    Returns:
        All trials.

    Raises:
        ValueError: the folder holds no search.
    """
    folder = Path(folder)
    if not (folder / "trials").is_dir():
        raise ValueError(f"'{folder}' holds no search: there is no folder 'trials' in it.")
    trials = read_trials(folder)
    drawn = _draw(trials, measure, costs)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".report-") as aside:
        _write_csv(Path(aside, "trials.csv"), trials)
        for best in best_trials(trials):
            _write_best(Path(aside, "best.json"), best, folder)
        for name, figure in drawn.items():
            if figure:
                figure.savefig(Path(aside, name), dpi=130)
        for name in ("trials.csv", "best.json", *drawn):
            if Path(aside, name).exists():
                os.replace(Path(aside, name), folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
    return trials


def _draw(trials: Sequence[Trial], measure: str, costs: Sequence[str]) -> dict[str, Figure | None]:
    """The figures by file name, None where the trials are too few."""
    drawn: dict[str, Figure | None] = dict.fromkeys(
        ["heat_map.png", "parallel_coordinates.png", *(f"pareto_{cost}.png" for cost in costs)]
    )
    varying = varying_values(measured_trials(trials, measure))
    if {"num_clusters", "units"} <= set(varying):
        drawn["heat_map.png"] = figures.heat_map(trials, measure=measure)
    if varying:
        drawn["parallel_coordinates.png"] = figures.parallel_coordinates(trials, measure=measure)
    for cost in costs:
        if len(measured_trials(trials, measure, cost)) > 1:
            drawn[f"pareto_{cost}.png"] = figures.pareto(trials, measure=measure, cost=cost)
    return drawn


def _write_csv(path: Path, trials: Sequence[Trial]) -> None:
    values, metrics = (
        list(dict.fromkeys(name for trial in trials for name in getattr(trial, part)))
        for part in ("values", "metrics")
    )
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["trial", "status", "score", *values, *metrics, "message"])
        for trial in trials:
            row = [trial.trial_id, trial.status, trial.score]
            row += [trial.values.get(name) for name in values]
            row += [trial.metrics.get(name) for name in metrics]
            writer.writerow([*row, trial.message])


def _write_best(path: Path, best: Trial, folder: Path) -> None:
    found = {
        "trial": best.trial_id,
        "score": best.score,
        "values": best.values,
        # JSON has no NaN and no infinity.
        "metrics": {name: x if math.isfinite(x) else None for name, x in best.metrics.items()},
    }
    if (folder / "best.keras").exists():
        found["model"] = "best.keras"
    path.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
