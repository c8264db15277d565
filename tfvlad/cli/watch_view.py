"""What `tfvlad watch` shows: bars in a terminal, lines in a file, words on the frames."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import click
import cv2
import numpy as np
from rich.bar import Bar
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

_NUM_SHOWN = 5
_BAR_WIDTH = 30
# Smaller pictures leave no room for words.
_PICTURE_SIDE = 448
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)


class Moment(NamedTuple):
    """What the model makes of the video so far.

    Args:
        seconds: time of the frame from the first one.
        frame: that the model has just seen, RGB, uint8 `(H, W, 3)`.
        probabilities: of the classes, `(C,)`.
        attention: where it looked, `(h, w)`, if the model tells it.
        frames_per_second: that the model looks at, lately.
        num_dropped: frames that came while it was busy.
    """

    seconds: float
    frame: np.ndarray
    probabilities: np.ndarray
    attention: np.ndarray | None
    frames_per_second: float
    num_dropped: int


@contextmanager
def open_view(class_names: Sequence[str], *, as_json: bool) -> Iterator[Callable[[Moment], None]]:
    """A function that shows moments: on a terminal in place, else as lines."""
    if as_json:
        yield lambda moment: click.echo(json.dumps(_description(moment, class_names)))
    elif sys.stdout.isatty():
        with Live(console=Console(), auto_refresh=False) as live:
            yield lambda moment: live.update(_bars(moment, class_names), refresh=True)
    else:
        yield _every_second(class_names)


def _every_second(class_names: Sequence[str]) -> Callable[[Moment], None]:
    """A line for the first moment of each second."""
    last = -1

    def show(moment: Moment) -> None:
        nonlocal last
        if int(moment.seconds) > last:
            last = int(moment.seconds)
            found = ", ".join(f"{name} {100 * p:.1f} %" for name, p in _best(moment, class_names))
            click.echo(f"{moment.seconds:7.1f} s  {found}")

    return show


def _best(moment: Moment, class_names: Sequence[str]) -> list[tuple[str, float]]:
    order = np.argsort(-moment.probabilities, kind="stable")[:_NUM_SHOWN]
    return [(class_names[i], float(moment.probabilities[i])) for i in order]


def _description(moment: Moment, class_names: Sequence[str]) -> dict[str, object]:
    return {
        "seconds": round(moment.seconds, 3),
        "top": [
            {"class": name, "probability": round(probability, 6)}
            for name, probability in _best(moment, class_names)
        ],
        "frames_per_second": round(moment.frames_per_second, 2),
        "num_dropped": moment.num_dropped,
    }


def _bars(moment: Moment, class_names: Sequence[str]) -> Group:
    table = Table.grid(padding=(0, 1))
    for name, probability in _best(moment, class_names):
        bar = Bar(1.0, 0.0, probability, width=_BAR_WIDTH, color="green")
        table.add_row(Text(name), bar, f"{100 * probability:5.1f} %")
    state = (
        f"{moment.seconds:.1f} s   {moment.frames_per_second:.1f} frames a second   "
        f"{moment.num_dropped} dropped   Ctrl-C ends"
    )
    return Group(table, Text(state, style="dim"))


def annotated(moment: Moment, class_names: Sequence[str]) -> np.ndarray:
    """The frame under its attention, enlarged, and the most probable class, RGB, uint8."""
    height, width = moment.frame.shape[:2]
    factor = -(-_PICTURE_SIDE // min(height, width))
    size = width * factor, height * factor
    picture = cv2.resize(moment.frame, size, interpolation=cv2.INTER_LINEAR)
    if moment.attention is not None:
        weights = moment.attention / max(float(moment.attention.max()), 1e-12)
        grey = cv2.resize((255 * weights).astype(np.uint8), size, interpolation=cv2.INTER_CUBIC)
        heat = cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO)[..., ::-1]
        picture = cv2.addWeighted(picture, 0.6, heat, 0.4, 0)
    ((name, probability),) = _best(moment, class_names)[:1]
    text = f"{name} {100 * probability:.0f} %"
    (text_width, text_height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 2)
    scale = min(1.0, (size[0] - 20) / text_width)
    band = round(scale * (text_height + below)) + 20
    cv2.rectangle(picture, (0, 0), (size[0], band), _BLACK, cv2.FILLED)
    place = (10, 10 + round(scale * text_height))
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, _WHITE, 2, cv2.LINE_AA)
    return picture
