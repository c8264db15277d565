"""`tfvlad ablation`: variants of a model over splits and seeds, as a table and a picture."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import click

from tfvlad_cli.data_options import data_options, given_data, seeds_option, splits_option
from tfvlad_cli.options import given, json_option, only
from tfvlad_cli.training_options import given_settings, video_settings_options

# Those of the library; the four of TA-VLAD's paper first.
VARIANTS = (
    *("action-vlad", "vlad-gru", "ta-action-vlad", "ta-vlad", "bidirectional", "flattened-gru"),
    *("separate-grus", "frozen-attention", "fixed-centers", "average-pooling", "max-pooling"),
)
# The model is that of the variant's name.
_NOT_OF_A_VARIANT = {"model", "no_cache"}


class NamedVariant(NamedTuple):
    """What `--variant` says: its text, a variant of the library, and what is changed in that."""

    text: str
    name: str
    changes: dict[str, Any]


class VariantType(click.ParamType):
    """`NAME` or `NAME:option=value,...`, the options being those of `tfvlad train`."""

    name = "variant"

    def convert(self, value: Any, parameter: Any, context: click.Context | None) -> NamedVariant:
        name, _, texts = str(value).partition(":")
        if name not in VARIANTS:
            self.fail(f"{name!r} is none of {', '.join(VARIANTS)}.", parameter, context)
        options = click.command()(video_settings_options(lambda: None)).params
        changes = {}
        for text in texts.split(",") if texts else ():
            key, equals, word = text.partition("=")
            option = next((found for found in options if f"--{key}" in found.opts), None)
            if option is None or not equals or option.name in _NOT_OF_A_VARIANT:
                self.fail(f"{text!r} is no option=value for one variant.", parameter, context)
            words = word.split() if option.nargs > 1 else word
            changes[str(option.name)] = option.type.convert(words, option, context)
        return NamedVariant(str(value), name, changes)


@click.command()
@click.argument("data", type=click.Path(exists=True))
@click.argument("folder", type=click.Path(file_okay=False))
@data_options
@click.option(
    "--variant",
    "variants",
    multiple=True,
    type=VariantType(),
    help="May be repeated; the first one is what the others are compared with. "
    f"One of {', '.join(VARIANTS)}, with options of `tfvlad train` if wanted: "
    f"action-vlad:clusters=256.  [default: {', '.join(VARIANTS[:4])}]",
)
@splits_option
@seeds_option
@video_settings_options
@json_option
@click.pass_context
def ablation(context: click.Context, data: str, folder: str, as_json: bool, **_: Any) -> None:
    """Train variants of a model on the videos in DATA, over splits and seeds, and compare them.

    The options of `tfvlad train` hold for all variants that have them. FOLDER gets a folder of runs
    for each variant, as `tfvlad train` writes it, with the features shared, and ablation.csv,
    ablation.json and ablation.png: the mean test top-1 accuracy, its spread over the runs, and the
    paired difference from the first variant with its 95 % interval. If it is stopped, give the same
    command again and it continues; variants may be added to it.

    \b
    Example:
      tfvlad ablation jhmdb/videos study/ --lists jhmdb/splits --split 1 --split 2 --split 3 \\
        --seed 0 --seed 1 --seed 2 --epochs 15 0
    """
    from tfvlad import studies

    settings = given_settings(context)
    named = settings.pop("variants", None)
    options = only(given(context), {"splits", "seeds"})
    if named:
        options["variants"] = [
            studies.Variant(text, {**studies.VARIANTS[name].changes, **changes})
            for text, name, changes in named
        ]
    found = studies.ablation(data, folder, **options, **given_data(context), **settings)
    if as_json:
        click.echo(json.dumps(found.to_dict()))
    else:
        from rich.console import Console

        from tfvlad_cli.tables import ablation_table

        Console().print(ablation_table(found))
