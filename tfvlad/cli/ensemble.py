"""`tfvlad ensemble`: the class probabilities of several runs, averaged."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False))
@click.option("--output", required=True, type=click.Path(file_okay=False), help="A new folder.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def ensemble(runs: tuple[str, ...], output: str, as_json: bool) -> None:
    """Average the class probabilities of RUNS on the test clips that they share.

    RUNS are folders that `tfvlad train` or `tfvlad evaluate` has written; where they hold several
    splits and seeds, runs of the same split and seed go together. OUTPUT gets the same folders with
    scores and measures, for `tfvlad compare` and for further ensembles.

    \b
    Example:
      tfvlad ensemble runs/objects runs/scenes runs/actions --output runs/ensemble
    """
    import numpy as np
    from rich.console import Console

    from tfvlad.cli.compare import load_scores, run_names
    from tfvlad.cli.run_folder import check_is_free, save_scores
    from tfvlad.cli.training_run import summary_table
    from tfvlad.evaluation import average_probabilities

    if len(runs) < 2:
        raise ValueError(f"An ensemble needs at least two runs. Received: {' '.join(runs)}.")
    folders = [Path(run) for run in runs]
    names = sorted(set.intersection(*(set(run_names(folder)) for folder in folders)))
    if not names:
        raise ValueError(f"{', '.join(runs)} have no finished run of the same split and seed.")
    root = Path(output)
    check_is_free(root, "ensemble.json")
    root.mkdir(parents=True, exist_ok=True)
    (root / "ensemble.json").write_text(json.dumps({"runs": list(runs)}, indent=2) + "\n")
    results = []
    for name in names:
        scores = [load_scores(folder / name) for folder in folders]
        shared = ("clips", "labels", "class_names")
        for other in scores[1:]:
            same = all(np.array_equal(scores[0][key], other[key]) for key in shared)
            if not same:
                raise ValueError(f"The runs '{name or runs[0]}' were tested on different clips.")
        logits = [one["logits"] for one in scores]
        multi_label = scores[0]["labels"].ndim == 2
        report = save_scores(
            root / name,
            average_probabilities(logits, multi_label=multi_label),
            scores[0]["labels"],
            scores[0]["clips"].tolist(),
            scores[0]["class_names"].tolist(),
        )
        split, _, seed = name.removeprefix("split").partition("-seed")
        result = {"run": str(root / name), "split": split, "seed": seed, "seconds": 0.0}
        results.append({**result, "stages": [report.metrics]})
        (root / name / "result.json").write_text(json.dumps(results[-1], indent=2) + "\n")
    console = Console(stderr=as_json)
    console.print(summary_table(results))
    num_runs = max(len(run_names(folder)) for folder in folders)
    if len(names) < num_runs:
        console.print(f"{len(names)} of {num_runs} splits and seeds are in all of the runs.")
    if as_json:
        click.echo(json.dumps({"runs": results}))
