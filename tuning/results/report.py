"""The files that sum up a search."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from pipelines.storage.files import write_aside
from tuning.results import figures
from tuning.results.trials import Trial, best_trials, measured_trials, read_trials, varying_values


def write_report(
    folder: str | os.PathLike[str],
    *,
    measure: str = "val_top1",
    costs: Sequence[str] = ("parameters",),
) -> list[Trial]:
    """Writes what a search has found so far: trials.csv, best.json and figures.

    heat_map.png shows K against U where both vary, pareto_<cost>.png what the measure costs. A file
    that the trials are too few for is not there, nor is an earlier one of its name.

    Args:
        folder: of the search, which may be running. A reader never sees half a file.
        measure: metric that the figures show; more is better.
        costs: metrics of which less is better.

    Returns:
        All trials.

    Raises:
        ValueError: when the folder holds no search.
    """
    folder = Path(folder)
    if not (folder / "trials").is_dir():
        raise ValueError(f"'{folder}' holds no search: there is no folder 'trials' in it.")
    trials = read_trials(folder)
    best, drawn = best_trials(trials), _draw(trials, measure, costs)
    with contextlib.ExitStack() as stack:  # they replace the earlier ones when all are written
        _write_csv(stack.enter_context(write_aside(folder / "trials.csv")), trials)
        if best:
            _write_best(stack.enter_context(write_aside(folder / "best.json")), best[0], folder)
        for name, figure in drawn.items():
            if figure:
                figure.savefig(stack.enter_context(write_aside(folder / name)), dpi=130)
    for name, content in {"best.json": best, **drawn}.items():
        if not content:
            (folder / name).unlink(missing_ok=True)
    return trials


def _draw(trials: Sequence[Trial], measure: str, costs: Sequence[str]) -> dict[str, Figure | None]:
    """The figures by file name, None where the trials are too few."""
    drawn: dict[str, Figure | None] = dict.fromkeys(
        ["heat_map.png", *(f"pareto_{cost}.png" for cost in costs)]
    )
    if {"num_clusters", "units"} <= set(varying_values(measured_trials(trials, measure))):
        drawn["heat_map.png"] = figures.heat_map(trials, measure=measure)
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
    found = best.to_dict()
    if (folder / "best.keras").exists():
        found["model"] = "best.keras"
    path.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
