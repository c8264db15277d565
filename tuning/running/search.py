"""A search in a folder: begun, resumed, shared by workers, reported."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import keras_tuner

from tuning.hyper_models.measures import MEASURES
from tuning.results.trials import Trial, read_trials
from tuning.running.grid import GridOracle
from tuning.running.processes import is_chief, is_worker, search_process
from tuning.running.progress import SearchProgress
from tuning.running.search_folder import (
    in_use,
    remove_stranded_trials,
    settings_of,
    wait_for_chief,
)
from tuning.running.tuner import ClipTuner, begin_no_more

ALGORITHMS = ("random", "bayesian", "hyperband", "grid")


def search(
    hyper_model: keras_tuner.HyperModel,
    training: Any,
    validation: Any,
    folder: str | os.PathLike[str],
    *,
    algorithm: str = "bayesian",
    measure: str | None = None,
    max_trials: int | None = None,
    max_hours: float | None = None,
    measures: Mapping[str, Callable[[keras.Model], float]] | None = None,
    limits: Mapping[str, float] | None = None,
    seed: int = 0,
    chief: str | None = None,
    worker: tuple[str, str] | None = None,
) -> list[Trial]:
    """Search for the values that do best on the validation clips.

    The folder gets KerasTuner's project `trials/`, with a folder for each trial, and after the
    trials `trials.csv`, `best.json`, the best model `best.keras`, and the figures `heat_map.png`
    (of clusters and units) and `pareto_<measure>.png`; `tensorboard --logdir folder/trials` shows
    all values in parallel coordinates. A search that was killed goes on with the same call: no
    finished trial is repeated, and one that was running goes on from its last epoch. A trial that
    fails is recorded, and the search goes on.

    Several processes, also of several machines that share the folder, divide a search by
    KerasTuner's own service: the same call in each, in one with `chief`, in the others with
    `worker`.

    Args:
        hyper_model: one of this package's.
        training: clips to learn from.
        validation: clips by which epochs and trials are compared; never the test clips.
        folder: of the search.
        algorithm: "random", "bayesian" (Gaussian process), "hyperband", or "grid" (every
            combination of a space of choices).
        measure: that is maximised: "val_top1", "val_mean_class_accuracy" or "val_mAP"; by default
            the first, of clips with several labels the last.
        max_trials: most trials in all, those of an earlier call included; by default 30 of a random
            or Bayesian search, and all of a grid or Hyperband.
        max_hours: begin no trial after this time from the call; a chief's counts for its workers.
        measures: from a name to a function of the untrained model, `litert_ms` for instance, that
            is called before the training; `parameters` is always measured.
        limits: the most that a measure may be: models over it are not trained.
        seed: of the algorithm.
        chief: address, such as "127.0.0.1:8000", at which this process hands out the trials to
            workers; it trains nothing.
        worker: address of the chief whose trials this process runs, and a name of its own, by which
            it goes on after it was killed.

    Returns:
        All trials of the search.

    Raises:
        ValueError: when an argument is out of range, the folder holds something else, or ten trials
            failed one after the other.
        OSError: when another process searches in the folder.
    """
    measures, limits = dict(measures or {}), dict(limits or {})
    check_search(algorithm, measure, max_trials, max_hours)
    _check_limits(measures, limits)
    several_labels = training.labels.ndim == 2
    measure = measure or MEASURES[2 if several_labels else 0]
    if several_labels and measure != "val_mAP":
        raise ValueError(
            f"`measure` must be val_mAP where clips have several labels. Received: {measure!r}."
        )
    if max_trials is None and algorithm in ("random", "bayesian"):
        max_trials = 30
    folder = Path(folder)
    settings = settings_of(hyper_model, training, validation, algorithm, measure, limits, seed)
    objective = f"{measure}_within_limits" if limits else measure
    with search_process(chief, worker), in_use(folder) as owned:
        if is_worker():
            wait_for_chief(folder)
        else:
            owned.claim(settings)
        progress = SearchProgress(
            folder,
            measure,
            ("parameters", *measures),
            is_worker=is_worker(),
            keeps_states=algorithm == "hyperband",
        )
        progress.begin_search()
        oracle = _oracle(algorithm, objective, max_trials, hyper_model.max_epochs, seed)
        with _named_damage(folder):
            tuner = _tuner(folder, oracle, hyper_model, measures, limits, measure, progress)
        if is_worker():
            tuner.oracle.get_space()  # waits for the chief, whose folder it is from then on
            owned.check_settings(settings)
        progress.num_trials = max_trials
        if algorithm == "grid" and not is_worker():
            num_combinations = sum(1 for _ in oracle.combinations())
            progress.num_trials = min(max_trials or num_combinations, num_combinations)
        is_over = False
        try:
            with _watched(oracle, progress, max_hours):
                tuner.search(training, validation)
            is_over = max_hours is None and oracle.max_trials is None
        finally:
            progress.report(is_over=is_over)
        if not is_worker():
            oracle.save()  # what the workers told at the end
        progress.check_failures()
        return read_trials(folder)


def _tuner(
    folder: Path,
    oracle: keras_tuner.Oracle,
    hyper_model: keras_tuner.HyperModel,
    measures: Mapping[str, Callable[[keras.Model], float]],
    limits: Mapping[str, float],
    measure: str,
    progress: SearchProgress,
) -> ClipTuner:
    """The tuner, with what an earlier call has left."""
    if not is_worker():
        remove_stranded_trials(folder)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it reloads
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
        if not is_worker() and (folder / "trials" / "oracle.json").exists():
            oracle.reload()  # also where it was begun with another number of processes
    return tuner


@contextlib.contextmanager
def _watched(
    oracle: keras_tuner.Oracle, progress: SearchProgress, max_hours: float | None
) -> Iterator[None]:
    """Ends a search in time, and reports on one whose trials run elsewhere."""
    ended, started, hands_out = threading.Event(), time.monotonic(), is_chief()

    def watch() -> None:
        while not ended.wait(1.0):
            if max_hours is not None and time.monotonic() - started > max_hours * 3600:
                begin_no_more(oracle)
            if hands_out and progress.report_now_and_then() and progress.is_hopeless():
                begin_no_more(oracle)

    thread = threading.Thread(target=watch, daemon=True)
    if not is_worker():
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if not is_worker():
            thread.join()


@contextlib.contextmanager
def _named_damage(folder: Path) -> Iterator[None]:
    try:
        yield
    except json.JSONDecodeError as error:
        raise ValueError(
            f"A file in '{folder / 'trials'}' is damaged ({error}): the disk was full, or the "
            "machine failed. Move that folder away, and the same call begins anew with the cached "
            "features."
        ) from error


def check_search(
    algorithm: str, measure: str | None, max_trials: int | None, max_hours: float | None
) -> None:
    """Refuse what no search can be told.

    Raises:
        ValueError: when an argument is out of range.
    """
    for name, value, choices in (
        ("algorithm", algorithm, ALGORITHMS),
        ("measure", measure or MEASURES[0], MEASURES),
    ):
        if value not in choices:
            raise ValueError(f"`{name}` must be one of {', '.join(choices)}. Received: {value!r}.")
    for name, number in (("max_trials", max_trials), ("max_hours", max_hours)):
        if number is not None and not number > 0:
            raise ValueError(f"`{name}` must be positive. Received: {name}={number}.")


def _check_limits(measures: Mapping[str, Any], limits: Mapping[str, float]) -> None:
    for name, limit in limits.items():
        if name != "parameters" and name not in measures:
            raise ValueError(
                f"`limits` must name `measures`, or parameters. Received: a limit of {name!r}."
            )
        if not limit > 0:
            raise ValueError(f"`limits` must be positive. Received: {name}={limit}.")


def _oracle(
    algorithm: str, objective: str, max_trials: int | None, max_epochs: int, seed: int
) -> keras_tuner.Oracle:
    shared: dict[str, Any] = {
        "objective": keras_tuner.Objective(objective, "max"),
        "seed": seed + 1,  # KerasTuner takes 0 for none
        # KerasTuner's own limit leaves the chief waiting for ever: see `is_hopeless`.
        "max_consecutive_failed_trials": sys.maxsize,
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
