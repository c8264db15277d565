"""What the commands' options share: which were given, and how they are shown and refused."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable)
Decorator = Callable[[Function], Function]


def decorated(options: tuple[Decorator, ...]) -> Decorator:
    """A decorator that adds options in their order."""

    def add(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return add


def shown(text: str, default: object) -> str:
    """The help of an option whose default is the library's."""
    return f"{text}  [default: {default}]"


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def given(context: click.Context, *without: str) -> dict[str, Any]:
    """The options that the command line has, by the names of the library's arguments.

    An option that was not given is left to the library, whose defaults are then in force.

    Args:
        context: of the running command.
        without: names of options that are the command's own.
    """
    return {
        str(parameter.name): context.params[str(parameter.name)]
        for parameter in context.command.params
        if isinstance(parameter, click.Option)
        and parameter.name not in without
        and context.get_parameter_source(str(parameter.name)) is _COMMAND_LINE
    }


_COMMAND_LINE = click.core.ParameterSource.COMMANDLINE


def flags_of(command: click.Command) -> dict[str, str]:
    """From the names of the library's arguments to the flags, or words, that a user has typed."""
    flags = {}
    for parameter in command.params:
        name = str(parameter.name)
        flags[name] = name.upper()
        if isinstance(parameter, click.Option):
            # Of an option that may be repeated, the library also has the singular.
            word = parameter.opts[0].removeprefix("--").replace("-", "_")
            flags[name] = flags[word] = parameter.opts[0]
    return flags


class Words(click.Choice):
    """A choice that is written with hyphens, and passed on with underscores."""

    def __init__(self, *words: str):
        super().__init__([word.replace("_", "-") for word in words])

    def convert(self, value: Any, parameter: Any, context: click.Context | None) -> str:
        return str(super().convert(value, parameter, context)).replace("-", "_")


class Numbers(click.Choice):
    """A choice of whole numbers."""

    def __init__(self, *numbers: int):
        super().__init__([str(number) for number in numbers])

    def convert(self, value: Any, parameter: Any, context: click.Context | None) -> int:
        return int(super().convert(str(value), parameter, context))


class NumberOr(click.ParamType):
    """A positive number, or a word."""

    name = "number"

    def __init__(self, word: str):
        self.word = word

    def convert(self, value: Any, parameter: Any, context: click.Context | None) -> float | str:
        written = self.word.replace("_", "-")
        if value in (written, self.word):
            return self.word
        try:
            number = float(value)
        except ValueError:
            number = 0.0
        if not 0 < number < float("inf"):
            self.fail(f'{value!r} is neither a positive number nor "{written}".')
        return number


class FileOr(click.Path):
    """A file that exists, or one of some words, of which "none" stands for None."""

    def __init__(self, *words: str):
        super().__init__(exists=True, dir_okay=False)
        self.words = words

    def convert(self, value: Any, parameter: Any, context: click.Context | None) -> Any:
        if value in self.words:
            return None if value == "none" else value
        return super().convert(value, parameter, context)


def only(values: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    """Those of the values that have one of the names."""
    return {name: value for name, value in values.items() if name in names}


def refuse_options(names: Collection[str | None], why: str) -> None:
    """Refuse options of the running command that were given and would do nothing.

    Raises:
        ValueError: when one of them was given.
    """
    context = click.get_current_context()
    flags = flags_of(context.command)
    for name in given(context):
        if name in names:
            raise ValueError(f"{flags[name]} has no effect on {why}. Leave it out.")
