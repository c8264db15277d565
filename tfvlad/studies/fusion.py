"""Late fusion of runs and score files, and the test of each of them and of the fused scores."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.lists.class_lists import read_class_names
from pipelines.storage.files import write_json
from tfvlad.evaluation import EvaluationReport, write_per_class, write_scores
from tfvlad.evaluation.score_files import FORMATS
from tfvlad.studies.fused_run import FusedRun, fuse_run
from tfvlad.studies.run_scores import HasFolder, path_of, run_names, shared_run_names

_MEASURES = ("top1", "top5", "mean_class_accuracy", "mAP", "wAP")

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fusion:
    """What `fuse` found.

    Attributes:
        files: the score files or folders of runs that were fused.
        weights: one a file; None for equal ones.
        on: what was added: "logits", "probabilities" or "normalized".
        labels: the list that the scores were tested on; None for the files' own labels.
        runs: one for each split and seed; files without them make one alone.
    """

    files: tuple[Path, ...]
    weights: tuple[float, ...] | None
    on: str
    labels: Path | None
    runs: tuple[FusedRun, ...]

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The figures of the fused scores, their means where there are several runs."""
        return _mean_metrics([run.report for run in self.runs])

    @property
    def file_metrics(self) -> tuple[Mapping[str, Any], ...]:
        """The figures of each file's scores, their means where there are several runs."""
        reports = zip(*(run.reports for run in self.runs), strict=True)
        return tuple(_mean_metrics(of_a_file) for of_a_file in reports)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the fused scores.

        Args:
            path: a new file that ends in .h5, .npz or .txt (see `write_scores`), or a new folder:
                it gets scores and reports like the folder of a run, for each split and seed, so
                that `compare` and further fusions read it, and fusion.json.

        Raises:
            ValueError: when the path is there already, or is a file and there are several runs.
        """
        path = Path(path)
        _check_place(path, len(self.runs))
        if path.suffix in FORMATS:
            write_scores(path, self.runs[0].scores)
            return
        settings = {
            "files": list(map(str, self.files)),
            "weights": self.weights,
            "on": self.on,
            "labels": self.labels and str(self.labels),
        }
        write_json(path / "fusion.json", settings)
        for run in self.runs:
            run.save(path / run.name)

    def save_per_class(self, path: str | os.PathLike[str]) -> None:
        """Writes a new CSV file with the fused scores' figure of each class.

        Raises:
            ValueError: when the file is there already, or there are several runs.
        """
        path = Path(path)
        _check_file(path, len(self.runs))
        write_per_class(path, self.runs[0].report)

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values: of each file, of the fused scores, and of each run."""
        return {
            "files": [
                {"file": str(file), **metrics}
                for file, metrics in zip(self.files, self.file_metrics, strict=True)
            ],
            "fused": dict(self.metrics),
            "runs": [
                {"run": run.name, "metrics": [one.metrics for one in (*run.reports, run.report)]}
                for run in self.runs
            ],
        }

    def __repr__(self) -> str:
        lines = [f"Fusion on {self.on}"]
        names = *map(str, self.files), "fused"
        for name, metrics in zip(names, (*self.file_metrics, self.metrics), strict=True):
            figures = [f"{key} {100 * metrics[key]:.2f} %" for key in _MEASURES if key in metrics]
            lines.append(f"  {name}: {', '.join(figures)}")
        return "\n".join(lines)


def fuse(
    files: Sequence[str | os.PathLike[str] | HasFolder],
    weights: Sequence[float] | None = None,
    on: str = "logits",
    labels: str | os.PathLike[str] | None = None,
    class_names: str | os.PathLike[str] | None = None,
    *,
    output: str | os.PathLike[str] | None = None,
    per_class: str | os.PathLike[str] | None = None,
) -> Fusion:
    """Fuses the scores of several models or streams late, and tests each and the fused ones.

    Rows are matched by the clips' names where files have them, and are in the order of `labels`
    where they have none. Where folders hold several splits and seeds, runs of the same split and
    seed go together. With Charades' CSV, mAP and wAP are the official ones: videos without scores,
    and those without any action, are ranked last in every class.

    Args:
        files: runs, folders of runs, or files of scores (see `tfvlad.evaluation.read_scores`).
        weights: one for each of them; equal ones of the sum 1 by default.
        on: "logits" adds the scores as they are, "probabilities" their probabilities, and
            "normalized" rows of length 1 (for scores of other origin, such as iDT's); see
            `tfvlad.evaluation.fuse_scores`.
        labels: the clips' true classes: lines of `video class` or `video frames class`, as
            HMDB51's and UCF101's lists have them, or Charades' CSV. Runs know theirs.
        class_names: a file with the name of a class in each line.
        output: write the fused scores there, see `Fusion.save`.
        per_class: write the fused scores' figure of each class there, see `Fusion.save_per_class`.

    Raises:
        ValueError: when a file cannot be read, the files are of different clips or classes, there
            are no runs of the same split and seed, nothing tells the labels, or what is to be
            written is there already.

    Example:
        >>> fuse(["runs/rgb", "runs/flow"], weights=[0.333, 0.667])  # doctest: +SKIP
        Fusion on logits
          runs/rgb: top1 51.37 %, top5 82.48 %, mean_class_accuracy 51.37 %, mAP 54.21 %
          runs/flow: top1 58.95 %, top5 84.77 %, mean_class_accuracy 58.95 %, mAP 64.35 %
          fused: top1 66.73 %, top5 89.80 %, mean_class_accuracy 66.73 %, mAP 71.78 %
    """
    if not files:
        raise ValueError("`files` must name at least one run or file of scores. Received: none.")
    paths = tuple(map(path_of, files))
    list_path = None if labels is None else Path(labels)
    names = read_class_names(os.fspath(class_names)) if class_names else None
    fused = _fused_names(paths)
    if output is not None:
        _check_place(Path(output), len(fused))
    if per_class is not None:
        _check_file(Path(per_class), len(fused))
    runs = tuple(fuse_run(run, paths, weights, on, list_path, names) for run in fused)
    chosen = None if weights is None else tuple(map(float, weights))
    found = Fusion(paths, chosen, on, list_path, runs)
    if output is not None:
        found.save(output)
    if per_class is not None:
        found.save_per_class(per_class)
    return found


def _fused_names(paths: Sequence[Path]) -> list[str]:
    """Names of the runs that all paths have; a file has the run ""."""
    folders = [path for path in paths if path.is_dir()]
    names = {folder: run_names(folder) for folder in folders}
    several = [folder for folder in folders if names[folder] not in ([], [""])]
    if several and (len(folders) < len(paths) or [""] in names.values()):
        raise ValueError(
            f"{several[0]} holds runs of several splits and seeds, which can be fused with such "
            "folders only. Name one of its runs."
        )
    if not folders:
        return [""]
    shared = shared_run_names(folders)
    most = max(map(len, names.values()))
    if len(shared) < most:
        _logger.info("%d of %d splits and seeds are in all of the folders.", len(shared), most)
    return shared


def _mean_metrics(reports: Sequence[EvaluationReport]) -> Mapping[str, Any]:
    if len(reports) == 1:
        return reports[0].metrics
    return {
        name: float(np.mean([report.metrics[name] for report in reports]))
        for name in _MEASURES
        if name in reports[0].metrics
    }


def _check_place(path: Path, num_runs: int) -> None:
    """Refuse to write fused scores where something is."""
    if path.suffix in FORMATS:
        _check_file(path, num_runs)
    elif path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise _already_there(path)


def _check_file(path: Path, num_runs: int) -> None:
    """Refuse to write a file where something is, or one for several runs."""
    if num_runs > 1:
        raise ValueError(
            f"'{path}' would be a file for one run, and there are {num_runs}. "
            "Save them in a folder."
        )
    if path.exists():
        raise _already_there(path)


def _already_there(path: Path) -> ValueError:
    return ValueError(f"'{path}' exists and is left as it is. Choose another name, or remove it.")
