"""The folder of a search: whose it is, and what a kill has left in it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import keras_tuner

from pipelines.storage.owned_folder import OwnedFolder
from tfvlad.training import hash_of
from tuning.results.trials import read_trials
from tuning.running.processes import is_worker

_SETTINGS_FILE = "search.json"

_logger = logging.getLogger(__name__)


def settings_of(
    hyper_model: Any,
    training: Any,
    validation: Any,
    algorithm: str,
    measure: str,
    limits: Mapping[str, float],
    seed: int,
) -> dict[str, Any]:
    """What every trial of a search has to share."""
    return {
        "algorithm": algorithm,
        "measure": measure,
        "limits": limits,
        "seed": seed,
        "space": _space_of(hyper_model),
        "hyper_model": hyper_model.settings,
        "training clips": hash_of(training.fingerprints(True)),
        "validation clips": hash_of(validation.fingerprints(False)),
        "labels": hash_of([str(source.labels.tolist()) for source in (training, validation)]),
    }


def _space_of(hyper_model: Any) -> list[dict[str, Any]]:
    """The parameters of a space, those under conditions that do not hold at first included."""
    found: list[dict[str, Any]] = []
    scopes: list[list] = [[]]
    for conditions in scopes:  # it grows
        hp = keras_tuner.HyperParameters()
        hp.values.update({condition.name: condition.values[0] for condition in conditions})
        hyper_model.values(hp)
        configs = [parameter.get_config() for parameter in hp.space]
        found += [config for config in configs if config not in found]
        scopes += [scope for scope in hp.inactive_scopes if scope not in scopes]
    return sorted(found, key=lambda config: str((config["name"], config)))


@contextmanager
def in_use(folder: str | os.PathLike[str]) -> Iterator[OwnedFolder]:
    """Keeps other processes out of a search's folder, but for the workers of a chief.

    Features and what is known of the data may be there before the search.

    Raises:
        ValueError: when the folder holds other things.
        InUseError: when another process searches there.
    """
    owned = OwnedFolder(
        folder, holds="a search", settings_file=_SETTINGS_FILE, besides=("data", "features")
    )
    with nullcontext() if is_worker() else owned.locked():
        yield owned


def wait_for_chief(folder: Path) -> None:
    """Wait until the chief has made the folder its own: before, a worker writes nothing there."""
    settings = folder / _SETTINGS_FILE
    if not settings.exists():
        _logger.info("Waiting for the chief to begin the search in '%s'.", folder)
    while not settings.exists():
        time.sleep(0.2)


def remove_stranded_trials(folder: Path) -> None:
    """Remove the trials that a kill stopped before KerasTuner noted that they had begun.

    It writes a trial's file first and its own after it; such a trial would seem to run for ever.
    """
    state = folder / "trials" / "oracle.json"
    begun = json.loads(state.read_text("utf-8"))["start_order"] if state.exists() else []
    known = {folder / "trials" / f"trial_{trial_id}" for trial_id in begun}
    ended = {trial.folder for trial in read_trials(folder) if trial.status != "running"}
    for stranded in set((folder / "trials").glob("trial_*")) - known - ended:
        shutil.rmtree(stranded)
