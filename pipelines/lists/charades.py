"""The lists of Charades -> records."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from pipelines.lists.class_lists import read_class_names
from pipelines.lists.listing import Listing, warn_of_empty_classes
from pipelines.lists.records import Split, VideoRecord

_TRAIN, _TEST = "Charades_v1_train.csv", "Charades_v1_test.csv"
_CLASSES = "Charades_v1_classes.txt"
_ACTION = re.compile(r"c(\d{3}) (\d+(?:\.\d*)?) (\d+(?:\.\d*)?)")


class _Row(NamedTuple):
    where: str
    video: str
    subject: str
    length: float
    actions: tuple[tuple[int, float, float], ...]  # class, start, end in seconds


def read_charades(
    video_root: str | os.PathLike[str],
    list_folder: str | os.PathLike[str],
    segments: bool = False,
    file_suffix: str = "",
) -> Split:
    """Reads the training and test lists of Charades, a multi-label task.

    A record is a whole video with all of its classes; videos without any action stay, as the
    official measure counts them. A record's group is the person who filmed, none of whom is in
    both of the official lists.

    Args:
        video_root: folder with `<id>.mp4`.
        list_folder: folder with `Charades_v1_train.csv`, `Charades_v1_test.csv` and
            `Charades_v1_classes.txt`.
        segments: take each action's interval as a training record with this one class, instead of
            whole videos; the test records are whole videos all the same. Repeated intervals, and
            those without length within the video, are left out.
        file_suffix: appended to the listed names, see `read_hmdb51`.

    Raises:
        ValueError: when a list is missing or cannot be read, names an unknown class or a missing
            video, or a video is listed twice.

    Reference:
        Sigurdsson et al., Hollywood in Homes, ECCV 2016; 7,985 and 1,863 videos.
    """
    names = read_class_names(os.path.join(list_folder, _CLASSES))
    listing = Listing(video_root, file_suffix)
    parts: dict[str, list[VideoRecord]] = {_TRAIN: [], _TEST: []}
    for name, records in parts.items():
        for row in _rows(os.path.join(list_folder, name), len(names)):
            path = listing.add(f"{row.video}.mp4", row.where)
            group = row.subject or None
            if segments and name == _TRAIN:
                for label, start, end in dict.fromkeys(row.actions):
                    if start < (end := min(end, row.length)):
                        records.append(VideoRecord(path, (label,), start, end, group))
            else:
                records.append(VideoRecord(path, _labels(row), group=group))
    listing.check()
    warn_of_empty_classes(parts[_TRAIN], names, _TRAIN)
    return Split(tuple(parts[_TRAIN]), tuple(parts[_TEST]), names)


def read_charades_labels(
    csv_path: str | os.PathLike[str], num_classes: int = 157
) -> tuple[VideoRecord, ...]:
    """Reads the videos of a list of Charades, whose files need not be there, to test scores on.

    Args:
        csv_path: `Charades_v1_test.csv` or another list of its columns `id` and `actions`.
        num_classes: number of classes.

    Returns:
        A record a video in the order of the list; its path is the video's id.

    Raises:
        ValueError: when the list is missing or cannot be read, or a video is listed twice.
    """
    records = {
        row.video: VideoRecord(row.video, _labels(row)) for row in _rows(csv_path, num_classes)
    }
    return tuple(records.values())


def _labels(row: _Row) -> tuple[int, ...]:
    return tuple(sorted({label for label, _, _ in row.actions}))


def _rows(path: str | os.PathLike[str], num_classes: int) -> Iterator[_Row]:
    if not os.path.isfile(path):
        raise ValueError(f"The list does not exist: {path}.")
    first: dict[str, str] = {}
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        reader = csv.DictReader(file)
        missing = {"id", "actions"} - set(reader.fieldnames or ())
        if missing:
            raise ValueError(
                f"{path} has not Charades' format: its header must name the columns id and "
                f"actions. Received: {','.join(reader.fieldnames or ())!r}."
            )
        for cells in reader:
            where = f"{path}, line {reader.line_num}"
            video = (cells["id"] or "").strip()
            if not video:
                raise ValueError(f"{where}: expected the id of a video. Received: {video!r}.")
            if video in first:
                raise ValueError(f"{where}: {video} is listed twice, first in {first[video]}.")
            first[video] = where
            try:
                length = float(cells.get("length") or math.inf)
            except ValueError:
                raise ValueError(
                    f"{where}: the length must be seconds. Received: {cells['length']!r}."
                ) from None
            actions = _actions(cells["actions"] or "", num_classes, where)
            yield _Row(where, video, (cells.get("subject") or "").strip(), length, actions)


def _actions(text: str, num_classes: int, where: str) -> tuple[tuple[int, float, float], ...]:
    found = []
    for action in filter(None, (part.strip() for part in text.split(";"))):
        match = _ACTION.fullmatch(action)
        if not match or int(match[1]) >= num_classes:
            raise ValueError(
                f"{where}: expected actions 'c<class> <start> <end>' of {num_classes} classes from "
                f"c000 on. Received: {action!r}."
            )
        found.append((int(match[1]), float(match[2]), float(match[3])))
    return tuple(found)
