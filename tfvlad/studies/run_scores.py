"""The scores that runs have left in their folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from tfvlad.evaluation import ScoreFile, read_scores
from tfvlad.runs.data import clip_name
from tfvlad.runs.run_files import read_result


class HasFolder(Protocol):
    """Something with a folder of its own, such as a run."""

    @property
    def folder(self) -> Path: ...


def path_of(run: str | os.PathLike[str] | HasFolder) -> Path:
    """The folder of a run, or the path itself."""
    return Path(run) if isinstance(run, str | os.PathLike) else run.folder


def run_names(folder: Path) -> list[str]:
    """Names of the finished runs below a folder; a folder that is a run itself has the one ""."""
    if (folder / "scores.npz").exists():
        return [""]
    return sorted(path.parent.name for path in folder.glob("split*-seed*/scores.npz"))


def shared_run_names(folders: Sequence[Path]) -> list[str]:
    """Names of the finished runs that all folders have.

    Raises:
        ValueError: when there are none.
    """
    shared = set.intersection(*(set(run_names(folder)) for folder in folders))
    if not shared:
        raise ValueError(
            f"{', '.join(map(str, folders))} have no finished run of the same split and seed."
        )
    return sorted(shared)


def num_stages(run: Path) -> int:
    """Number of the stages after which a run was tested."""
    # A test without a training has no stages.
    return len(read_result(run).get("stages", [{}]))


def read_run_scores(run: Path, stage: int | None = None) -> ScoreFile:
    """Reads the scores of a run's test clips.

    Args:
        run: the folder of one run.
        stage: number of the stage after which the clips were tested; the last one by default.
    """
    last = stage is None or stage == num_stages(run)
    return without_suffixes(read_scores((run if last else run / f"stage{stage}") / "scores.npz"))


def without_suffixes(file: ScoreFile) -> ScoreFile:
    """The scores of clips that are named without the suffixes of videos, as runs name them now."""
    return replace(file, clips=file.clips and tuple(map(clip_name, file.clips)))
