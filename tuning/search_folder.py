"""The folder of a search: whose it is, and what a kill has left in it."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras_tuner

from tfvlad.training import hash_of
from tuning.trials import read_trials


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


def check_is_free(folder: str | os.PathLike[str]) -> None:
    """Refuse to write a search into a folder of other things; features and data may be there.

    Raises:
        ValueError: there are others, and no search.
    """
    folder = Path(folder)
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    # Hidden: what another process of the same search is about to move into place.
    others = {name for name in found if name[0] != "."} - {"data", "features"}
    if others and "search.json" not in found:
        raise ValueError(
            f"'{folder}' is not empty and holds no search: it has no search.json, but "
            f"{', '.join(sorted(others)[:3])}. Choose a new folder."
        )


def claim(folder: Path, settings: dict[str, Any]) -> None:
    """Make the folder this search's, or see that it is.

    Raises:
        ValueError: it holds something else.
    """
    path = folder / "search.json"
    settings = json.loads(json.dumps(settings))
    if path.exists():
        before = json.loads(path.read_text())
        changed = [name for name in settings if settings[name] != before.get(name)]
        if changed:
            raise ValueError(
                f"'{folder}' holds another search and is left as it is (it has another "
                f"{', '.join(changed)}). Choose another folder, or the same settings to go on."
            )
        return
    check_is_free(folder)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".search.{uuid.uuid4().hex}"  # workers may be on several machines
    temporary.write_text(json.dumps(settings, indent=2) + "\n")
    os.replace(temporary, path)


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
