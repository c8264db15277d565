"""Lists of clips and classes without the files: what scores are tested on."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from pipelines.lists.listing import list_lines
from pipelines.lists.records import VideoRecord


def read_class_list(
    path: str | os.PathLike[str], num_classes: int, class_names: Sequence[str] | None = None
) -> tuple[VideoRecord, ...]:
    """Reads a list of videos and classes, whose files need not be there, to test scores on.

    Args:
        path: lines `<video> <class>`, as UCF101's `trainlist01.txt` has them, or `<video> <frames>
            <class>`, as ActionVLAD's code does; or `<class>/<video>`, as UCF101's `testlist01.txt`.
            Classes count from 0, or from 1 where the last one has the number `num_classes` and
            none is 0.
        num_classes: number of classes.
        class_names: their names, for lines without a number.

    Returns:
        A record a line, in order; its path is the listed name.

    Raises:
        ValueError: when the list is missing or empty, a line cannot be read, a video is listed
            twice or a class is unknown.
    """
    videos: dict[str, tuple[str, int]] = {}
    for where, line in list_lines(path):
        match = re.fullmatch(r"(.+?)(?:\s+\d+)??\s+(\d+)", line)
        video, number = (match[1], match[2]) if match else (line, None)
        folder = video.partition("/")[0]
        if number is None and folder not in (class_names or ()):
            raise ValueError(
                f"{where}: expected '<video> <class>', '<video> <frames> <class>' or, with the "
                f"classes' names, '<class>/<video>'. Received: {line!r}."
            )
        if video in videos:
            raise ValueError(f"{where}: {video} is listed twice, first in {videos[video][0]}.")
        label = list(class_names or ()).index(folder) if number is None else int(number)
        videos[video] = where, label
    if not videos:
        raise ValueError(f"{path} lists no video.")
    labels = [label for _, label in videos.values()]
    first = 1 if max(labels) == num_classes and min(labels) > 0 else 0
    for where, label in videos.values():
        if not 0 <= label - first < num_classes:
            raise ValueError(
                f"{where}: expected a class from {first} to {first + num_classes - 1}. "
                f"Received: {label}."
            )
    return tuple(VideoRecord(video, (label - first,)) for video, (_, label) in videos.items())


def read_class_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Reads the names of classes, one a line, numbered or not.

    Numbers in front of the names are dropped if they count up: `Charades_v1_classes.txt` begins
    with `c000 Holding some clothes`, UCF101's `classInd.txt` with `1 ApplyEyeMakeup`.

    Raises:
        ValueError: when the file is missing or empty.
    """
    lines = [line for _, line in list_lines(path)]
    if not lines:
        raise ValueError(f"{path} names no class.")
    numbers, names = zip(*(line.partition(" ")[::2] for line in lines), strict=True)
    for style, first in (("c{:03d}", 0), ("{}", 0), ("{}", 1)):
        if all(names) and numbers == tuple(style.format(first + i) for i in range(len(lines))):
            return tuple(name.strip() for name in names)
    return tuple(lines)
