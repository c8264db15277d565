"""`tfvlad fuse`: the scores of several models or streams, from files or runs, as one."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from pipelines.charades import read_charades_labels
from pipelines.class_lists import read_class_list, read_class_names
from pipelines.records import label_array
from tfvlad.cli.compare import run_names
from tfvlad.cli.data import clip_name
from tfvlad.cli.number_options import CommandWithWeights

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table

    from tfvlad.evaluation import EvaluationReport, ScoreFile

_MEASURES = ("top1", "top5", "mean_class_accuracy", "mAP", "wAP")


@click.command(cls=CommandWithWeights)
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True))
@click.option(
    "--weights",
    multiple=True,
    type=float,
    metavar="NUMBER...",
    help="One for each of FILES; equal ones of the sum 1 by default.",
)
@click.option(
    "--on",
    default="logits",
    show_default=True,
    type=click.Choice(["logits", "probabilities", "normalized"]),
    help="Add the scores as they are, their probabilities, or rows of length 1 (for scores of "
    "other origin, such as iDT's).",
)
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False),
    help="The clips' true classes: lines of `video class` or `video frames class`, as HMDB51's and "
    "UCF101's lists have them, or Charades' CSV. Runs and their scores.npz know theirs.",
)
@click.option(
    "--class-names",
    type=click.Path(exists=True, dir_okay=False),
    help="A file with the name of a class in each line.",
)
@click.option(
    "--output",
    type=click.Path(),
    help="Write the fused scores: a file .h5, .npz or .txt, or a folder for `tfvlad compare`.",
)
@click.option(
    "--per-class", type=click.Path(dir_okay=False), help="Write a CSV with each class's figure."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def fuse(
    files: tuple[str, ...],
    weights: tuple[float, ...],
    on: str,
    labels: str | None,
    class_names: str | None,
    output: str | None,
    per_class: str | None,
    as_json: bool,
) -> None:
    """Fuse the scores in FILES late, and test each of them and the fused ones.

    A file is HDF5 with the dataset stream0/logits, as ActionVLAD's are, npz as in a run's folder,
    Charades' text (`id score ... score` a line), or the folder of a run; where folders hold several
    splits and seeds, runs of the same split and seed go together. Rows are matched by the clips'
    names where files have them, and are in the order of --labels where they have none.

    Figures are percentages. With Charades' CSV, mAP and wAP are the official ones: videos without
    scores, and those without any action, are ranked last in every class.

    \b
    Example:
      tfvlad fuse rgb.h5 flow.h5 --weights 0.333 0.667 --labels test_split1.txt
    """
    from rich.console import Console

    from tfvlad.evaluation import write_per_class, write_scores

    paths = [Path(file) for file in files]
    names = _shared_runs(paths)
    if len(names) > 1 and (per_class or _is_score_file(output)):
        raise ValueError(
            f"There are {len(names)} runs to fuse, each with a file of its own. Give a folder: "
            "--output FOLDER."
        )
    for written in filter(None, (output, per_class)):
        if os.path.isfile(written) or (os.path.isdir(written) and os.listdir(written)):
            raise ValueError(f"{written} is there already. Choose another name, or remove it.")
    results = [_fuse_run(name, paths, weights or None, on, labels, class_names) for name in names]
    if output and _is_score_file(output):
        write_scores(output, results[0].fused)
    elif output:
        settings = {"files": files, "weights": weights, "on": on, "labels": labels}
        _write_folder(Path(output), results, settings)
    if per_class:
        write_per_class(per_class, results[0].reports[-1])
    means = _mean_metrics(results)
    root = os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in files])
    rows = [*(os.path.relpath(file, root) for file in files), "fused"]
    Console(stderr=as_json).print(_table(rows, results, means))
    if as_json:
        each = [{"file": file, **found} for file, found in zip(files, means, strict=False)]
        runs = [{"run": r.name, "metrics": [one.metrics for one in r.reports]} for r in results]
        click.echo(json.dumps({"files": each, "fused": means[-1], "runs": runs}))


class _Truth(NamedTuple):
    """What scores are tested on; the clips are None where nothing names them."""

    clips: tuple[str, ...] | None
    labels: np.ndarray
    class_names: tuple[str, ...]
    is_charades: bool = False


class _Result(NamedTuple):
    """Fused scores, and the reports of each file and of them; one run alone has the name ""."""

    name: str
    fused: ScoreFile
    reports: list[EvaluationReport]


def _is_score_file(output: str | None) -> bool:
    return output is not None and Path(output).suffix in (".h5", ".npz", ".txt")


def _shared_runs(paths: Sequence[Path]) -> list[str]:
    names = [set(run_names(path)) if path.is_dir() else {""} for path in paths]
    several = [str(path) for path, found in zip(paths, names, strict=True) if found - {""}]
    if several and {""} in names:
        raise ValueError(
            f"{several[0]} holds runs of several splits and seeds, which can be fused with such "
            "folders only. Name one of its runs."
        )
    shared = sorted(set.intersection(*names))
    if not shared:
        raise ValueError(
            f"{', '.join(map(str, paths))} have no finished run of the same split and seed."
        )
    return shared


def _fuse_run(
    name: str,
    paths: Sequence[Path],
    weights: Sequence[float] | None,
    on: str,
    labels: str | None,
    class_names: str | None,
) -> _Result:
    import numpy as np

    from tfvlad.evaluation import (
        ScoreFile,
        align_files,
        align_scores,
        evaluate_scores,
        fuse_scores,
        read_scores,
    )

    files = [read_scores(path / name / "scores.npz" if path.is_dir() else path) for path in paths]
    files = [_without_suffixes(file) for file in files]
    names = read_class_names(class_names) if class_names else None
    truth = None
    if labels:
        truth = _read_truth(labels, names, files[0].scores.shape[1])
        files = [_named(*pair, truth, labels) for pair in zip(files, paths, strict=True)]
    files = align_files(files)
    truth = truth or _known_truth(files, names)
    scores = fuse_scores([file.scores for file in files], weights, on, truth.labels.ndim == 2)
    files.append(replace(files[0], scores=scores))
    if truth.clips is not None:
        missing_score = -np.inf if truth.is_charades else None
        files = [align_scores(file, truth.clips, missing_score=missing_score) for file in files]
    reports = [
        evaluate_scores(
            file.scores, truth.labels, truth.class_names, unlabeled_last=truth.is_charades
        )
        for file in files
    ]
    fused = ScoreFile(files[-1].scores, truth.clips, truth.labels, truth.class_names)
    return _Result(name, fused, reports)


def _without_suffixes(file: ScoreFile) -> ScoreFile:
    return replace(file, clips=file.clips and tuple(map(clip_name, file.clips)))


def _read_truth(labels: str, names: tuple[str, ...] | None, num_classes: int) -> _Truth:
    is_charades = labels.lower().endswith(".csv")
    if is_charades:
        records = read_charades_labels(labels, num_classes)
        listed = Path(labels).parent / "Charades_v1_classes.txt"
        names = names or (read_class_names(str(listed)) if listed.is_file() else None)
    else:
        records = read_class_list(labels, num_classes, names)
    return _Truth(
        tuple(clip_name(record.path) for record in records),
        label_array(records, num_classes, multi_label=is_charades),
        names or tuple(map(str, range(num_classes))),
        is_charades,
    )


def _named(file: ScoreFile, path: Path, truth: _Truth, labels: str) -> ScoreFile:
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
        raise ValueError("The score files hold no labels. Give --labels, the list of the clips.")
    names = names or next((file.class_names for file in files if file.class_names), None)
    num_classes = files[0].scores.shape[1]
    return _Truth(files[0].clips, labels, names or tuple(map(str, range(num_classes))))


def _mean_metrics(results: Sequence[_Result]) -> list[dict[str, Any]]:
    """Of each file and of the fused scores, over the runs."""
    if len(results) == 1:
        return [report.metrics for report in results[0].reports]
    return [
        {
            name: sum(report.metrics[name] for report in reports) / len(reports)
            for name in _MEASURES
            if name in reports[0].metrics
        }
        for reports in zip(*(result.reports for result in results), strict=True)
    ]


def _table(
    rows: Sequence[str], results: Sequence[_Result], means: Sequence[dict[str, Any]]
) -> Table:
    from rich.table import Table

    measures = [name for name in _MEASURES if name in means[0]]
    table = Table("run", "scores") if len(results) > 1 else Table("scores")
    for name in (*measures, "clips"):
        table.add_column(name.replace("_", " "), justify="right")
    parts = {result.name: [one.metrics for one in result.reports] for result in results}
    if len(results) > 1:
        parts["mean"] = list(means)
    for part, metrics in parts.items():
        for row, found in zip(rows, metrics, strict=True):
            figures = [f"{100 * found[name]:.2f}" for name in measures]
            cells = (row, *figures, str(found.get("num_clips", "")))
            table.add_row(*((part, *cells) if len(results) > 1 else cells))
        table.add_section()
    return table


def _write_folder(root: Path, results: Sequence[_Result], settings: dict[str, Any]) -> None:
    """A folder as `tfvlad train` writes it, with what was fused in fusion.json."""
    from tfvlad.evaluation import write_report, write_scores

    root.mkdir(parents=True, exist_ok=True)
    (root / "fusion.json").write_text(json.dumps(settings, indent=2) + "\n")
    for name, fused, reports in results:
        write_report(root / name, reports[-1])
        write_scores(root / name / "scores.npz", fused)
        split, _, seed = name.removeprefix("split").partition("-seed")
        result = {"run": str(root / name), "split": split, "seed": seed, "seconds": 0.0}
        result["stages"] = [reports[-1].metrics]
        (root / name / "result.json").write_text(json.dumps(result, indent=2) + "\n")
