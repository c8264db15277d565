"""What a search tells while it runs, and the files it keeps up to date."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from keras_tuner.engine.hyperparameters import Fixed
from rich.console import Console

from tuning.report import write_report
from tuning.trial_folder import last_model, remove_models
from tuning.trials import Trial, best_trials, read_trials

# Those of all trials would fill the disk.
_NUM_KEPT_MODELS = 3


class SearchProgress:
    """Tells of each trial, and keeps the report and the best model up to date.

    Args:
        folder: of the search.
        measure: that the figures show.
        costs: that it is compared with.
        console: where the trials are told.
        num_trials: in all; None where it is not known.
        is_worker: another process reports.
        keeps_states: Hyperband goes on from paused trials.
    """

    def __init__(
        self,
        folder: Path,
        measure: str,
        costs: Sequence[str],
        console: Console,
        *,
        num_trials: int | None,
        is_worker: bool,
        keeps_states: bool,
    ):
        self.folder = folder
        self.measure = measure
        self.costs = costs
        self.console = console
        self.num_trials = num_trials
        self.is_worker = is_worker
        self.keeps_states = keeps_states
        self.reported, self.report_seconds = -np.inf, 0.0

    def begin_search(self) -> None:
        """Say what an earlier call has left."""
        done = [trial for trial in read_trials(self.folder) if trial.status != "running"]
        if done and not self.is_worker:
            self._tell(f"The search goes on: {len(done)} trials are done. {self._best(done)}")

    def begin_trial(self, trial: Any) -> None:
        """Say which values a trial of KerasTuner tries."""
        hp = trial.hyperparameters
        chosen = [p.name for p in hp.space if not isinstance(p, Fixed) and p.name in hp.values]
        values = "  ".join(f"{name}={_text(hp.values[name])}" for name in chosen)
        of_all = f" of {self.num_trials}" if self.num_trials else ""
        self._tell(f"Trial {trial.trial_id}{of_all}: {values}")

    def end_trial(self, trial_id: str) -> None:
        """Say what came of it and how long the search will take; write the report."""
        trials = read_trials(self.folder)
        trial = next(found for found in trials if found.trial_id == trial_id)
        if trial.status == "failed":
            outcome = f"failed: {(trial.message or 'no message').rstrip('.')}"
        elif self.measure not in trial.metrics:
            outcome = "is over a limit and was not trained"
        else:
            outcome = (
                f"{self.measure} {trial.metrics[self.measure]:.3f} after "
                f"{trial.metrics['epochs']:.0f} epochs, {_duration(trial.metrics['seconds'])}"
            )
        self._tell(f"  {outcome}. {self._best(trials)}{self._estimate(trials)}")
        # Drawing takes a second or two: of quick trials not after each one.
        if time.monotonic() - self.reported > 10 * self.report_seconds:
            self.report()

    def report(self) -> None:
        """Write the report and the best model, and remove the models of the others."""
        if self.is_worker:
            return
        started = time.monotonic()
        trials = read_trials(self.folder)
        best = best_trials(trials, _NUM_KEPT_MODELS)
        model = last_model(best[0].folder) if best else None
        if model:
            aside = self.folder / ".best.partial"
            shutil.copyfile(model, aside)
            os.replace(aside, self.folder / "best.keras")
        for trial in trials:
            if trial.status != "running" and trial not in best and not self.keeps_states:
                remove_models(trial.folder)
        write_report(self.folder, measure=self.measure, costs=self.costs)
        self.reported = time.monotonic()
        self.report_seconds = self.reported - started

    def _best(self, trials: Sequence[Trial]) -> str:
        best = [t for t in best_trials(trials) if self.measure in t.metrics]
        if not best:
            return "No trial has a model yet."
        return f"Best so far: {best[0].metrics[self.measure]:.3f} (trial {best[0].trial_id})."

    def _estimate(self, trials: Sequence[Trial]) -> str:
        seconds = [trial.metrics["seconds"] for trial in trials if "seconds" in trial.metrics]
        if not self.num_trials or not seconds or self.is_worker:
            return ""
        left = self.num_trials - sum(trial.status != "running" for trial in trials)
        return (
            f" About {_duration(left * float(np.mean(seconds)))} for {left} more." if left else ""
        )

    def _tell(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
