"""What happens around the epochs of a stage: settings, the saved state, the progress bar."""

from __future__ import annotations

import csv
import math
import time
from pathlib import Path

import keras

from pipelines.progress import progress_bar
from pipelines.storage.files import write_aside
from tfvlad import compat
from tfvlad.training.stages import Stage
from tfvlad.training.training_state import TrainingState


class EpochSettings(keras.callbacks.Callback):
    """Sets what an epoch's number alone decides: the learning rate and dropout's stream."""

    def __init__(self, stage: Stage, seed: int):
        super().__init__()
        self.stage = stage
        self.seed = seed

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.model.optimizer.learning_rate = self.stage.learning_rate_at(epoch)
        compat.reseed(self.model, self.seed + epoch)


class SaveState(keras.callbacks.Callback):
    """Writes the state after every epoch, and ends the stage when its patience is over.

    The datasets read the epoch's number from the state.
    """

    def __init__(self, stage: Stage, state: TrainingState, folder: Path):
        super().__init__()
        self.stage = stage
        self.state = state
        self.folder = folder
        self.saved, self.save_seconds = -math.inf, 0.0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        logs = {name: float(value) for name, value in (logs or {}).items()}
        state = self.state
        if not math.isfinite(logs["loss"] + logs["val_loss"]):
            raise FloatingPointError(
                f"The loss became {logs['loss']} (validation: {logs['val_loss']}) in epoch "
                f"{epoch + 1} of stage {state.stage + 1}. "
                "Lower the learning rate, or clip the gradients with `clip_norm`."
            )
        measure = logs.get("val_top1", logs.get("val_auc", 0.0))
        score = (measure if self.stage.best_by == "measure" else 0.0, -logs["val_loss"])
        is_best = score > state.best_score
        if is_best:
            state.best_score, state.best_epoch = score, epoch
        state.epoch = epoch + 1
        row = {
            "stage": state.stage + 1,
            "epoch": epoch + 1,
            "learning_rate": float(self.model.optimizer.learning_rate),
            **{name: value for name, value in logs.items() if name != "learning_rate"},
            "seconds": round(time.monotonic() - self.started, 3),
        }
        state.history.append(row)
        patience = self.stage.patience
        if patience is not None and epoch - state.best_epoch >= patience:
            state.is_finished = self.model.stop_training = True
        state.capture(self.model, is_best=is_best)
        self._save()
        with (
            write_aside(self.folder / "history.csv") as aside,
            open(aside, "w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, fieldnames=row)
            writer.writeheader()
            writer.writerows(state.history)

    def _save(self) -> None:
        """Write the state; of large models whose epochs are short, in a fifth of the time."""
        started = time.monotonic()
        if self.save_seconds < 0.5 or started - self.saved > 5 * self.save_seconds:
            self.state.save(self.folder / "state.npz")
            self.saved = time.monotonic()
            self.save_seconds = self.saved - started


class ProgressBar(keras.callbacks.Callback):
    """One bar over the epochs of a stage, with the time that remains."""

    def __init__(self, title: str, epochs: int, finished: int):
        super().__init__()
        self.bar = progress_bar(title, epochs, done=finished)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        shown = ("loss", "top1", "auc", "val_loss", "val_top1", "val_auc")
        logs = logs or {}
        measures = ", ".join(f"{name} {logs[name]:.3f}" for name in shown if name in logs)
        self.bar.set_postfix_str(measures, refresh=False)
        self.bar.update()
