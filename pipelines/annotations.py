"""Lists and folders of labelled videos -> records."""

from __future__ import annotations

import csv
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

VIDEO_SUFFIXES = frozenset(
    [".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"]
)

# <source video>_<class>_<visible body>_<camera motion>_np<people>_<view>_<quality>_<number>
_HMDB51_ATTRIBUTES = r"_[a-z]_[a-z]{2}_np\d+_[a-z]{2}_[a-z]{3}_\d+"
_UCF101_NAME = re.compile(r"v_(?P<group>.+_g\d+)_c\d+")


@dataclass(frozen=True)
class VideoRecord:
    """One labelled clip: a whole video file or a segment of it.

    Args:
        path: Video file.
        labels: Class indices, usually one; several or none in a multi-label task.
        start_seconds: Start of the segment from the first frame; None is the start of the file.
        end_seconds: End of the segment, exclusive; None is the end of the file.
        group: Name of the source video the clip was cut from, where it is known. Clips of one
            group look alike and never straddle a validation split.
    """

    path: str
    labels: tuple[int, ...]
    start_seconds: float | None = None
    end_seconds: float | None = None
    group: str | None = None


@dataclass(frozen=True)
class Annotations:
    """Records and the names their labels index."""

    records: tuple[VideoRecord, ...]
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """Training and test records over the same classes.

    Raises:
        ValueError: If a file is in both parts.
    """

    train: tuple[VideoRecord, ...]
    test: tuple[VideoRecord, ...]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        shared = {_identity(r.path) for r in self.train} & {_identity(r.path) for r in self.test}
        if shared:
            raise ValueError(
                f"{len(shared)} videos are in both the training and the test list, first: "
                f"{min(shared)}. Remove them from one of the lists."
            )


def read_folder(root: str, class_names: Sequence[str] | None = None) -> Annotations:
    """Reads a folder with one sub-folder of videos per class.

    Args:
        root: The folder. Files without a video suffix, names that begin with a dot and sub-folders
            without videos are passed over; a class's videos may lie in deeper folders.
        class_names: Classes in the order of their indices; by default the sorted sub-folders.

    Raises:
        ValueError: If `root` has no sub-folder with videos or one that `class_names` lacks.
    """
    if not os.path.isdir(root):
        raise ValueError(f"The video folder does not exist: {root}.")
    folders = sorted(e.name for e in os.scandir(root) if e.is_dir() and e.name[0] != ".")
    found = {name: _videos_below(os.path.join(root, name)) for name in folders}
    found = {name: paths for name, paths in found.items() if paths}
    names = tuple(class_names or found)
    index = {name: i for i, name in enumerate(names)}
    unknown = [name for name in found if name not in index]
    if unknown:
        raise ValueError(
            f"The folder {root} has sub-folders that are no known class: {', '.join(unknown)}."
        )
    records = tuple(
        VideoRecord(path, (index[name],), group=source_group(path, name))
        for name, paths in found.items()
        for path in paths
    )
    if not records:
        raise ValueError(
            f"No videos found in sub-folders of {root}. Expected {root}/<class>/<video>."
        )
    _warn_of_empty_classes(records, names, root)
    return Annotations(records, names)


def read_hmdb51(video_root: str, split_folder: str, split: int = 1) -> Split:
    """Reads an official split of HMDB51, or of JHMDB, which has the same format.

    Args:
        video_root: Folder with `<class>/<video>`.
        split_folder: Folder with `<class>_test_split<n>.txt`, lines `<video> 0|1|2` where 1 is
            training, 2 is test and 0 is unused.
        split: Number of the split, 1 to 3.

    Raises:
        ValueError: If there is no such split, a line cannot be read, a listed video is missing or
            a video is listed twice.
    """
    suffix = f"_test_split{split}.txt"
    if not os.path.isdir(split_folder):
        raise ValueError(f"The split folder does not exist: {split_folder}.")
    lists = sorted(name for name in os.listdir(split_folder) if name.endswith(suffix))
    if not lists:
        raise ValueError(f"No files <class>{suffix} in {split_folder}.")
    names = tuple(name[: -len(suffix)] for name in lists)
    listing = _Listing(video_root)
    parts: dict[str, list[VideoRecord]] = {"1": [], "2": []}
    for label, name in enumerate(names):
        for where, line in _lines(os.path.join(split_folder, lists[label])):
            video, _, part = line.rpartition(" ")
            if not video or part not in ("0", "1", "2"):
                raise ValueError(f"{where}: expected '<video> 0|1|2'. Received: {line!r}.")
            if part != "0":
                path = listing.add(f"{name}/{video.strip()}", where)
                parts[part].append(VideoRecord(path, (label,), group=source_group(path, name)))
    listing.check()
    _warn_of_empty_classes(parts["1"], names, f"the training list of split {split}")
    return Split(tuple(parts["1"]), tuple(parts["2"]), names)


def read_ucf101(video_root: str, list_folder: str, split: int = 1) -> Split:
    """Reads an official split of UCF101.

    Args:
        video_root: Folder with `<class>/<video>`.
        list_folder: Folder with `classInd.txt`, `trainlist0<n>.txt` and `testlist0<n>.txt`.
        split: Number of the split, 1 to 3.

    Raises:
        ValueError: If a list is missing or cannot be read, names an unknown class or a missing
            video, or a video is listed twice.
    """
    names: list[str] = []
    for where, line in _lines(os.path.join(list_folder, "classInd.txt")):
        number, _, name = line.partition(" ")
        if number != str(len(names) + 1) or not name:
            raise ValueError(f"{where}: expected '{len(names) + 1} <class>'. Received: {line!r}.")
        names.append(name.strip())
    index = {name: i for i, name in enumerate(names)}
    listing = _Listing(video_root)
    parts: dict[str, list[VideoRecord]] = {"train": [], "test": []}
    for part, records in parts.items():
        for where, line in _lines(os.path.join(list_folder, f"{part}list{split:02d}.txt")):
            video = re.sub(r"\s+\d+$", "", line)
            name = video.partition("/")[0]
            if name not in index:
                raise ValueError(f"{where}: unknown class {name!r}; classInd.txt does not list it.")
            path = listing.add(video, where)
            records.append(VideoRecord(path, (index[name],), group=source_group(path, name)))
    listing.check()
    _warn_of_empty_classes(parts["train"], names, f"trainlist{split:02d}.txt")
    return Split(tuple(parts["train"]), tuple(parts["test"]), tuple(names))


def read_csv(
    path: str, root: str | None = None, class_names: Sequence[str] | None = None
) -> Annotations:
    """Reads a CSV file with the columns path, label[, start_seconds, end_seconds].

    Args:
        path: The CSV file (UTF-8). A first row that begins with `path` is a header and may order
            the columns freely. A label such as `run|jump` stands for several classes, an empty one
            for none. A file may be listed more than once, with different segments.
        root: Folder that the video paths are relative to; by default the CSV's own.
        class_names: Classes in the order of their indices; by default the sorted labels (by value
            where all of them are integers).

    Raises:
        ValueError: If a row cannot be read, is repeated, names a class outside `class_names` or a
            missing video.
    """
    rows = list(_csv_rows(path))
    if not rows:
        raise ValueError(f"The list {path} has no rows.")
    split_labels = [[s.strip() for s in row["label"].split("|") if s.strip()] for _, row in rows]
    if class_names is None:
        found = {label for labels in split_labels for label in labels}
        by_value = all(re.fullmatch(r"\d+", label) for label in found)
        class_names = sorted(found, key=int) if by_value else sorted(found)
    index = {name: i for i, name in enumerate(class_names)}
    listing = _Listing(root if root is not None else os.path.dirname(path))
    records = []
    for (where, row), labels in zip(rows, split_labels, strict=True):
        unknown = [label for label in labels if label not in index]
        if unknown:
            raise ValueError(
                f"{where}: unknown class {unknown[0]!r}; known are {', '.join(class_names)}."
            )
        start, end = _segment(row, where)
        video = listing.add(row["path"], where, (start, end))
        group = source_group(video, labels[0] if labels else None)
        numbers = tuple(sorted({index[label] for label in labels}))
        records.append(VideoRecord(video, numbers, start, end, group))
    listing.check()
    _warn_of_empty_classes(records, class_names, path)
    return Annotations(tuple(records), tuple(class_names))


def source_group(path: str, class_name: str | None = None) -> str | None:
    """Names the source video of a clip, from HMDB51's (JHMDB's) and UCF101's file names.

    HMDB51's clips of one film share its name over all classes; UCF101 numbers its 25 source groups
    in each class. None for any other name.
    """
    name = os.path.splitext(os.path.basename(path))[0]
    if match := _UCF101_NAME.fullmatch(name):
        return match["group"]
    if class_name and (
        match := re.fullmatch(f"(.+)_{re.escape(class_name)}{_HMDB51_ATTRIBUTES}", name)
    ):
        return match[1]
    return None


def split_validation(
    records: Sequence[VideoRecord], fraction: float = 0.1, seed: int = 0
) -> tuple[tuple[VideoRecord, ...], tuple[VideoRecord, ...]]:
    """Carves a validation set out of training records.

    Whole groups move at a time (a record without a group is its own), in a seeded random order, as
    long as the move brings the classes' counts closer to `fraction` and leaves every class a
    training record. Where no move does, the smallest group that leaves every class a training
    record moves. The records keep their order within both parts.

    Args:
        records: Training records.
        fraction: Share of every class to set aside, between 0 and 1.
        seed: Seed of the order in which groups are considered.

    Returns:
        The records to train on and the records to validate on.

    Raises:
        ValueError: If `fraction` is out of range or nothing can be set aside.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"`fraction` must lie between 0 and 1. Received: fraction={fraction}.")
    # Segments of one file stay together even where no group is known.
    keys = [record.group or _identity(record.path) for record in records]
    members: dict[str, Counter] = {}
    for key, record in zip(keys, records, strict=True):
        members.setdefault(key, Counter()).update(record.labels or (-1,))
    total = sum(members.values(), Counter())
    taken: Counter = Counter()
    chosen = set()
    names = sorted(members)
    names = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    spare = [name for name in names if all(n < total[c] for c, n in members[name].items())]
    for name in spare:
        counts = members[name]
        closer = sum(
            abs(fraction * total[c] - taken[c]) - abs(fraction * total[c] - taken[c] - n)
            for c, n in counts.items()
        )
        if closer >= 0 and all(taken[c] + n < total[c] for c, n in counts.items()):
            chosen.add(name)
            taken += counts
    if not spare:
        raise ValueError(
            "No group of records can be set aside, each is all that one of its classes has. "
            f"Received: {len(records)} records in {len(names)} groups. Add videos of other sources."
        )
    if not chosen:
        chosen.add(min(spare, key=lambda name: members[name].total()))
    flags = [key in chosen for key in keys]
    train = tuple(r for r, held_out in zip(records, flags, strict=True) if not held_out)
    return train, tuple(r for r, held_out in zip(records, flags, strict=True) if held_out)


class _Listing:
    """The files a list names: joins them with their root and finds missing and repeated ones."""

    def __init__(self, root: str):
        self.root = root
        self.first: dict[tuple, str] = {}
        self.missing: list[str] = []

    def add(self, name: str, where: str, segment: tuple = (None, None)) -> str:
        path = os.path.join(self.root, name)
        key = (_identity(path), *segment)
        if key in self.first:
            raise ValueError(f"{where}: {name} is listed twice, first in {self.first[key]}.")
        self.first[key] = where
        if not os.path.isfile(path):
            self.missing.append(f"{name} ({where})")
        return path

    def check(self) -> None:
        if self.missing:
            raise ValueError(
                f"{len(self.missing)} of {len(self.first)} listed videos are missing below "
                f"{self.root or '.'}, first: {self.missing[0]}."
            )


def _identity(path: str) -> str:
    return os.path.realpath(path)


def _videos_below(folder: str) -> list[str]:
    paths = (os.path.join(base, name) for base, _, names in os.walk(folder) for name in names)
    return sorted(
        path
        for path in paths
        if os.path.splitext(path)[1].lower() in VIDEO_SUFFIXES
        and not os.path.basename(path).startswith(".")
    )


def _lines(path: str) -> Iterable[tuple[str, str]]:
    if not os.path.isfile(path):
        raise ValueError(f"The list does not exist: {path}.")
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield f"{path}, line {number}", line.strip()


def _csv_rows(path: str) -> Iterable[tuple[str, dict[str, str]]]:
    if not os.path.isfile(path):
        raise ValueError(f"The list does not exist: {path}.")
    known = ["path", "label", "start_seconds", "end_seconds"]
    columns = None
    with open(path, encoding="utf-8-sig", newline="", errors="surrogateescape") as file:
        reader = csv.reader(file, skipinitialspace=True)
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            where = f"{path}, line {reader.line_num}"
            if not any(cells):
                continue
            if columns is None:
                header = cells if cells[0].lower() == "path" else None
                columns = [cell.lower() for cell in header] if header else known
                if header and not {"path", "label"} <= set(columns):
                    raise ValueError(
                        f"{where}: the header must name the columns path and label. "
                        f"Received: {','.join(header)}."
                    )
                if header:
                    continue
            row = dict.fromkeys(known, "") | dict(zip(columns, cells, strict=False))
            if len(cells) < 2 or not row["path"]:
                raise ValueError(
                    f"{where}: expected path,label[,start_seconds,end_seconds]. "
                    f"Received: {','.join(cells)!r}."
                )
            yield where, row


def _segment(row: dict[str, str], where: str) -> tuple[float | None, float | None]:
    try:
        start, end = (
            float(row[key]) if row[key] else None for key in ("start_seconds", "end_seconds")
        )
    except ValueError as error:
        raise ValueError(f"{where}: start and end must be seconds ({error}).") from None
    if not 0 <= (start or 0.0) < (end if end is not None else float("inf")):
        raise ValueError(
            f"{where}: expected 0 <= start_seconds < end_seconds. Received: {start}, {end}."
        )
    return start, end


def _warn_of_empty_classes(
    records: Iterable[VideoRecord], class_names: Sequence[str], source: str
) -> None:
    used = {label for record in records for label in record.labels}
    empty = [name for i, name in enumerate(class_names) if i not in used]
    if empty:
        warnings.warn(
            f"{len(empty)} classes have no videos in {source}: {', '.join(empty)}.", stacklevel=3
        )
