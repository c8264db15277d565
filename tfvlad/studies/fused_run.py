"""The fused scores of one split and seed: matched by the clips' names, and tested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipelines.lists.charades import read_charades_labels
from pipelines.lists.class_lists import read_class_list, read_class_names
from pipelines.lists.records import label_array
from pipelines.storage.files import write_json
from tfvlad.evaluation import (
    EvaluationReport,
    ScoreFile,
    align_files,
    align_scores,
    evaluate_scores,
    fuse_scores,
    read_scores,
    write_report,
    write_scores,
)
from tfvlad.runs.data import clip_name
from tfvlad.studies.run_scores import read_run_scores, without_suffixes


@dataclass(frozen=True)
class FusedRun:
    """The fused scores of one split and seed.

    Attributes:
        name: of the runs, such as "split1-seed0"; "" where there is one alone.
        scores: the fused scores with their clips, labels and class names.
        reports: the test of each file's scores, in the order of the files.
        report: the test of the fused scores.
    """

    name: str
    scores: ScoreFile
    reports: tuple[EvaluationReport, ...]
    report: EvaluationReport

    def save(self, folder: Path) -> None:
        """Writes a folder like that of a run which was trained in one stage."""
        write_report(folder, self.report)
        write_scores(folder / "scores.npz", self.scores)
        split, _, seed = self.name.removeprefix("split").partition("-seed")
        result = {"run": str(folder), "split": split, "seed": seed, "seconds": 0.0}
        result["stages"] = [self.report.metrics]
        write_json(folder / "result.json", result)


def fuse_run(
    name: str,
    paths: Sequence[Path],
    weights: Sequence[float] | None,
    on: str,
    labels: Path | None,
    class_names: tuple[str, ...] | None,
) -> FusedRun:
    """Fuses the scores of one run of each path, see `tfvlad.studies.fuse`.

    Args:
        name: of the run below each folder; "" where a folder is the run itself.
        paths: folders and files of scores.
        weights: one a path.
        on: what is added.
        labels: list of the clips' classes.
        class_names: one name a class.
    """
    files = [
        read_run_scores(path / name) if path.is_dir() else without_suffixes(read_scores(path))
        for path in paths
    ]
    truth = None
    if labels:
        truth = _read_truth(labels, class_names, files[0].scores.shape[1])
        files = [_named(*pair, truth, labels) for pair in zip(files, paths, strict=True)]
    files = align_files(files)
    truth = truth or _known_truth(files, class_names)
    scores = fuse_scores([file.scores for file in files], weights, on, truth.labels.ndim == 2)
    files.append(replace(files[0], scores=scores))
    if truth.clips is not None:
        missing_score = -np.inf if truth.is_charades else None
        files = [align_scores(file, truth.clips, missing_score=missing_score) for file in files]
    *reports, report = (
        evaluate_scores(
            file.scores, truth.labels, truth.class_names, unlabeled_last=truth.is_charades
        )
        for file in files
    )
    fused = ScoreFile(files[-1].scores, truth.clips, truth.labels, truth.class_names)
    return FusedRun(name, fused, tuple(reports), report)


class _Truth(NamedTuple):
    """What scores are tested on; the clips are None where nothing names them."""

    clips: tuple[str, ...] | None
    labels: np.ndarray
    class_names: tuple[str, ...]
    is_charades: bool = False


def _read_truth(labels: Path, names: tuple[str, ...] | None, num_classes: int) -> _Truth:
    is_charades = labels.suffix.lower() == ".csv"
    if is_charades:
        records = read_charades_labels(str(labels), num_classes)
        listed = labels.parent / "Charades_v1_classes.txt"
        names = names or (read_class_names(str(listed)) if listed.is_file() else None)
    else:
        records = read_class_list(str(labels), num_classes, names)
    return _Truth(
        tuple(clip_name(record.path) for record in records),
        label_array(records, num_classes, multi_label=is_charades),
        names or tuple(map(str, range(num_classes))),
        is_charades,
    )


def _named(file: ScoreFile, path: Path, truth: _Truth, labels: Path) -> ScoreFile:
    """The file's clips are the list's where it names none."""
    if file.clips is not None or truth.clips is None:
        return file
    if len(file.scores) != len(truth.clips):
        raise ValueError(
            f"{path} has {len(file.scores)} rows of scores without names, and {labels} lists "
            f"{len(truth.clips)} clips. Give the list in whose order the rows are."
        )
    return replace(file, clips=truth.clips)


def _known_truth(files: Sequence[ScoreFile], names: tuple[str, ...] | None) -> _Truth:
    labels = next((file.labels for file in files if file.labels is not None), None)
    if labels is None:
        raise ValueError("The score files hold no labels. Give `labels`, the list of the clips.")
    names = names or next((file.class_names for file in files if file.class_names), None)
    num_classes = files[0].scores.shape[1]
    return _Truth(files[0].clips, labels, names or tuple(map(str, range(num_classes))))
