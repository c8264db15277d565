"""The difference of models on the same test clips."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfvlad.evaluation import Estimate, paired_difference, top_k_correct
from tfvlad.runs.data import short_clip_name
from tfvlad.studies.run_scores import (
    HasFolder,
    num_stages,
    path_of,
    read_run_scores,
    shared_run_names,
)


@dataclass(frozen=True)
class RunDifference:
    """How much more often the runs of a folder are right than those of the first folder.

    Attributes:
        folder: of the runs.
        top1: their mean top-1 accuracy, over the splits first.
        first_top1: the same of the first folder's runs of the same splits and seeds.
        difference: `top1` minus `first_top1`, paired clip by clip, with its 95 % interval.
        num_runs: number of runs of each folder that were compared.
        num_shared_runs: number of runs of the same split and seed that both folders have.
    """

    folder: Path
    top1: float
    first_top1: float
    difference: Estimate
    num_runs: int
    num_shared_runs: int

    def to_dict(self) -> dict[str, Any]:
        """The difference as JSON values."""
        return {
            "folder": str(self.folder),
            "top1": self.top1,
            "first_top1": self.first_top1,
            "difference": self.difference.mean,
            "interval": [self.difference.low, self.difference.high],
            "num_runs": self.num_runs,
            "num_shared_runs": self.num_shared_runs,
        }

    def __repr__(self) -> str:
        mean, low, high = (100 * value for value in self.difference)
        return (
            f"{self.folder}: {100 * self.top1:.1f} % instead of {100 * self.first_top1:.1f} %, "
            f"{mean:+.1f} points [{low:+.1f}, {high:+.1f}], "
            f"{self.num_runs} of {self.num_shared_runs} runs"
        )


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        first: folder of the runs that the others are compared with.
        differences: of each of the others, in their order.
    """

    first: Path
    differences: tuple[RunDifference, ...]

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON values."""
        differences = [difference.to_dict() for difference in self.differences]
        return {"first": str(self.first), "differences": differences}

    def __repr__(self) -> str:
        lines = [f"Top-1 accuracy compared with {self.first}", *map(repr, self.differences)]
        return "\n  ".join(lines)


def compare(
    runs: Sequence[str | os.PathLike[str] | HasFolder], stage: int | None = None
) -> Comparison:
    """Computes the paired differences in top-1 accuracy of runs from the first ones.

    Each run is paired with the first folder's run of the same split and seed, on the same test
    clips. Accuracies are averaged over the splits. The interval comes from resampling the clips; a
    clip's outcomes are averaged over the seeds first (see `tfvlad.evaluation.paired_difference`).

    Args:
        runs: at least two runs, or folders of runs of several splits and seeds.
        stage: compare the models after this stage of their training; after the last by default.

    Raises:
        ValueError: when there are fewer than two, no runs of the same split and seed, or none with
            the stage, when runs were tested on different clips, or when they have different
            numbers of stages and `stage` is missing.

    Example:
        >>> compare(["runs/average-pooling", "runs/action-vlad"])  # doctest: +SKIP
        Top-1 accuracy compared with runs/average-pooling
          runs/action-vlad: 55.4 % instead of 49.8 %, +5.6 points [+2.1, +9.2], 9 of 9 runs
    """
    if len(runs) < 2:
        raise ValueError(f"`runs` must be at least two runs. Received: {len(runs)}.")
    first, *others = map(path_of, runs)
    return Comparison(first, tuple(run_difference(first, other, stage) for other in others))


def run_difference(
    first: Path, folder: Path, stage: int | None = None, names: Sequence[str] | None = None
) -> RunDifference:
    """Compares the runs of two folders, see `compare`.

    Args:
        first: folder of the runs that are compared with.
        folder: folder of the runs.
        stage: number of the stage; the last by default.
        names: of the runs to compare; all that both folders have by default.
    """
    folders = first, folder
    shared = sorted(names) if names else shared_run_names(folders)
    compared = _with_stage(folders, shared, stage)
    hits: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    splits: list[str] = []
    clips: list[str] = []
    for name in compared:
        pair = [read_run_scores(folder / name, stage) for folder in folders]
        tested = [file.clips or () for file in pair]
        if not all("/" in clip for one in tested for clip in one):
            # Earlier runs hold file names alone.
            tested = [tuple(map(short_clip_name, one)) for one in tested]
        first_labels, labels = (np.asarray(file.labels) for file in pair)
        if tested[0] != tested[1] or not np.array_equal(labels, first_labels):
            raise ValueError(f"The runs '{name}' were tested on different clips.")
        for found, file in zip(hits, pair, strict=True):
            found.append(top_k_correct(file.scores, labels))
        splits += [name.partition("-")[0]] * len(tested[0])
        clips += tested[0]
    outcomes = np.array([np.concatenate(found) for found in hits], float)
    difference = paired_difference(outcomes[1], outcomes[0], splits=splits, clips=clips)
    # Over the splits first, as in the difference.
    first_top1, top1 = np.mean(
        [outcomes[:, np.array(splits) == split].mean(axis=1) for split in set(splits)], axis=0
    )
    return RunDifference(
        folder, float(top1), float(first_top1), difference, len(compared), len(shared)
    )


def _with_stage(folders: tuple[Path, Path], names: list[str], stage: int | None) -> list[str]:
    """The runs that have the stage in both folders; all of them without one."""
    stages = {name: [num_stages(folder / name) for folder in folders] for name in names}
    found = sorted({number for pair in stages.values() for number in pair})
    if stage is None:
        if len(found) > 1:
            raise ValueError(
                f"The runs have different numbers of stages ({', '.join(map(str, found))}). "
                f"Give `stage` {found[0]} to compare them after a stage that all of them have."
            )
        return names
    chosen = [name for name in names if min(stages[name]) >= stage]
    if not chosen:
        raise ValueError(
            f"No run of '{folders[0]}' and '{folders[1]}' has a stage {stage} in both. "
            f"Received: stage={stage}; the runs have {', '.join(map(str, found))} stages."
        )
    return chosen
