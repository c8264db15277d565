"""`tfvlad compare`: the difference of two models on the same test clips."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("first", type=click.Path(exists=True, file_okay=False))
@click.argument("second", type=click.Path(exists=True, file_okay=False))
@click.option("--stage", type=int, help="Compare the models after this stage; the last by default.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def compare(first: str, second: str, stage: int | None, as_json: bool) -> None:
    """Paired difference of top-1 accuracy, SECOND minus FIRST, with its 95 % interval.

    FIRST and SECOND are folders that `tfvlad train` has written, with the same splits and seeds:
    each run is paired with the other's on the same test clips. The interval comes from resampling
    the clips; a clip's outcomes are averaged over the seeds first.

    \b
    Example:
      tfvlad compare runs/average-pooling runs/action-vlad
    """
    import numpy as np

    from tfvlad.evaluation import paired_difference, top_k_correct

    outcomes: list[list[np.ndarray]] = [[], []]
    splits: list[np.ndarray] = []
    clips: list[np.ndarray] = []
    names = [_run_names(Path(folder)) for folder in (first, second)]
    shared = sorted(set(names[0]) & set(names[1]))
    if not shared:
        raise ValueError(
            f"'{first}' and '{second}' have no finished run of the same split and seed."
        )
    for name in shared:
        pair = [_scores(Path(folder) / name, stage) for folder in (first, second)]
        if not np.array_equal(pair[0]["clips"], pair[1]["clips"]):
            raise ValueError(f"The runs '{name}' were tested on different clips.")
        for found, scores in zip(outcomes, pair, strict=True):
            found.append(top_k_correct(scores["logits"], scores["labels"]).astype(float))
        split = name.partition("-")[0] or "run"
        splits.append(np.full(len(pair[0]["clips"]), split))
        clips.append(np.array([f"{split}/{clip}" for clip in pair[0]["clips"]]))
    means = [float(np.mean(np.concatenate(found))) for found in outcomes]
    difference = paired_difference(
        np.concatenate(outcomes[1]),
        np.concatenate(outcomes[0]),
        splits=np.concatenate(splits),
        clips=np.concatenate(clips),
    )
    result = {
        "first": means[0],
        "second": means[1],
        "difference": difference.mean,
        "interval": [difference.low, difference.high],
        "runs": len(shared),
    }
    if as_json:
        click.echo(json.dumps(result))
        return
    click.echo(
        f"{first}: {100 * means[0]:.1f} %   {second}: {100 * means[1]:.1f} %   "
        f"difference {100 * difference.mean:+.1f} points "
        f"[{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]   ({len(shared)} runs)"
    )


def _run_names(folder: Path) -> list[str]:
    if (folder / "scores.npz").exists():
        return [""]
    return [path.parent.name for path in folder.glob("split*-seed*/scores.npz")]


def _scores(folder: Path, stage: int | None) -> dict:
    import numpy as np

    if stage is not None and not (folder / f"stage{stage}.keras").exists():
        raise ValueError(f"'{folder}' has no stage {stage}. Leave --stage out to take the last.")
    staged = folder / f"stage{stage}" / "scores.npz"
    path = staged if stage is not None and staged.exists() else folder / "scores.npz"
    with np.load(path) as arrays:
        return dict(arrays)
