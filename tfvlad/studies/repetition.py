"""The same training over several splits and seeds."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import keras
import numpy as np

from tfvlad.runs.config import owned_run_folder
from tfvlad.runs.run import Run
from tfvlad.runs.settings import FeatureSettings, VideoSettings
from tfvlad.runs.training.planning import planned, with_imported_arrays
from tfvlad.runs.training.run_training import check_trainings, train_in

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Runs(Sequence[Run]):
    """Runs that differ in their split and seed.

    Attributes:
        folder: where they are.
        runs: the runs.
    """

    folder: Path
    runs: tuple[Run, ...]

    @overload
    def __getitem__(self, index: int) -> Run: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Run]: ...

    def __getitem__(self, index: int | slice) -> Run | Sequence[Run]:
        return self.runs[index]

    def __len__(self) -> int:
        return len(self.runs)

    def means(self) -> list[dict[str, float]]:
        """The figures after each stage, averaged over the runs."""
        stages = zip(*(run.result["stages"] for run in self.runs), strict=True)
        return [
            {
                name: float(np.mean([metrics[name] for metrics in of_a_stage]))
                for name, value in of_a_stage[0].items()
                if isinstance(value, float)
            }
            for of_a_stage in stages
        ]

    def to_dict(self) -> dict[str, Any]:
        """Each run's result.json as JSON values: its split, its seed, its figures."""
        return {"runs": [run.result for run in self.runs]}

    def __repr__(self) -> str:
        figures = [f"{name} {100 * value:.1f} %" for name, value in self.means()[-1].items()]
        lines = [f"{len(self)} runs in {self.folder}: {', '.join(figures)}", *map(repr, self)]
        return "\n  ".join(lines)


def repeat(
    data: str | os.PathLike[str],
    folder: str | os.PathLike[str],
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
) -> Runs:
    """Trains with every split and seed, see `tfvlad.train`.

    Several trainings go to the folders `split<n>-seed<m>` below `folder`, for `compare` and `fuse`,
    and share what is known of the videos and their features; a single one goes to `folder` itself.

    Args:
        data: see `tfvlad.train`.
        folder: of the runs.
        settings: of every run, but for the seed.
        splits: numbers of the official splits.
        seeds: of everything that is drawn.
        lists: see `tfvlad.train`.
        test_data: see `tfvlad.train`.
        flow: see `tfvlad.train`.
        attended: see `tfvlad.train`.
        cache: see `tfvlad.train`.
        max_broken: see `tfvlad.train`.
        **changes: settings by name.

    Raises:
        ValueError: when no split or seed is given; also as for `tfvlad.train`.

    Example:
        >>> repeat("videos", "runs/kick", lists="splits", splits=(1, 2, 3))  # doctest: +SKIP
    """
    pairs = list(dict.fromkeys(itertools.product(splits, seeds)))
    if not pairs:
        raise ValueError(
            f"`splits` and `seeds` must name at least one each. Received: {splits} and {seeds}."
        )
    root = Path(folder)
    named = {"lists": lists, "test_data": test_data, "flow": flow, "attended": attended}
    trainings = []
    for split, seed in pairs:
        changed = {**changes, "seed": seed}
        paths, chosen = planned(data, settings, changed, split=split, cache=cache, **named)
        place = root / f"split{split}-seed{seed}" if len(pairs) > 1 else root
        trainings.append((paths, place, chosen))
    if len(pairs) > 1:
        _check_is_free(root)
    else:
        owned_run_folder(root).check_free()
    imported = with_imported_arrays(trainings[0][0], root, max_broken).data
    trainings = [(replace(paths, data=imported), place, one) for paths, place, one in trainings]
    if len(pairs) > 1:
        check_trainings(trainings, max_broken=max_broken)
    for paths, place, chosen in trainings:
        if len(pairs) > 1:
            _logger.info("Split %d, seed %d", paths.split, chosen.seed)
            keras.backend.clear_session()  # the memory of the models before
        train_in(paths, place, chosen, root=root, cache=cache, max_broken=max_broken)
    return Runs(root, tuple(Run(place) for _, place, _ in trainings))


def _check_is_free(root: Path) -> None:
    """Refuse to write runs among other things."""
    if not root.is_dir() or any(root.glob("split*-seed*/config.json")):
        return
    # A training that was refused has left the lock of its folder alone, or what it had imported.
    known = ("split*-seed*", ".*", "features")
    if any(not any(map(path.match, known)) for path in root.iterdir()):
        raise ValueError(
            f"'{root}' is not empty and holds no runs of several splits and seeds. "
            "Choose a new folder."
        )
