"""`tfvlad compare`: the difference of two models on the same test clips."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

if TYPE_CHECKING:
    import numpy as np

    from tfvlad.evaluation import Estimate


@click.command()
@click.argument("first", type=click.Path(exists=True, file_okay=False))
@click.argument("second", type=click.Path(exists=True, file_okay=False))
@click.option(
    "--stage",
    type=click.IntRange(min=1),
    help="Compare the models after this stage; the last by default.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def compare(first: str, second: str, stage: int | None, as_json: bool) -> None:
    """Paired difference of top-1 accuracy, SECOND minus FIRST, with its 95 % interval.

    FIRST and SECOND are folders that `tfvlad train` has written, with the same splits and seeds:
    each run is paired with the other's on the same test clips. Accuracies are averaged over the
    splits. The interval comes from resampling the clips; a clip's outcomes are averaged over the
    seeds first.

    \b
    Example:
      tfvlad compare runs/average-pooling runs/action-vlad
    """
    found = compare_runs(Path(first), Path(second), stage)
    difference = found.difference
    if as_json:
        result = {
            "first": found.first,
            "second": found.second,
            "difference": difference.mean,
            "interval": [difference.low, difference.high],
            "runs": found.num_runs,
            "shared_runs": found.num_shared_runs,
        }
        click.echo(json.dumps(result))
        return
    click.echo(
        f"{first}: {100 * found.first:.1f} %   {second}: {100 * found.second:.1f} %   "
        f"difference {100 * difference.mean:+.1f} points "
        f"[{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]   "
        f"({found.num_runs} of {found.num_shared_runs} runs)"
    )


class Comparison(NamedTuple):
    """Mean top-1 accuracies of two folders of runs, and their paired difference."""

    first: float
    second: float
    difference: Estimate
    num_runs: int
    num_shared_runs: int


def compare_runs(
    first: Path, second: Path, stage: int | None = None, names: Sequence[str] | None = None
) -> Comparison:
    """Compares the runs of the same split and seed in two folders, see `compare`.

    Args:
        first: folder of runs.
        second: folder of runs.
        stage: number of the stage; the last by default.
        names: of the runs; all that both folders have by default.

    Raises:
        ValueError: there are none, or they were tested on different clips.
    """
    import numpy as np

    from tfvlad.cli.data import short_clip_name
    from tfvlad.evaluation import paired_difference, top_k_correct

    folders = first, second
    shared = sorted(names or set(run_names(first)) & set(run_names(second)))
    if not shared:
        raise ValueError(
            f"'{first}' and '{second}' have no finished run of the same split and seed."
        )
    names = _with_stage(folders, shared, stage)
    outcomes: list[list[np.ndarray]] = [[], []]
    splits: list[str] = []
    clips: list[str] = []
    for name in names:
        pair = [load_scores(folder / name, stage) for folder in folders]
        tested = [list(map(str, scores["clips"])) for scores in pair]
        if not all("/" in clip for one in tested for clip in one):
            # Earlier runs hold file names alone.
            tested = [[short_clip_name(clip) for clip in one] for one in tested]
        same_labels = np.array_equal(pair[0]["labels"], pair[1]["labels"])
        if tested[0] != tested[1] or not same_labels:
            raise ValueError(f"The runs '{name}' were tested on different clips.")
        for found, scores in zip(outcomes, pair, strict=True):
            found.append(top_k_correct(scores["logits"], scores["labels"]).astype(float))
        splits += [name.partition("-")[0]] * len(tested[0])
        clips += tested[0]
    hits = np.array([np.concatenate(found) for found in outcomes])
    difference = paired_difference(hits[1], hits[0], splits=splits, clips=clips)
    # Over the splits first, as in the difference.
    means = np.mean(
        [hits[:, np.array(splits) == split].mean(axis=1) for split in set(splits)], axis=0
    )
    return Comparison(float(means[0]), float(means[1]), difference, len(names), len(shared))


def run_names(folder: Path) -> list[str]:
    if (folder / "scores.npz").exists():
        return [""]
    return [path.parent.name for path in folder.glob("split*-seed*/scores.npz")]


def _with_stage(folders: tuple[Path, Path], names: list[str], stage: int | None) -> list[str]:
    """The runs that have the stage in both folders; all of them without one."""
    num_stages = {name: [_num_stages(folder / name) for folder in folders] for name in names}
    found = sorted({number for pair in num_stages.values() for number in pair})
    if stage is None:
        if len(found) > 1:
            raise ValueError(
                f"The runs have different numbers of stages ({', '.join(map(str, found))}). "
                f"Give --stage {found[0]} to compare them after a stage that all of them have."
            )
        return names
    chosen = [name for name in names if min(num_stages[name]) >= stage]
    if not chosen:
        raise ValueError(
            f"No run of '{folders[0]}' and '{folders[1]}' has a stage {stage} in both. "
            f"Received: --stage {stage}; the runs have {', '.join(map(str, found))} stages."
        )
    return chosen


def _num_stages(folder: Path) -> int:
    path = folder / "result.json"
    # What `tfvlad evaluate` has written has no stages.
    return len(json.loads(path.read_text())["stages"]) if path.exists() else 1


def load_scores(folder: Path, stage: int | None = None) -> dict[str, np.ndarray]:
    import numpy as np

    from tfvlad.cli.data import clip_name

    last = stage is None or stage == _num_stages(folder)
    with np.load((folder if last else folder / f"stage{stage}") / "scores.npz") as arrays:
        scores = dict(arrays)
    # Earlier runs hold names with suffixes.
    scores["clips"] = np.array([clip_name(str(name)) for name in scores["clips"]])
    return scores
