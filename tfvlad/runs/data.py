"""Labelled clips from what `tfvlad.train` is given, and the lists that a run keeps of them."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines.features.arrays import is_array_name
from pipelines.features.feature_set import FeatureSet
from pipelines.lists.annotations import read_csv, read_folder
from pipelines.lists.charades import read_charades
from pipelines.lists.listing import name_videos, video_stem, visible_files
from pipelines.lists.official_lists import (
    read_activitynet,
    read_hmdb51,
    read_hollywood2,
    read_ucf101,
)
from pipelines.lists.records import Annotations, Split, VideoRecord, split_validation
from pipelines.storage.files import write_aside
from tfvlad.runs.config import DataPaths

# What `clip_names` adds to the name of a video.
_SEGMENT = re.compile(r"@[\d.]*-[\d.]*$")


def data_paths(
    data: str | os.PathLike[str], *, split: int, **others: str | os.PathLike[str] | None
) -> DataPaths:
    """The data of a training, every path checked to be there.

    Raises:
        ValueError: when one is missing, or the split is no number from 1.
    """
    if isinstance(split, bool) or not isinstance(split, int) or split < 1:
        raise ValueError(f"`split` must be a whole number, at least 1. Received: split={split!r}.")
    for name, path in {"data": data, **others}.items():
        if path is not None and not os.path.exists(path):
            raise ValueError(f"`{name}` must exist. Received: {name}={os.fspath(path)!r}.")
    given = {name: path if path is None else os.fspath(path) for name, path in others.items()}
    paths = DataPaths(data=os.fspath(data), split=split, **given)
    if split > 1 and paths.lists is None:
        raise ValueError(f"`split` needs `lists`, the official lists. Received: split={split}.")
    return paths


def read_split(paths: DataPaths) -> Split:
    """Training and test records of the data that a training is given.

    A folder with official lists; a CSV or a folder of classes with `test_data`; a folder that has
    `train` and `test`; else a fifth of the videos, whole source videos at a time, is the test list.
    `lists` may also be a CSV of videos below `data`. Of a feature set, the files are read in the
    place of the videos.

    Raises:
        ValueError: when the combination is not possible, a list is empty, or the lists say so.
    """
    data, lists, test_data = paths.data, paths.lists, paths.test_data
    if lists is not None and test_data is not None:
        raise ValueError("Give either `lists` or `test_data`: the lists name the test videos.")
    if lists is not None and not _is_csv(lists):
        records = _read_official(data, lists, paths.split)
    elif test_data is None and lists is None and _has_parts(data):
        train = _read(os.path.join(data, "train"), root=data)
        test = _read(os.path.join(data, "test"), train.class_names, root=data)
        records = Split(train.records, test.records, train.class_names)
    elif test_data is not None:
        train = _read(data)
        test = _read(test_data, train.class_names)
        records = Split(train.records, test.records, train.class_names)
    else:
        train = _read(lists or data, root=data if lists else "")
        try:
            parts = split_validation(train.records, fraction=0.2, seed=0)
        except ValueError as error:
            raise ValueError(
                f"No test list can be taken from {data}: {error} {_advice(data)}"
            ) from error
        records = Split(*parts, train.class_names)
    for part, found in (("training", records.train), ("test", records.test)):
        if not found:
            raise ValueError(f"The {part} list of {lists or data} names no video.")
    return records


def set_validation_aside(
    records: Split, fraction: float, seed: int
) -> tuple[tuple[VideoRecord, ...], tuple[VideoRecord, ...]]:
    """Training records without, and then those of, the validation set.

    Raises:
        ValueError: when nothing can be set aside.
    """
    try:
        return split_validation(records.train, fraction, seed)
    except ValueError as error:
        raise ValueError(
            f"No validation set can be taken from the training list: {error} A test list of its "
            "own leaves more of the data to training."
        ) from error


def read_test_list(
    data: str, lists: str | None, split: int, class_names: Sequence[str]
) -> tuple[VideoRecord, ...]:
    """All records of a CSV or a folder of classes, or the test list of an official split.

    Raises:
        ValueError: when there are classes outside `class_names`, no videos, or the lists say so.
    """
    if lists is None:
        return _read(data, class_names).records
    if _is_csv(lists):
        return _read(lists, class_names, root=data).records
    records = _read_official(data, lists, split)
    if list(records.class_names) != list(class_names):
        raise ValueError(
            f"The model knows the classes {', '.join(class_names)}. "
            f"Received: lists of the classes {', '.join(records.class_names)}."
        )
    return records.test


def write_lists(
    path: Path, parts: Mapping[str, Sequence[VideoRecord]], class_names: Sequence[str]
) -> None:
    """Write which clips are in which part: path,label,start_seconds,end_seconds,part."""
    with (
        write_aside(path) as aside,
        open(aside, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["path", "label", "start_seconds", "end_seconds", "part"])
        for part, records in parts.items():
            for record in records:
                label = "|".join(class_names[i] for i in record.labels)
                times = record.start_seconds, record.end_seconds
                writer.writerow([os.path.abspath(record.path), label, *times, part])


def read_lists(path: Path, part: str, class_names: Sequence[str]) -> tuple[VideoRecord, ...]:
    """The records of one part of a file that `write_lists` made.

    Raises:
        ValueError: when the file or a video that it lists is missing.
    """
    if not path.exists():
        raise ValueError(f"'{path}' is missing. Name the videos: give `data`.")
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = [row for row in csv.DictReader(file) if row["part"] == part]
    missing = [row["path"] for row in rows if not os.path.exists(row["path"])]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(rows)} videos that '{path}' lists are missing, first: "
            f"{missing[0]}. If they were moved, name them: give `data`."
        )
    return tuple(
        VideoRecord(
            row["path"],
            tuple(class_names.index(name) for name in row["label"].split("|") if name),
            float(row["start_seconds"]) if row["start_seconds"] else None,
            float(row["end_seconds"]) if row["end_seconds"] else None,
        )
        for row in rows
    )


def clip_names(records: Sequence[VideoRecord]) -> list[str]:
    """The videos' paths from the folder that they share, without suffix, `@start-end` for segments.

    The clips of a video, of its frame folder and of its features have one name.
    """
    root = os.path.commonpath([os.path.dirname(os.path.abspath(r.path)) for r in records])
    return [
        clip_name(os.path.relpath(record.path, root).replace(os.sep, "/")) + _segment(record)
        for record in records
    ]


def clip_name(name: str) -> str:
    """A clip's name without the suffixes of a video and its features; the segment stays."""
    segment = _SEGMENT.search(name)
    path = name[: segment.start()] if segment else name
    folder, slash, file = path.rpartition("/")
    return folder + slash + video_stem(file) + name[len(path) :]


def short_clip_name(name: str) -> str:
    """A clip's file name without folders and segment."""
    return _SEGMENT.sub("", name).rpartition("/")[2]


def _is_csv(path: str) -> bool:
    return path.lower().endswith(".csv")


def _segment(record: VideoRecord) -> str:
    start, end = record.start_seconds, record.end_seconds
    if start is None and end is None:
        return ""
    return f"@{start or 0}-{'' if end is None else end}"


def _advice(data: str) -> str:
    if is_feature_set(data):
        return "Or name the test list with `lists`, or by sub-folders train/ and test/."
    return "Or name test videos with `test_data`."


def _has_parts(folder: str) -> bool:
    return all((Path(folder) / part).is_dir() for part in ("train", "test"))


def is_feature_set(path: str | os.PathLike[str]) -> bool:
    """Whether the folder is a feature set."""
    return os.path.isfile(os.path.join(path, "features.json"))


def holds_arrays(path: str | os.PathLike[str]) -> bool:
    """Whether a folder holds arrays of features that are no feature set yet, and no videos."""
    if not os.path.isdir(path) or is_feature_set(path):
        return False
    has_arrays = False
    for _, names in visible_files(path):
        if name_videos(names):
            return False
        has_arrays = has_arrays or any(map(is_array_name, names))
    return has_arrays


def _file_suffix(folder: str) -> str:
    """What the names of a feature set's files have behind the videos' names."""
    if holds_arrays(folder):
        raise ValueError(
            f"'{folder}' holds arrays of features. Make a feature set of them by "
            "`pipelines.import_features`, and give that."
        )
    return FeatureSet.load(folder).file_suffix if is_feature_set(folder) else ""


def _read(path: str, class_names: Sequence[str] | None = None, root: str = "") -> Annotations:
    suffix = _file_suffix(root or path)
    if os.path.isdir(path):
        return read_folder(path, class_names, suffix)
    return read_csv(path, root or None, class_names, suffix)


def _read_official(data: str, lists: str, split: int) -> Split:
    suffix = _file_suffix(data)
    folder = Path(lists)
    root = folder.parent if folder.name == "ClipSets" else folder
    if os.path.isfile(lists):
        _refuse_another_split("ActivityNet", split)
        return read_activitynet(data, lists, suffix)
    if (root / "ClipSets").is_dir():
        _refuse_another_split("Hollywood2", split)
        clips = os.path.join(data, "AVIClips")
        return read_hollywood2(str(root), clips if os.path.isdir(clips) else data, suffix)
    if (folder / "Charades_v1_train.csv").exists():
        _refuse_another_split("Charades", split)
        return read_charades(data, lists, file_suffix=suffix)
    is_ucf101 = (folder / "classInd.txt").exists()
    return (read_ucf101 if is_ucf101 else read_hmdb51)(data, lists, split, suffix)


def _refuse_another_split(data_set: str, split: int) -> None:
    if split > 1:
        raise ValueError(f"{data_set} has one split. Received: split={split}. Leave `split` out.")
