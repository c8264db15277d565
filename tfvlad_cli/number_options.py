"""Options of several numbers."""

from __future__ import annotations

import click


class CommandWithWeights(click.Command):
    """Takes `--weights 0.3 0.7` for `--weights 0.3 --weights 0.7`."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        spread: list[str] = []
        in_weights = False
        for arg in args:
            if not (in_weights and _is_number(arg)):
                in_weights = arg.startswith("--weights")
            elif spread[-1] != "--weights":
                spread.append("--weights")
            spread.append(arg)
        return super().parse_args(context, spread)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
