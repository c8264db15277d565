"""The trials of a search, read from its folder while it runs or after it."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_STATUSES = {"COMPLETED": "completed", "RUNNING": "running"}
_TRACEBACK = "Traceback (most recent call last):"


@dataclass(frozen=True)
class Trial:
    """A set of values that a search has tried, and what came of it.

    Attributes:
        trial_id: the number that the search gave it, such as "07".
        status: "completed", "running" or "failed".
        values: the values tried, by name.
        metrics: what was measured last, by name.
        score: the objective, higher is better; None before it is known.
        message: the error that ended a failed trial, in one line.
        folder: of the trial.
    """

    trial_id: str
    status: str
    values: dict[str, Any]
    metrics: dict[str, float]
    score: float | None
    message: str | None
    folder: Path

    def to_dict(self) -> dict[str, Any]:
        """The trial without its folder, as JSON values: a metric that is no number is None."""
        return {
            "trial": self.trial_id,
            "status": self.status,
            "score": self.score,
            "values": self.values,
            "metrics": {n: x if math.isfinite(x) else None for n, x in self.metrics.items()},
            "message": self.message,
        }


def read_trials(folder: str | os.PathLike[str]) -> list[Trial]:
    """Reads the trials of a search in the order they began.

    Args:
        folder: of the search. It may be running: a trial that is just being written is left out.
    """
    trials = []
    for path in Path(folder, "trials").glob("trial_*/trial.json"):
        try:
            state = json.loads(path.read_text("utf-8"))
        except json.JSONDecodeError:  # KerasTuner writes in place
            continue
        trials.append(_from_state(state, path.parent))
    return sorted(trials, key=lambda trial: int(trial.trial_id))


def best_trials(trials: Iterable[Trial], n: int = 1) -> list[Trial]:
    """Picks the `n` completed trials with the highest scores, the earlier of equal ones first.

    Raises:
        ValueError: when `n` is not positive.
    """
    if n < 1:
        raise ValueError(f"`n` must be a positive integer. Received: n={n}.")
    scored = [
        (trial.score, trial)
        for trial in trials
        if trial.status == "completed" and trial.score is not None
    ]
    return [trial for _, trial in sorted(scored, key=lambda pair: -pair[0])[:n]]


def measured_trials(trials: Iterable[Trial], *metrics: str) -> list[Trial]:
    """Keeps the completed trials that have a finite value of each of these metrics."""
    return [
        trial
        for trial in trials
        if trial.status == "completed"
        and all(math.isfinite(trial.metrics.get(name, math.nan)) for name in metrics)
    ]


def varying_values(trials: Iterable[Trial]) -> list[str]:
    """Names the values in which trials differ, or that only some of them have."""
    trials = list(trials)
    names = dict.fromkeys(name for trial in trials for name in trial.values)
    return [name for name in names if len({trial.values.get(name) for trial in trials}) > 1]


def pareto_front(
    trials: Iterable[Trial], measure: str = "val_top1", cost: str = "parameters"
) -> list[Trial]:
    """Picks the trials that no other one equals or beats in both a measure and a cost.

    Args:
        trials: of a search; those that are not completed, or lack a metric, are passed over.
        measure: metric of which more is better.
        cost: metric of which less is better.

    Returns:
        From the cheapest to the best; of trials alike in both, the earliest.
    """
    front: list[Trial] = []
    ranked = sorted(
        measured_trials(trials, measure, cost),
        key=lambda trial: (trial.metrics[cost], -trial.metrics[measure]),
    )
    for trial in ranked:
        if not front or trial.metrics[measure] > front[-1].metrics[measure]:
            front.append(trial)
    return front


def _from_state(state: dict[str, Any], folder: Path) -> Trial:
    """A trial from KerasTuner's record of it."""
    values = state["hyperparameters"]["values"]
    histories = {
        name: history["observations"] for name, history in state["metrics"]["metrics"].items()
    }
    return Trial(
        trial_id=state["trial_id"],
        status=_STATUSES.get(state["status"], "failed"),
        # Hyperband keeps its own state among the values.
        values={name: value for name, value in values.items() if not name.startswith("tuner/")},
        metrics={name: _mean(seen[-1]["value"]) for name, seen in histories.items() if seen},
        score=state["score"],
        message=_message(state, folder),
        folder=folder,
    )


def _mean(values: Sequence[float]) -> float:
    """Over the runs of one trial."""
    return sum(values) / len(values)


def _message(state: dict[str, Any], folder: Path) -> str | None:
    """The error that ended a trial, whose first line alone is short of TensorFlow's."""
    told = folder / "error.txt"
    if told.exists() and state["status"] in ("FAILED", "INVALID"):
        return next(iter(told.read_text("utf-8").splitlines()), None)
    return _error_line(state["message"] or "")


def _error_line(message: str) -> str | None:
    """The line of a traceback that names the error."""
    lines = message.rpartition(_TRACEBACK)[2].splitlines()
    return next((line for line in lines if re.match(r"\S", line)), None)
