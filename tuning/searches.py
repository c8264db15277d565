"""A search in a folder: begun, resumed, shared by workers, reported."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import keras_tuner
from rich.console import Console

from tfvlad.training.stage_run import hash_of
from tuning.grid import GridOracle
from tuning.progress import SearchProgress
from tuning.trials import Trial, read_trials
from tuning.tuner import ClipTuner

MEASURES = ("val_top1", "val_mAP", "val_mean_class_accuracy")
ALGORITHMS = ("random", "bayesian", "hyperband", "grid")
# A search in which so many trials fail one after the other has something wrong in all of them.
_MAX_CONSECUTIVE_FAILURES = 10


def search(
    hyper_model: keras_tuner.HyperModel,
    training: Any,
    validation: Any,
    folder: str | os.PathLike[str],
    *,
    algorithm: str = "bayesian",
    measure: str = "val_top1",
    max_trials: int | None = None,
    max_hours: float | None = None,
    measures: Mapping[str, Callable[[keras.Model], float]] | None = None,
    limits: Mapping[str, float] | None = None,
    seed: int = 0,
    console: Console | None = None,
) -> list[Trial]:
    """Search for the values that do best on the validation clips.

    The folder gets KerasTuner's project `trials/`, with a folder for each trial, and after the
    trials `trials.csv`, `best.json`, the best model `best.keras`, the figures `heat_map.png` (of
    clusters and units), `parallel_coordinates.png` and `pareto_<measure>.png`; TensorBoard's
    HParams are shown by `tensorboard --logdir folder/trials`. A search that was killed goes on with
    the same call: no finished trial is repeated, and one that was running goes on from its last
    epoch. A trial that fails is recorded, and the search goes on.

    Several processes share a search by KerasTuner's own service: the same call in each, with the
    environment variables KERASTUNER_ORACLE_IP, KERASTUNER_ORACLE_PORT and KERASTUNER_TUNER_ID
    ("chief" in one, which trains nothing, and a name of its own in each worker).

    Args:
        hyper_model: one of this package's.
        training: clips to learn from.
        validation: clips by which epochs and trials are compared; never the test clips.
        folder: of the search.
        algorithm: "random", "bayesian" (Gaussian process), "hyperband", or "grid" (every
            combination of a space of choices).
        measure: that is maximised: "val_top1", "val_mAP" or "val_mean_class_accuracy".
        max_trials: most trials in all, those of an earlier call included; by default 30 of a random
            or Bayesian search, and all of a grid or Hyperband.
        max_hours: begin no trial after this time from the call.
        measures: from a name to a function of the untrained model, `litert_ms` for instance, that
            is called before the training; `parameters` is always measured.
        limits: the most that a measure may be: models over it are not trained.
        seed: of the algorithm.
        console: where the trials are told; the standard error stream by default.

    Returns:
        All trials of the search.

    Raises:
        ValueError: an argument is out of range, or the folder holds another search.
        RuntimeError: ten trials failed one after the other.
    """
    measures, limits = dict(measures or {}), dict(limits or {})
    _check(algorithm, measure, max_trials, max_hours, measures, limits)
    if max_trials is None and algorithm in ("random", "bayesian"):
        max_trials = 30
    folder = Path(folder)
    space = _space_of(hyper_model)
    objective = f"{measure}_within_limits" if limits else measure
    _claim(
        folder,
        {
            "algorithm": algorithm,
            "measure": measure,
            "limits": limits,
            "seed": seed,
            "space": [p.get_config() for p in space],
            "hyper_model": hyper_model.settings,
            "training clips": hash_of(training.fingerprints(True)),
            "validation clips": hash_of(validation.fingerprints(False)),
        },
    )
    is_shared = "KERASTUNER_ORACLE_IP" in os.environ
    is_worker = is_shared and "chief" not in os.environ["KERASTUNER_TUNER_ID"]
    oracle = _oracle(algorithm, objective, max_trials, hyper_model.max_epochs, seed)
    grid_size = math.prod(len(list(p.values)) for p in space) if algorithm == "grid" else None
    counts = [count for count in (max_trials, grid_size) if count is not None]
    progress = SearchProgress(
        folder,
        measure,
        ("parameters", *measures),
        console or Console(stderr=True),
        num_trials=min(counts, default=None),
        is_worker=is_worker,
        keeps_states=algorithm == "hyperband",
    )
    progress.begin_search()
    with contextlib.redirect_stdout(sys.stderr):  # where KerasTuner tells what it reloads
        tuner = ClipTuner(
            oracle,
            hyper_model,
            measures=measures,
            limits=limits,
            measure=measure,
            progress=progress,
            directory=str(folder),
            project_name="trials",
        )
    if not is_worker and (folder / "trials" / "oracle.json").exists():
        oracle.reload()  # also where it was begun with another number of processes
    timer = threading.Timer((max_hours or 0) * 3600, _begin_no_more, [oracle])
    timer.daemon = True
    if max_hours is not None:
        timer.start()
    try:
        tuner.search(training, validation)
    finally:
        timer.cancel()
        progress.report()
    return read_trials(folder)


def _check(
    algorithm: str,
    measure: str,
    max_trials: int | None,
    max_hours: float | None,
    measures: Mapping[str, Any],
    limits: Mapping[str, float],
) -> None:
    for name, value, choices in (
        ("algorithm", algorithm, ALGORITHMS),
        ("measure", measure, MEASURES),
    ):
        if value not in choices:
            raise ValueError(f"`{name}` must be one of {', '.join(choices)}. Received: {value!r}.")
    for name, number in (("max_trials", max_trials), ("max_hours", max_hours)):
        if number is not None and not number > 0:
            raise ValueError(f"`{name}` must be positive. Received: {name}={number}.")
    for name, limit in limits.items():
        if name != "parameters" and name not in measures:
            raise ValueError(
                f"`limits` must name `measures`, or parameters. Received: a limit of {name!r}."
            )
        if not limit > 0:
            raise ValueError(f"A limit must be positive. Received: {name}={limit}.")


def _oracle(
    algorithm: str, objective: str, max_trials: int | None, max_epochs: int, seed: int
) -> keras_tuner.Oracle:
    shared: dict[str, Any] = {
        "objective": keras_tuner.Objective(objective, "max"),
        "seed": seed + 1,  # KerasTuner takes 0 for none
        "max_consecutive_failed_trials": _MAX_CONSECUTIVE_FAILURES,
    }
    if algorithm == "hyperband":
        oracle = keras_tuner.oracles.HyperbandOracle(max_epochs=max_epochs, **shared)
    else:
        kind = {
            "random": keras_tuner.oracles.RandomSearchOracle,
            "bayesian": keras_tuner.oracles.BayesianOptimizationOracle,
            "grid": GridOracle,
        }[algorithm]
        oracle = kind(max_trials=max_trials, **shared)
    oracle.max_trials = max_trials  # Hyperband's builder does not take it
    oracle.verbose = 0
    return oracle


def _begin_no_more(oracle: keras_tuner.Oracle) -> None:
    oracle.max_trials = max(1, len(oracle.trials))


def _space_of(hyper_model: keras_tuner.HyperModel) -> list[Any]:
    hp = keras_tuner.HyperParameters()
    hyper_model.values(hp)
    return hp.space


def _claim(folder: Path, settings: dict[str, Any]) -> None:
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
    own = ("trials", "trials.csv", "best.json", "best.keras")
    taken = [name for name in own if (folder / name).exists()]
    if taken:
        raise ValueError(
            f"'{folder}' holds no search, and a search would write over its {', '.join(taken)}. "
            "Choose a new folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".search.{os.getpid()}"
    temporary.write_text(json.dumps(settings, indent=2) + "\n")
    os.replace(temporary, path)
