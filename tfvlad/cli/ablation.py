"""`tfvlad ablation`: variants of a model over splits and seeds, as a table and a picture."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import click

from tfvlad.cli.data import lists_option, refuse_options
from tfvlad.cli.train_options import parameters_of, shared_options, video_options

# What each row of the two papers' studies changes in `tfvlad train`.
VARIANTS: dict[str, dict[str, Any]] = {
    "action-vlad": {"model_name": "action-vlad", "attention": False},
    "vlad-gru": {"model_name": "ta-vlad", "attention": False},
    "ta-action-vlad": {"model_name": "action-vlad", "attention": True},
    "ta-vlad": {"model_name": "ta-vlad", "attention": True},
    "bidirectional": {"model_name": "ta-vlad", "attention": True, "bidirectional": True},
    "flattened-gru": {"model_name": "ta-vlad", "attention": True, "temporal": "flattened_gru"},
    "separate-grus": {"model_name": "ta-vlad", "attention": True, "temporal": "separate_grus"},
    "frozen-attention": {"model_name": "ta-vlad", "attention": True, "freeze_attention": True},
    "fixed-centers": {"model_name": "action-vlad", "attention": False, "fixed_centers": True},
    "average-pooling": {"model_name": "average-pooling"},
    "max-pooling": {"model_name": "max-pooling"},
}
# What tells variants apart, and what has to be the same for all of them.
_OF_A_VARIANT = {
    *("attention", "bidirectional", "temporal", "intra_normalize"),
    *("freeze_attention", "fixed_centers", "fusion", "flow"),
}
_SHARED_BY_ALL = {
    *("stream", "flow", "fusion", "cache", "no_cache", "test_data", "max_broken"),
    *("test_crops", "test_clips", "one_bag", "validation_fraction"),
}
_OF_A_MODEL = {
    *("num_clusters", "alpha", "units", "attention"),
    *("bidirectional", "temporal", "intra_normalize"),
}
_FOUR = ("action-vlad", "vlad-gru", "ta-action-vlad", "ta-vlad")


class _Variant(click.ParamType):
    """`NAME` or `NAME:option=value,...`, the options being those of `tfvlad train`."""

    name = "variant"

    def convert(self, value: Any, parameter: Any, context: click.Context | None) -> Any:
        try:
            return str(value), variant_options(str(value), context)
        except ValueError as error:
            self.fail(str(error), parameter, context)


def variant_options(variant: str, context: click.Context | None = None) -> dict[str, Any]:
    """What a variant changes in the options of `tfvlad train`.

    Args:
        variant: `NAME` or `NAME:option=value,...`, as `tfvlad ablation --variant` has it.
        context: of the running command.

    Raises:
        ValueError: there is no such variant or option.
        click.BadParameter: the value does not fit the option.
    """
    from tfvlad.cli.run_folder import options_of

    name, _, texts = variant.partition(":")
    if name not in VARIANTS:
        raise ValueError(f"{name!r} is none of {', '.join(VARIANTS)}.")
    parameters = [*parameters_of(shared_options), *parameters_of(video_options)]
    options = dict(VARIANTS[name])
    for text in texts.split(",") if texts else ():
        key, equals, value = text.partition("=")
        option = next((found for found in parameters if f"--{key}" in found.opts), None)
        if option is None or not equals or option.multiple or option.name in _SHARED_BY_ALL:
            raise ValueError(f"{text!r} is no option=value of `tfvlad train` for one variant.")
        context = context or click.Context(click.command()(lambda: None))
        values = value.split() if option.nargs > 1 else value
        chosen = option.type.convert(values, option, context)
        options[str(option.name)] = (
            option.callback(context, option, chosen) if option.callback else chosen
        )
        known = options_of(options["model_name"])
        if option.name in _OF_A_MODEL - known:
            raise ValueError(f"{text!r} has no effect on {name}.")
    return options


@click.command()
@click.argument("data", type=click.Path(exists=True))
@click.argument("folder", type=click.Path(file_okay=False))
@lists_option
@click.option(
    "--variant",
    "variants",
    multiple=True,
    type=_Variant(),
    default=_FOUR,
    show_default=True,
    help="May be repeated; the first one is what the others are compared with. "
    f"One of {', '.join(VARIANTS)}, with options of `tfvlad train` if wanted: "
    "action-vlad:clusters=256.",
)
@shared_options
@video_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
def ablation(
    data: str,
    folder: str,
    variants: tuple[tuple[str, dict[str, Any]], ...],
    splits: tuple[int, ...],
    seeds: tuple[int, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Train variants of a model on the videos in DATA, over splits and seeds, and compare them.

    The options of `tfvlad train` hold for all variants that have them. FOLDER gets a folder of runs
    for each variant, as `tfvlad train` writes it, with the features shared, and ablation.csv,
    ablation.json and ablation.png: the mean test top-1 accuracy, its spread over the runs, and the
    paired difference from the first variant with its 95 % interval. An ablation that was killed
    goes on with the same command, and variants may be added to it.

    \b
    Example:
      tfvlad ablation jhmdb/videos study/ --lists jhmdb/splits --split 1 --split 2 --split 3 \\
        --seed 0 --seed 1 --seed 2 --epochs 15 0
    """
    import keras
    from rich.console import Console

    from tfvlad.cli.ablation_report import run_folder, study_rows, study_table, write_study
    from tfvlad.cli.run_folder import check_is_free
    from tfvlad.cli.train import check_splits, complete_options
    from tfvlad.cli.training_run import check_video_options, train_one

    refuse_options(_OF_A_VARIANT, "an ablation: its variants say it, --variant NAME:option=value")
    options["model_name"] = "ta-vlad"
    complete_options(options, data)
    check_video_options(options)
    check_splits(options["lists"], splits)
    chosen = {name: {**options, **changes} for name, changes in variants}
    for variant in chosen.values():
        complete_options(variant, data)
    if len({variant["epochs"][1] > 0 for variant in chosen.values()}) > 1:
        raise ValueError("All variants must have as many stages: give --epochs to all of them.")
    console = Console(stderr=as_json)
    root = Path(folder)
    check_is_free(root, "*/split*-seed*/config.json")
    jobs = list(itertools.product(dict.fromkeys(seeds), dict.fromkeys(splits), chosen))
    for number, (seed, split, name) in enumerate(jobs, 1):
        console.print(f"[bold]{name}, split {split}, seed {seed}[/bold] ({number} of {len(jobs)})")
        keras.backend.clear_session()  # the memory of the models before
        train_one(
            data,
            run_folder(root, name) / f"split{split}-seed{seed}",
            root=root,
            split=split,
            seed=seed,
            console=console,
            skip_finished=True,
            **chosen[name],
        )
    names = list(dict.fromkeys(f"split{split}-seed{seed}" for seed, split, _ in jobs))
    rows = study_rows(root, list(chosen), names)
    write_study(rows, root)
    console.print(study_table(rows))
    if as_json:
        click.echo(json.dumps({"variants": [row._asdict() for row in rows]}))
