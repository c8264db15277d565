"""The tables of the page `settings.md`, read from the settings themselves and from the command."""

import inspect
import re
from dataclasses import Field, fields

import click

from tfvlad import FeatureSettings, VideoSettings
from tfvlad_cli.train import train

_IN_A_CHECKOUT = re.compile(r"<!-- in a checkout -->.*<!-- on the website: the tables -->", re.S)
_HEADINGS = {
    VideoSettings: "Models that learn from videos: `VideoSettings`",
    FeatureSettings: "Models that learn from features: `FeatureSettings`",
}
# Options of a setting that have another name in the command.
_OTHER_NAMES = {"seed": "seeds", "num_cached_crops": "no_cache"}
_BOUNDS = {"minimum": "≥", "above": ">", "maximum": "≤", "below": "<"}


def with_tables(markdown: str) -> str:
    """The page with its tables in the place of what is for readers of a checkout."""
    return _IN_A_CHECKOUT.sub(lambda _: "\n\n".join(map(table, _HEADINGS)), markdown)


def table(kind: type) -> str:
    """A row for each setting: its name, its option, its default, its values, its meaning."""
    head = "setting", "option", "default", "allowed", "meaning"
    meanings = _meanings(kind)
    rows = [
        (f"`{one.name}`", _options(one), _shown(one.default), _allowed(one), meanings[one.name])
        for one in fields(kind)
    ]
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join([f"## {_HEADINGS[kind]}", "", *lines])


def _meanings(kind: type) -> dict[str, str]:
    """From each setting to what the docstring says of it."""
    docstring = inspect.getdoc(kind) or ""
    arguments = docstring.partition("\nArgs:\n")[2].partition("\n\n")[0]
    found = re.findall(r"^    (\w+): (.*(?:\n     .*)*)", arguments, re.M)
    return {name: " ".join(text.split()) for name, text in found}


def _options(one: Field) -> str:
    names = (one.name, _OTHER_NAMES.get(one.name))
    options = {option.name: option for option in train.params if isinstance(option, click.Option)}
    flags = [
        flag
        for name in names
        if name in options
        for flag in (*options[name].opts, *options[name].secondary_opts)
    ]
    return ", ".join(f"`{flag}`" for flag in flags)


def _allowed(one: Field) -> str:
    rule, kind = one.metadata, str(one.type)
    found = [_shown(choice) for choice in rule.get("choices", ())]
    bounds = [f"{sign} {rule[name]}" for name, sign in _BOUNDS.items() if name in rule]
    if bounds:
        number = "whole number" if "int" in kind else "number"
        number = f"two {number}s" if "tuple" in kind else f"a {number}"
        found.append(f"{number} {' and '.join(bounds)}")
    elif kind.startswith("bool"):
        found += [_shown(True), _shown(False)]
    elif not found:
        found.append("a text")
    if "None" in kind:
        found.append(_shown(None))
    *others, last = found
    return f"{', '.join(others)} or {last}" if others else last


def _shown(value: object) -> str:
    return f'`"{value}"`' if isinstance(value, str) else f"`{value!r}`"
