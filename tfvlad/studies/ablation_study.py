"""Variants of a training over splits and seeds, compared with each other."""

from __future__ import annotations

import itertools
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import keras

from pipelines.storage.owned_folder import OwnedFolder
from tfvlad.runs.config import DataPaths, load_config
from tfvlad.runs.data import read_split
from tfvlad.runs.settings import FeatureSettings, VideoSettings
from tfvlad.runs.settings.model_table import MODELS
from tfvlad.runs.settings.views import VIEWS
from tfvlad.runs.training.planning import planned
from tfvlad.runs.training.run_training import check_trainings, train_in
from tfvlad.studies.ablation_results import Ablation, ablation_rows, variant_folder
from tfvlad.studies.variants import Variant, variant_of

# The ablation of TA-VLAD's paper.
FOUR_VARIANTS = ("action-vlad", "vlad-gru", "ta-action-vlad", "ta-vlad")
# Else it would not be the models that differ, but the clips that they learn from or are tested on.
_SHARED = {"stream", "validation_fraction", *VIEWS}

_logger = logging.getLogger(__name__)


def ablation(
    data: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    variants: Sequence[Variant | str] = FOUR_VARIANTS,
    settings: VideoSettings | FeatureSettings | None = None,
    *,
    splits: Sequence[int] = (1,),
    seeds: Sequence[int] = (0,),
    lists: str | os.PathLike[str] | None = None,
    test_data: str | os.PathLike[str] | None = None,
    flow: str | os.PathLike[str] | None = None,
    attended: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    max_broken: int | None = None,
    **changes: Any,
) -> Ablation:
    """Trains variants of a model over splits and seeds, and compares them.

    The folder receives a folder of runs for each variant, with the cached features shared, and
    ablation.csv, ablation.json and ablation.png: the mean test top-1 accuracy, its spread over the
    runs, and the paired difference from the first variant with its 95 % interval. An ablation that
    was stopped goes on with the same call, and variants, splits and seeds may be added to it.

    Args:
        data: see `tfvlad.train`; every clip has one label.
        folder: of the ablation: a new one, or that of the same one.
        variants: what is compared: variants, or names of `tfvlad.studies.VARIANTS`.
        settings: what all variants have in common, but for the seed.
        splits: numbers of the official splits.
        seeds: of everything that is drawn.
        lists: see `tfvlad.train`.
        test_data: see `tfvlad.train`.
        flow: see `tfvlad.train`.
        attended: see `tfvlad.train`.
        cache: of all variants; see `tfvlad.train`.
        max_broken: see `tfvlad.train`.
        **changes: settings in common, by name.

    Raises:
        ValueError: when the variants, the settings or the data are not possible, or the folder
            holds something else.

    Example:
        >>> variants = ["ta-vlad", Variant("32 words", {"model": "ta-vlad", "num_clusters": 32})]
        >>> found = ablation("videos", "study", variants, epochs=(15, 0))  # doctest: +SKIP
    """
    chosen = [variant_of(variant) for variant in variants]
    root = Path(folder)
    _check_names(chosen, root)
    _check_effect(chosen, changes)
    named = {"lists": lists, "test_data": test_data, "flow": flow, "attended": attended}
    jobs = [
        _planned(variant, data, settings, changes, split=split, seed=seed, cache=cache, **named)
        for seed, split, variant in itertools.product(
            dict.fromkeys(seeds), dict.fromkeys(splits), chosen
        )
    ]
    if not jobs:
        raise ValueError(
            "`variants`, `splits` and `seeds` must name at least one each. "
            f"Received: {len(chosen)}, {len(splits)} and {len(seeds)}."
        )
    _check_stages(jobs)
    _check_one_label(jobs)
    paths = _data_of(jobs[0].paths)
    owned = _owned_folder(root, paths)
    owned.check_free()
    owned.check_settings({"data": paths})
    _check_trainings(root, jobs, max_broken)
    with owned.locked():
        owned.claim({"data": paths})
        for number, job in enumerate(jobs, 1):
            told = job.variant, job.paths.split, job.settings.seed, number, len(jobs)
            _logger.info("%s, split %d, seed %d (%d of %d)", *told)
            keras.backend.clear_session()  # the memory of the models before
            place = job.folder(root)
            train_in(job.paths, place, job.settings, root=root, cache=cache, max_broken=max_broken)
        runs = list(dict.fromkeys(job.run for job in jobs))
        rows = ablation_rows(root, [variant.name for variant in chosen], runs)
        found = Ablation(root, paths, rows)
        found.save()
    return found


class _Job(NamedTuple):
    """One training of an ablation."""

    variant: str
    paths: DataPaths
    settings: VideoSettings | FeatureSettings

    @property
    def run(self) -> str:
        return f"split{self.paths.split}-seed{self.settings.seed}"

    def folder(self, root: Path) -> Path:
        return variant_folder(root, self.variant) / self.run


def _planned(
    variant: Variant,
    data: str | os.PathLike[str],
    settings: VideoSettings | FeatureSettings | None,
    changes: Mapping[str, Any],
    *,
    split: int,
    seed: int,
    **named: str | os.PathLike[str] | None,
) -> _Job:
    own = {**changes, **variant.changes, "seed": seed}
    try:
        job = _Job(variant.name, *planned(data, settings, own, split=split, **named))
    except ValueError as error:
        raise ValueError(f"The variant {variant.name!r} is not possible: {error}") from error
    model = MODELS[job.settings.model]
    of_models = frozenset().union(*(entry.takes for entry in MODELS.values()))
    # Settings in common are passed over by models that do not take them.
    for name in sorted((of_models - model.takes) & set(variant.changes)):
        raise ValueError(
            f"The variant {variant.name!r} has a `{name}` of its own, which has no effect on "
            f"model={job.settings.model!r}. Leave it out."
        )
    return job


def _check_names(variants: Sequence[Variant], root: Path) -> None:
    folders: dict[Path, str] = {}
    for variant in variants:
        folder = variant_folder(root, variant.name)
        if folder in folders:
            raise ValueError(
                f"`variants` must have names that make different folders. Received: "
                f"{folders[folder]!r} and {variant.name!r}."
            )
        folders[folder] = variant.name


def _check_effect(variants: Sequence[Variant], changes: Mapping[str, Any]) -> None:
    """Refuse a setting that no variant would have, or that a variant must not have of its own."""
    for variant in variants:
        if "seed" in variant.changes:
            raise ValueError(
                f"The variant {variant.name!r} has a `seed` of its own. Name them in `seeds`."
            )
        for name in sorted(_SHARED & set(variant.changes)):
            raise ValueError(
                f"The variant {variant.name!r} has a `{name}` of its own, which must be the same "
                "for all of them. Give it beside `variants`."
            )
    for name, value in changes.items():
        if variants and all(name in variant.changes for variant in variants):
            raise ValueError(
                f"`{name}` has no effect: each of the variants has its own. "
                f"Received: {name}={value!r}. Leave it out."
            )


def _check_stages(jobs: Sequence[_Job]) -> None:
    """A stage more would not be a difference of the models."""
    stages = {
        job.variant: job.settings.num_stages if isinstance(job.settings, VideoSettings) else 1
        for job in jobs
    }
    if len(set(stages.values())) > 1:
        raise ValueError(
            "All variants must have as many stages: give `epochs` to all of them. Received: "
            f"{', '.join(f'{number} of {name}' for name, number in stages.items())}."
        )


def _check_one_label(jobs: Sequence[_Job]) -> None:
    for paths in dict.fromkeys(job.paths for job in jobs):
        records = read_split(paths)
        if any(len(record.labels) != 1 for record in (*records.train, *records.test)):
            raise ValueError(
                f"An ablation compares top-1 accuracies, and clips of '{paths.data}' have none or "
                "several labels."
            )


def _check_trainings(root: Path, jobs: Sequence[_Job], max_broken: int | None) -> None:
    """Tell every mistake before the first training, and of which variant it is."""
    for variant in dict.fromkeys(job.variant for job in jobs):
        trainings = [
            (job.paths, job.folder(root), job.settings) for job in jobs if job.variant == variant
        ]
        try:
            check_trainings(trainings, max_broken=max_broken)
        except ValueError as error:
            raise ValueError(f"The variant {variant!r} is not possible: {error}") from error


def _data_of(paths: DataPaths) -> dict[str, str | None]:
    """What is the same for all splits."""
    return {name: path for name, path in asdict(paths).items() if name != "split"}


def _owned_folder(root: Path, paths: Mapping[str, str | None]) -> OwnedFolder:
    """The folder as one ablation's own."""
    return OwnedFolder(
        root,
        holds="an ablation",
        settings_file="ablation.json",
        # Earlier versions kept the rows alone.
        read=lambda path: {"data": json.loads(path.read_text("utf-8")).get("data", paths)},
        besides=_besides(root, paths),
    )


def _besides(root: Path, paths: Mapping[str, str | None]) -> list[str]:
    """What an ablation of an earlier version leaves before ablation.json, written at its end."""
    if (root / "ablation.json").exists():
        return []
    runs = [path.parent for path in root.glob("*/split*-seed*/config.json")]
    variants = {run.parent.name for run in runs if _data_of(load_config(run).data) == paths}
    return [*variants, "features", "*videos.json"] if variants else []
