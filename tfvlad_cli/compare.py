"""`tfvlad compare`: the difference of two models on the same test clips."""

from __future__ import annotations

import json

import click

from tfvlad_cli.options import json_option


@click.command()
@click.argument("first", type=click.Path(exists=True, file_okay=False))
@click.argument("second", type=click.Path(exists=True, file_okay=False))
@click.option(
    "--stage",
    type=click.IntRange(min=1),
    help="Compare the models after this stage; the last by default.",
)
@json_option
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
    from tfvlad import studies

    (found,) = studies.compare([first, second], stage).differences
    mean, low, high = found.difference
    if as_json:
        result = {
            "first": found.first_top1,
            "second": found.top1,
            "difference": mean,
            "interval": [low, high],
            "runs": found.num_runs,
            "shared_runs": found.num_shared_runs,
        }
        click.echo(json.dumps(result))
        return
    click.echo(
        f"{first}: {100 * found.first_top1:.1f} %   {second}: {100 * found.top1:.1f} %   "
        f"difference {100 * mean:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]   "
        f"({found.num_runs} of {found.num_shared_runs} runs)"
    )
