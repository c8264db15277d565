"""What `tfvlad watch` shows: bars in a terminal, lines in a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Group

    from tfvlad.live import Moment

_BAR_WIDTH = 30


@contextmanager
def open_view(*, as_json: bool) -> Iterator[Callable[[Moment], None]]:
    """A function that shows moments: on a terminal in place, else as lines."""
    if as_json:
        yield lambda moment: click.echo(json.dumps(moment.to_dict()))
    elif sys.stdout.isatty():
        from rich.console import Console
        from rich.live import Live

        with Live(console=Console(), auto_refresh=False) as live:
            yield lambda moment: live.update(_bars(moment), refresh=True)
    else:
        yield _every_second()


def _every_second() -> Callable[[Moment], None]:
    """A line for the first moment of each second."""
    last = -1

    def show(moment: Moment) -> None:
        nonlocal last
        if int(moment.seconds) > last:
            last = int(moment.seconds)
            found = ", ".join(f"{name} {100 * p:.1f} %" for name, p in moment.top())
            click.echo(f"{moment.seconds:7.1f} s  {found}")

    return show


def _bars(moment: Moment) -> Group:
    from rich.bar import Bar
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1))
    for name, probability in moment.top():
        bar = Bar(1.0, 0.0, probability, width=_BAR_WIDTH, color="green")
        table.add_row(Text(name), bar, f"{100 * probability:5.1f} %")
    state = (
        f"{moment.seconds:.1f} s   {moment.frames_per_second:.1f} frames a second   "
        f"{moment.num_dropped} dropped   Ctrl-C ends"
    )
    return Group(table, Text(state, style="dim"))
