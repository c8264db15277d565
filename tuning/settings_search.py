"""`tuning.tune`: from labelled videos, or features, to the settings that do best and their run."""

from __future__ import annotations

import functools
import os
from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tfvlad.runs.config import RunConfig
from tfvlad.runs.run import Run, load
from tfvlad.runs.settings import FeatureSettings, VideoSettings
from tfvlad.runs.settings.model_table import MODELS
from tfvlad.runs.training.planning import planned
from tfvlad.runs.training.video_training import seed_everything
from tuning.best_run import write_best_run
from tuning.hyper_models.spaces import paper_space
from tuning.hyper_models.values import Space
from tuning.latency import check_litert, litert_ms
from tuning.results.trials import Trial
from tuning.running.processes import is_worker, search_process
from tuning.running.search import check_search, search
from tuning.running.search_folder import in_use
from tuning.search_plan import SPACES, plan_feature_search, plan_video_search

# What concerns the test list, which a search never reads, or is chosen once for a whole search.
_NOT_SEARCHED = {
    *("test_crops", "test_clips", "one_bag", "test_chunks"),
    *("freeze_attention", "initialize_from"),
}


@dataclass(frozen=True)
class SearchResult:
    """What a search has found.

    Attributes:
        folder: of the search.
        trials: all of them, in the order they began.
        best: the trial whose model is the best; None in a worker, whose chief finds it.
    """

    folder: Path
    trials: tuple[Trial, ...]
    best: Trial | None

    @functools.cached_property
    def run(self) -> Run:
        """The best model, as if `tfvlad.train` had trained it.

        Raises:
            ValueError: when there is none.
        """
        return load(self.folder / "best")

    def to_dict(self) -> dict[str, Any]:
        """The folder, the trials and the best one, as JSON values."""
        return {
            "folder": str(self.folder),
            "best": self.best and {**self.best.to_dict(), "model": "best.keras"},
            "trials": [trial.to_dict() for trial in self.trials],
        }

    def __repr__(self) -> str:
        best = "" if self.best is None else f", best: {self.best}"
        return f"SearchResult('{self.folder}': {len(self.trials)} trials{best})"


def tune(
    data: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    settings: VideoSettings | FeatureSettings | None = None,
    *,
    lists: str | os.PathLike[str] | None = None,
    split: int = 1,
    test_data: str | os.PathLike[str] | None = None,
    flow: str | os.PathLike[str] | None = None,
    attended: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    max_broken: int | None = None,
    space: str | Space = "full",
    algorithm: str | None = None,
    measure: str | None = None,
    max_trials: int | None = None,
    max_hours: float | None = None,
    max_parameters: float | None = None,
    litert_latency: bool = False,
    max_litert_ms: float | None = None,
    chief: str | None = None,
    worker: tuple[str, str] | None = None,
    **changes: Any,
) -> SearchResult:
    """Search for the settings with which a model does best on validation clips.

    The validation clips are carved from the training list; those of the test list are checked,
    never scored: test the best model once, with `tuning.tune(...).run.evaluate()`. The folder gets
    what `tuning.search` writes, and `best`, the best model as a run of `tfvlad.train`. A search
    that was killed goes on with the same call. A stage ends after `patience` epochs without a
    better one, 5 by default, of features 10.

    Args:
        data: see `tfvlad.train`.
        folder: of the search: a new one, or that of the same search.
        settings: of every trial. Those that differ from their defaults are fixed; of the others,
            the search varies what matters for the model.
        lists: see `tfvlad.train`.
        split: see `tfvlad.train`.
        test_data: see `tfvlad.train`.
        flow: see `tfvlad.train`.
        attended: see `tfvlad.train`.
        cache: folder of the cached features; `folder/features` by default.
        max_broken: see `tfvlad.train`.
        space: what is varied: "full", all that matters for the model; "paper", TA-VLAD's clusters
            and units alone; or a function from KerasTuner's `HyperParameters` to values by name,
            see `tuning.TAVLADHyperModel` and `tuning.AttentionLSTMHyperModel`.
        algorithm: see `tuning.search`; a grid for the paper's space by default.
        measure: see `tuning.search`.
        max_trials: see `tuning.search`.
        max_hours: see `tuning.search`.
        max_parameters: models with more are not trained.
        litert_latency: measure each model's LiteRT latency, which a figure then shows.
        max_litert_ms: models that take longer for a clip in LiteRT, milliseconds on this machine
            with two threads, are not trained.
        chief: see `tuning.search`.
        worker: see `tuning.search`.
        **changes: settings by name, in the place of those of `settings`, and fixed.

    Returns:
        The trials and the best one; `.run` is its model.

    Raises:
        ValueError: when the settings or the data are not possible, the folder holds something else,
            or no trial has a model.
        OSError: when another process searches in the folder.

    Example:
        >>> found = tuning.tune("videos/", "search/", max_hours=8)
        >>> found.best.values, found.run.evaluate()
    """
    paths, chosen = planned(
        data,
        settings,
        changes,
        lists=lists,
        split=split,
        test_data=test_data,
        flow=flow,
        attended=attended,
        cache=cache,
    )
    changed = {one.name for one in fields(chosen) if getattr(chosen, one.name) != one.default}
    given = {*changed, *changes}
    _check_settings(chosen, given, changes)
    varied = _space(space, chosen.model)
    if isinstance(chosen, FeatureSettings):
        latency = {"litert_latency": litert_latency or None, "max_litert_ms": max_litert_ms}
        _refuse(chosen.model, **latency)
    algorithm = algorithm or ("grid" if space == "paper" else "bayesian")
    check_search(algorithm, measure, max_trials, max_hours)
    for name, limit in (("max_parameters", max_parameters), ("max_litert_ms", max_litert_ms)):
        if limit is not None and not limit > 0:
            raise ValueError(f"`{name}` must be positive. Received: {name}={limit}.")
    on_litert = litert_latency or max_litert_ms is not None
    if on_litert:
        check_litert()
    limits = {"parameters": max_parameters, "litert_ms": max_litert_ms}
    place = Path(folder)
    with search_process(chief, worker), in_use(place):
        seed_everything(chosen.seed)
        if isinstance(chosen, FeatureSettings):
            plan = plan_feature_search(paths, place / "data", chosen, varied, given, max_broken)
        else:
            features = Path(place / "features" if cache is None else cache)
            plan = plan_video_search(
                paths, place / "data", chosen, varied, given, features, max_broken
            )
        measures = {}
        if on_litert and isinstance(plan.config, RunConfig):
            measures["litert_ms"] = functools.partial(litert_ms, config=plan.config)
        trials = search(
            plan.hyper_model,
            plan.training,
            plan.validation,
            place,
            algorithm=algorithm,
            measure=measure,
            max_trials=max_trials,
            max_hours=max_hours,
            measures=measures,
            limits={name: limit for name, limit in limits.items() if limit is not None},
            seed=chosen.seed,
        )
        best = None if is_worker() else write_best_run(place, plan, trials)
    return SearchResult(place, tuple(trials), best)


def _check_settings(
    settings: VideoSettings | FeatureSettings, given: Collection[str], changes: Collection[str]
) -> None:
    model = settings.model
    if model not in SPACES:
        raise ValueError(
            f"`model` must be one of {', '.join(SPACES)} in a search. Received: model={model!r}."
        )
    for name in sorted(_NOT_SEARCHED & set(given)):
        raise ValueError(
            f"`{name}` has no effect on a search. Received: {name}={getattr(settings, name)!r}. "
            "Leave it out."
        )
    of_others = set().union(*(entry.takes for entry in MODELS.values())) - MODELS[model].takes
    _refuse(model, **{name: getattr(settings, name) for name in sorted(of_others & set(changes))})


def _refuse(model: str, **values: Any) -> None:
    for name, value in values.items():
        if value is not None:
            raise ValueError(
                f"`{name}` has no effect on model={model!r}. Received: {name}={value!r}. "
                "Leave it out."
            )


def _space(space: str | Space, model: str) -> Space:
    if callable(space):
        return space
    if space not in ("full", "paper"):
        raise ValueError(
            f'`space` must be "full", "paper" or a function. Received: space={space!r}.'
        )
    if space == "paper" and model != "ta-vlad":
        raise ValueError(f"`space` 'paper' is of the model 'ta-vlad'. Received: model={model!r}.")
    return paper_space if space == "paper" else SPACES[model]
