"""Lists and folders of labelled videos -> records."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Sequence

from pipelines.lists.listing import Listing, source_group, videos_below, warn_of_empty_classes
from pipelines.lists.records import Annotations, VideoRecord


def read_folder(
    root: str | os.PathLike[str], class_names: Sequence[str] | None = None, file_suffix: str = ""
) -> Annotations:
    """Reads a folder with one sub-folder of videos per class.

    Args:
        root: the folder. Files without a video suffix, names that begin with a dot and sub-folders
            without videos are passed over; a class's videos may lie in deeper folders.
        class_names: classes in the order of their indices; by default the sorted sub-folders.
        file_suffix: reads the files `<video><file_suffix>` instead of the videos: ".h5" or
            ".tfrecord" where `root` is a feature set.

    Raises:
        ValueError: when `root` has no sub-folder with videos or one that `class_names` lacks.
    """
    if not os.path.isdir(root):
        raise ValueError(f"The video folder does not exist: {root}.")
    folders = sorted(e.name for e in os.scandir(root) if e.is_dir() and e.name[0] != ".")
    found = {name: videos_below(os.path.join(root, name), file_suffix) for name in folders}
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
            f"No videos found in sub-folders of {root}. "
            f"Expected {root}/<class>/<video>{file_suffix}."
        )
    warn_of_empty_classes(records, names, root)
    return Annotations(records, names)


def read_csv(
    path: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    class_names: Sequence[str] | None = None,
    file_suffix: str = "",
) -> Annotations:
    """Reads a CSV file with the columns path, label[, start_seconds, end_seconds].

    Args:
        path: the CSV file (UTF-8). A first row that begins with `path` is a header and may order
            the columns freely. A label such as `run|jump` stands for several classes, an empty one
            for none. A file may be listed more than once, with different segments. A column that
            the header calls `group` names what clips have in common (a film, a person), see
            `VideoRecord`; where it is empty, `source_group` does.
        root: folder that the video paths are relative to; by default the CSV's own.
        class_names: classes in the order of their indices; by default the sorted labels (by value
            where all of them are integers).
        file_suffix: appended to the listed names, see `read_folder`.

    Raises:
        ValueError: when a row cannot be read, is repeated, names a class outside `class_names` or a
            missing video, or segments of one file have different groups.
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
    listing = Listing(root if root is not None else os.path.dirname(path), file_suffix)
    records = []
    groups: dict[str, str | None] = {}
    for (where, row), labels in zip(rows, split_labels, strict=True):
        unknown = [label for label in labels if label not in index]
        if unknown:
            raise ValueError(
                f"{where}: unknown class {unknown[0]!r}; known are {', '.join(class_names)}."
            )
        start, end = _segment(row, where)
        video = listing.add(row["path"], where, (start, end))
        group = row["group"] or source_group(video, labels[0] if labels else None)
        if groups.setdefault(video, group) != group:
            raise ValueError(
                f"{where}: {row['path']} is of the group {group!r}, and of {groups[video]!r} in a "
                "line above. Give all segments of a file the same group."
            )
        numbers = tuple(sorted({index[label] for label in labels}))
        records.append(VideoRecord(video, numbers, start, end, group))
    listing.check()
    warn_of_empty_classes(records, class_names, path)
    return Annotations(tuple(records), tuple(class_names))


def _csv_rows(path: str | os.PathLike[str]) -> Iterator[tuple[str, dict[str, str]]]:
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
            row = dict.fromkeys([*known, "group"], "") | dict(zip(columns, cells, strict=False))
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
