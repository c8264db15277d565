"""The progress of what takes long, and the only place that shows it.

A terminal and a notebook get a bar, everything else, such as the log of a job, a line now and then.
"""

from __future__ import annotations

import io
import logging
import operator
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")

_BAR_SECONDS = 0.5
_LINE_SECONDS = 30.0
_BAR_FORMAT = "{desc} {bar} {n_fmt}/{total_fmt}, {remaining} left, {rate_noinv_fmt}{postfix}"
_LINE_FORMAT = (
    "{desc}: {n_fmt}/{total_fmt} after {elapsed}, {remaining} left, {rate_noinv_fmt}{postfix}"
)

_logger = logging.getLogger(__name__)


class ProgressBar(tqdm):
    """How much is done, on the standard error stream: `update(n)`, `set_postfix_str(text)`."""

    monitor_interval = 0  # no thread that watches bars


class _Lines(ProgressBar):
    """The same as lines through logging."""

    shown: float | None = None

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if msg is None and self.n not in (self.initial, self.shown):
            self.shown = self.n
            _logger.info("%s", str(self))  # as it is now


def progress_bar(
    description: str,
    total: int | None = None,
    *,
    done: int = 0,
    transient: bool = False,
    disable: bool = False,
) -> ProgressBar:
    """A context manager that shows how much is done, the rate and the time that remains.

    In a log a line is written every 30 seconds and at the end, to the logger "pipelines.progress".

    Args:
        description: what is counted, such as "Videos".
        total: how many there are, if it is known.
        done: how many are done already.
        transient: leave nothing at the end.
        disable: show nothing.
    """
    shared: dict[str, Any] = {
        "desc": description,
        "total": total,
        "initial": done,
        "leave": not transient,
        "disable": disable or total == 0,
        "unit": "",
        "miniters": 0,
    }
    if sys.stderr.isatty() or _is_notebook():
        return ProgressBar(
            **shared,
            bar_format=_BAR_FORMAT,
            mininterval=_BAR_SECONDS,
            file=sys.stderr,
            dynamic_ncols=True,
        )
    return _Lines(**shared, bar_format=_LINE_FORMAT, mininterval=_LINE_SECONDS, file=io.StringIO())


def track(
    items: Iterable[T],
    description: str,
    total: int | None = None,
    *,
    transient: bool = False,
    disable: bool = False,
) -> Iterator[T]:
    """Yields items behind a bar; arguments are those of `progress_bar`, `total` the length."""
    if total is None:
        hint = operator.length_hint(items, -1)
        total = None if hint < 0 else hint
    with progress_bar(description, total, transient=transient, disable=disable) as bar:
        for item in items:
            yield item
            bar.update()


class MessageHandler(logging.StreamHandler):
    """Writes log messages to the standard error stream, above the bars there."""

    def createLock(self) -> None:  # noqa: N802
        # That of the bars: two threads could wait for each other's, as bars log and messages clear.
        self.lock = ProgressBar.get_lock()

    def emit(self, record: logging.LogRecord) -> None:
        ProgressBar.write(self.format(record), file=sys.stderr)


def _is_notebook() -> bool:
    return type(sys.stderr).__module__.startswith("ipykernel")
