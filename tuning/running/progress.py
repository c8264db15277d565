"""What a search tells while it runs, and the files it keeps up to date."""

from __future__ import annotations

import itertools
import logging
import shutil
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from keras_tuner.engine.hyperparameters import Fixed

from pipelines.storage.files import write_aside
from tuning.results.report import write_report
from tuning.results.trials import Trial, best_trials, read_trials
from tuning.running.trial_folder import last_model, remove_models

# A search in which so many trials fail one after the other has something wrong in all of them.
_MAX_CONSECUTIVE_FAILURES = 10
# Those of all trials would fill the disk.
_NUM_KEPT_MODELS = 3

_logger = logging.getLogger(__name__)


class SearchProgress:
    """Tells of each trial, and keeps the report and the best model up to date.

    Args:
        folder: of the search.
        measure: that the figures show.
        costs: that it is compared with.
        is_worker: another process reports.
        keeps_states: Hyperband goes on from paused trials.

    Attributes:
        num_trials: in all; None where it is not known.
    """

    def __init__(
        self,
        folder: Path,
        measure: str,
        costs: Sequence[str],
        *,
        is_worker: bool,
        keeps_states: bool,
    ):
        self.folder = folder
        self.measure = measure
        self.costs = costs
        self.num_trials: int | None = None
        self.is_worker = is_worker
        self.keeps_states = keeps_states
        self.reported, self.report_seconds = -np.inf, 0.0

    def begin_search(self) -> None:
        """Say what an earlier call has left."""
        done = [trial for trial in read_trials(self.folder) if trial.status != "running"]
        if done and not self.is_worker:
            _logger.info("The search goes on. Trials done: %d. %s", len(done), self._best(done))

    def begin_trial(self, trial: Any) -> None:
        """Say which values a trial of KerasTuner tries."""
        hp = trial.hyperparameters
        chosen = [p.name for p in hp.space if not isinstance(p, Fixed) and p.name in hp.values]
        values = "  ".join(f"{name}={_text(hp.values[name])}" for name in chosen)
        of_all = f" (of {self.num_trials})" if self.num_trials else ""
        _logger.info("Trial %s%s: %s", trial.trial_id, of_all, values)

    def end_trial(self, trial_id: str) -> None:
        """Say what came of it and how long the search will take; write the report."""
        trials = read_trials(self.folder)
        trial = next((found for found in trials if found.trial_id == trial_id), None)
        if trial is None:
            return  # its file is just being written, or not seen yet in a shared folder
        if trial.status == "failed":
            outcome = f"failed: {(trial.message or 'no message').rstrip('.')}"
        elif self.measure not in trial.metrics:
            outcome = "is over a limit and was not trained"
        else:
            outcome = (
                f"{self.measure} {trial.metrics[self.measure]:.3f} after "
                f"{trial.metrics['epochs']:.0f} epochs, {_duration(trial.metrics['seconds'])}"
            )
        _logger.info("  %s. %s%s", outcome, self._best(trials), self._estimate(trials))
        self.report_now_and_then()

    def report_now_and_then(self) -> bool:
        """Report, unless that would take much of the time; returns whether it did."""
        # Drawing takes a second or two.
        is_due = time.monotonic() - self.reported > max(10.0, 20 * self.report_seconds)
        if is_due:
            self.report()
        return is_due

    def is_hopeless(self) -> bool:
        """Whether so many trials failed one after the other that all would."""
        return not self.is_worker and len(self._failures()) >= _MAX_CONSECUTIVE_FAILURES

    def check_failures(self) -> None:
        """Say why a search was given up.

        Raises:
            ValueError: when it is hopeless.
        """
        if self.is_hopeless():
            failures = self._failures()
            raise ValueError(
                f"The last {len(failures)} trials failed and the search has stopped, the last one "
                f"with '{failures[0].message}' Mend the cause, and the same call goes on."
            )

    def _failures(self) -> list[Trial]:
        ended = [trial for trial in read_trials(self.folder) if trial.status != "running"]
        return list(itertools.takewhile(lambda trial: trial.status == "failed", reversed(ended)))

    def report(self, *, is_over: bool = False) -> None:
        """Write the report and the best model, and remove the models of the others.

        Hyperband's paused trials keep theirs until the search is over.
        """
        if self.is_worker:
            return
        started = time.monotonic()
        trials = read_trials(self.folder)
        best = best_trials(trials, _NUM_KEPT_MODELS)
        model = last_model(best[0].folder) if best else None
        if model:
            with write_aside(self.folder / "best.keras") as aside:
                shutil.copyfile(model, aside)
        for trial in trials:
            is_needed = trial.status == "running" or (self.keeps_states and not is_over)
            if trial not in best and not is_needed:
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
        if left < 1:
            return ""
        return f" About {_duration(left * float(np.mean(seconds)))} for {left} more."


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
