"""Where a run stands, in one file that is replaced whole after every epoch."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pipelines.storage.files import write_aside
from tfvlad import compat


@dataclass
class TrainingState:
    """The progress of a run.

    Attributes:
        settings: what the run depends on; a folder is not continued with other settings.
        stage: index of the stage.
        epoch: finished epochs of that stage.
        is_finished: whether that stage has ended, by its epochs or by a callback.
        best_score: (measure, negative loss) on the validation clips of the best epoch so far.
        best_epoch: its number, from 0; -1 before the first.
        history: a row for every finished epoch of every stage.
        weights: of the stage's model after the last finished epoch.
        best_weights: after the best epoch.
        optimizer: its variables.
    """

    settings: dict[str, Any]
    stage: int = 0
    epoch: int = 0
    is_finished: bool = False
    best_score: tuple[float, float] = (-np.inf, -np.inf)
    best_epoch: int = -1
    history: list[dict[str, float]] = field(default_factory=list)
    weights: list[np.ndarray] = field(default_factory=list)
    best_weights: list[np.ndarray] = field(default_factory=list)
    optimizer: list[np.ndarray] = field(default_factory=list)

    def capture(self, model: keras.Model, *, is_best: bool) -> None:
        """Copy the model's weights and its optimizer's variables."""
        self.weights = model.get_weights()
        variables = compat.optimizer_variables(model.optimizer)
        self.optimizer = [np.asarray(variable) for variable in variables]
        if is_best:
            self.best_weights = self.weights

    def restore(self, model: keras.Model) -> None:
        """Put the weights and the optimizer's variables back into a compiled model."""
        if self.optimizer:
            compat.build_optimizer(model)
            variables = compat.optimizer_variables(model.optimizer)
            for variable, value in zip(variables, self.optimizer, strict=True):
                variable.assign(value)
        model.set_weights(self.weights)

    def save(self, path: Path) -> None:
        names = ("settings", "stage", "epoch", "is_finished", "best_score", "best_epoch", "history")
        meta = {name: getattr(self, name) for name in names}
        arrays = {"meta": np.array(json.dumps(meta))}
        for kind in ("weights", "best_weights", "optimizer"):
            arrays |= {f"{kind}_{i:05d}": array for i, array in enumerate(getattr(self, kind))}
        with write_aside(path) as aside, open(aside, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())

    @classmethod
    def load(cls, path: Path) -> TrainingState:
        with np.load(path) as arrays:
            meta = json.loads(str(arrays["meta"]))
            meta["best_score"] = tuple(meta["best_score"])
            state = cls(**meta)
            for kind in ("weights", "best_weights", "optimizer"):
                names = sorted(name for name in arrays.files if name.rpartition("_")[0] == kind)
                setattr(state, kind, [arrays[name] for name in names])
        return state
