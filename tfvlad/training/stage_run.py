"""One stage of training, whatever its data: resumed, compiled, fitted, saved."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipelines.storage.files import write_aside
from pipelines.storage.owned_folder import OwnedFolder
from tfvlad import compat
from tfvlad.models import is_multi_label
from tfvlad.training.callbacks import EpochSettings, ProgressBar, SaveState
from tfvlad.training.stages import Stage
from tfvlad.training.training_state import TrainingState


def hash_of(texts: list[str]) -> str:
    """One hash of a list of texts."""
    return hashlib.sha256(" ".join(texts).encode()).hexdigest()


def resume(folder: Path, settings: dict[str, Any]) -> TrainingState:
    """The state that the folder's run was left in, or a new one.

    Raises:
        ValueError: when the folder holds a run with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "state.npz"
    # As they come back from the file: lists for tuples.
    settings = json.loads(json.dumps(settings))
    state = TrainingState.load(path) if path.exists() else TrainingState(settings)
    owned = OwnedFolder(
        folder, holds="a run", settings_file=path.name, read=lambda _: state.settings
    )
    owned.check_settings(settings)
    return state


def check_labels(model: keras.Model, labels: np.ndarray) -> None:
    """Refuse labels that the model's head cannot learn.

    Raises:
        ValueError: when the labels are multi-hot and the model's head is single-label, or the
            reverse.
    """
    multi_label = is_multi_label(model)
    if multi_label is None or multi_label == (labels.ndim == 2):
        return
    kinds = "one class a clip", "several classes a clip (multi-hot)"
    raise ValueError(
        f"'{model.name}' was built for {kinds[multi_label]}, and the labels name "
        f"{kinds[not multi_label]}. Received: labels of shape {labels.shape}. "
        f"Build the model with multi_label={not multi_label}."
    )


def compile_network(network: keras.Model, stage: Stage, labels: np.ndarray) -> None:
    """Compile with the stage's optimizer and the loss and measure that fit the labels.

    Raises:
        ValueError: when the labels are multi-hot and the model's head is single-label, or the
            reverse.
    """
    check_labels(network, labels)
    if labels.ndim == 1:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        measure = keras.metrics.SparseCategoricalAccuracy(name="top1")
    else:
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        measure = keras.metrics.AUC(
            curve="PR", multi_label=True, num_labels=labels.shape[-1], from_logits=True, name="auc"
        )
    optimizer = compat.make_optimizer(
        stage.optimizer,
        stage.learning_rate,
        momentum=stage.momentum,
        epsilon=stage.epsilon,
        clip_norm=stage.clip_norm,
        weight_decay=stage.weight_decay,
    )
    # XLA takes longer to compile the freed convolutions on a CPU than a short stage to run.
    network.compile(optimizer, loss, metrics=[measure], jit_compile=False)


def fit_stage(
    network: keras.Model,
    datasets: tuple[tf.data.Dataset, tf.data.Dataset],
    stage: Stage,
    state: TrainingState,
    folder: Path,
    seed: int,
    callbacks: Sequence[keras.callbacks.Callback],
    max_epochs: int | None = None,
) -> None:
    """Train from the state on; the state and the folder are written after every epoch.

    The stage is left unfinished when the run has had `max_epochs` before.
    """
    name = f"stage{state.stage + 1}"
    epochs = stage.epochs
    if max_epochs is not None:
        epochs = min(epochs, state.epoch + max(0, max_epochs - len(state.history)))
    progress_bar = ProgressBar(f"Stage {state.stage + 1}", epochs, state.epoch)
    with progress_bar.bar:
        network.fit(
            datasets[0],
            validation_data=datasets[1],
            initial_epoch=state.epoch,
            epochs=epochs,
            verbose=0,
            shuffle=False,
            callbacks=[
                EpochSettings(stage, seed + 1009 * state.stage),
                keras.callbacks.TensorBoard(str(folder / "tensorboard" / name), write_graph=False),
                *callbacks,
                SaveState(stage, state, folder),
                progress_bar,
            ],
        )
    state.is_finished |= state.epoch == stage.epochs or network.stop_training
    state.save(folder / "state.npz")


def save_stage(model: keras.Model, folder: Path, number: int) -> None:
    """Write `stage<number>.keras` whole or not at all."""
    with write_aside(folder / f"stage{number}.keras") as aside:
        model.save(aside)
