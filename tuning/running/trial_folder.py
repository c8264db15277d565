"""What a trial keeps in its folder beside KerasTuner's record."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import keras
from keras_tuner.errors import FailedTrialError

from pipelines.storage.files import write_aside, write_json, write_text

# A trial that was killed so often in one epoch is not begun again: the memory does not hold it.
_MAX_STARTS = 3


def last_model(folder: Path) -> Path | None:
    """The file of a trial's trained model, where it is kept."""
    return max(folder.glob("stage*.keras"), default=None)


def remove_models(folder: Path) -> None:
    """Remove the trained models and the state that a training goes on from."""
    for path in (*folder.glob("stage*.keras"), folder / "state.npz"):
        path.unlink(missing_ok=True)


def take_over(paused: Path, folder: Path) -> None:
    """Let a new trial begin where another has paused."""
    if (folder / "state.npz").exists():
        return
    # The state last: without it the trial begins anew.
    for path in (*paused.glob("stage*.keras"), paused / "state.npz"):
        if path.exists():
            with write_aside(folder / path.name) as aside:
                shutil.copyfile(path, aside)


def read_metrics(folder: Path) -> dict[str, float] | None:
    """What `write_metrics` has kept of a trial that has been finished."""
    path = folder / "metrics.json"
    return json.loads(path.read_text()) if path.exists() else None


def write_metrics(folder: Path, metrics: dict[str, float]) -> None:
    """Keep what a finished trial measured, before KerasTuner is told.

    A process, or a chief, that is killed in between has the trial run again.
    """
    write_json(folder / "metrics.json", metrics)


class CountStarts(keras.callbacks.Callback):
    """Ends a trial whose training was begun too often without finishing another epoch.

    Args:
        folder: of the trial.
    """

    def __init__(self, folder: Path):
        super().__init__()
        self.path = folder / "starts.txt"
        self.history = folder / "history.csv"

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Count a start.

        Raises:
            FailedTrialError: when there were too many.
        """
        epochs = len(self.history.read_text().splitlines()) if self.history.exists() else 0
        known = self.path.read_text().split() if self.path.exists() else []
        starts = int(known[0]) if known[1:] == [str(epochs)] else 0
        if starts == _MAX_STARTS:
            raise FailedTrialError(
                f"The trial was killed {starts} times before it finished another epoch; probably "
                "its model does not fit into the memory."
            )
        write_text(self.path, f"{starts + 1} {epochs}")

    def forget(self) -> None:
        """The trial has ended, or was interrupted by the user."""
        self.path.unlink(missing_ok=True)
