"""Labelled videos as the command line names them."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import click

from pipelines.annotations import (
    Annotations,
    Split,
    VideoRecord,
    read_activitynet,
    read_csv,
    read_folder,
    read_hmdb51,
    read_hollywood2,
    read_ucf101,
    split_validation,
)
from pipelines.charades import read_charades
from pipelines.features.feature_set import FeatureSet
from pipelines.listing import video_stem

# What `clip_names` adds to the name of a video.
_SEGMENT = re.compile(r"@[\d.]*-[\d.]*$")

lists_option = click.option(
    "--lists",
    type=click.Path(exists=True),
    help="Official lists: the folder of HMDB51's (<class>_test_split<n>.txt), UCF101's "
    "(trainlist0<n>.txt), Hollywood2's (ClipSets) or Charades' (Charades_v1_train.csv), or "
    "ActivityNet's JSON file; or a CSV of videos below DATA.",
)


def refuse_options(names: Collection[str | None], why: str) -> None:
    """Refuse options of the running command that were given and would do nothing.

    Raises:
        ValueError: one of them was given.
    """
    for name, option in given_options().items():
        if name in names:
            raise ValueError(f"{option} has no effect on {why}. Leave it out.")


def given_options() -> dict[str | None, str]:
    """The options that the running command was given: {"num_clusters": "--clusters"}."""
    context = click.get_current_context()
    return {
        parameter.name: parameter.opts[0]
        for parameter in context.command.params
        if context.get_parameter_source(parameter.name or "")
        is click.core.ParameterSource.COMMANDLINE
    }


def read_split(data: str, lists: str | None, split: int, test_data: str | None) -> Split:
    """Training and test records of what the options of `tfvlad train` name.

    A folder with official lists; a CSV or a folder of classes with `test_data`; a folder that has
    `train` and `test`; else a fifth of the videos, whole source videos at a time, is the test list.
    `lists` may also be a CSV of videos below `data`. Of a feature set, the files are read in the
    place of the videos.

    Raises:
        ValueError: the combination is not possible, a list is empty, or the lists say so.
    """
    if lists is not None and test_data is not None:
        raise ValueError("Give either --lists or --test-data: the lists name the test videos.")
    if lists is not None and not _is_csv(lists):
        records = _read_official(data, lists, split)
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
        ValueError: nothing can be set aside.
    """
    try:
        return split_validation(records.train, fraction, seed)
    except ValueError as error:
        raise ValueError(
            f"No validation set can be taken from the training list: {error} A test list of its "
            "own leaves more of DATA to training."
        ) from error


def read_test_list(
    data: str, lists: str | None, split: int, class_names: Sequence[str]
) -> tuple[VideoRecord, ...]:
    """All records of a CSV or a folder of classes, or the test list of an official split.

    Raises:
        ValueError: there are classes outside `class_names`, no videos, or the lists say so.
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
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
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
        ValueError: the file or a video that it lists is missing.
    """
    if not path.exists():
        raise ValueError(f"'{path}' is missing. Name the videos: `tfvlad evaluate RUN DATA`.")
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = [row for row in csv.DictReader(file) if row["part"] == part]
    missing = [row["path"] for row in rows if not os.path.exists(row["path"])]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(rows)} videos that '{path}' lists are missing, first: "
            f"{missing[0]}. If they were moved, name them: `tfvlad evaluate RUN DATA`."
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
        return "Or name the test list with --lists, or by sub-folders train/ and test/."
    return "Or name test videos with --test-data."


def _has_parts(folder: str) -> bool:
    return all((Path(folder) / part).is_dir() for part in ("train", "test"))


def is_feature_set(path: str) -> bool:
    """Whether `tfvlad features` has written the folder."""
    return os.path.isfile(os.path.join(path, "features.json"))


def _file_suffix(folder: str) -> str:
    """What the names of a feature set's files have behind the videos' names."""
    return FeatureSet.load(folder).file_suffix if is_feature_set(folder) else ""


def _read(path: str, class_names: Sequence[str] | None = None, root: str = "") -> Annotations:
    suffix = _file_suffix(root or path)
    if os.path.isdir(path):
        return read_folder(path, class_names, suffix)
    return read_csv(path, root or None, class_names, suffix)


def _read_official(data: str, lists: str, split: int) -> Split:
    suffix = _file_suffix(data)
    if os.path.isfile(lists):
        return read_activitynet(data, lists, suffix)
    folder = Path(lists)
    root = folder.parent if folder.name == "ClipSets" else folder
    if (root / "ClipSets").is_dir():
        clips = os.path.join(data, "AVIClips")
        return read_hollywood2(str(root), clips if os.path.isdir(clips) else data, suffix)
    if (folder / "Charades_v1_train.csv").exists():
        return read_charades(data, lists, file_suffix=suffix)
    is_ucf101 = (folder / "classInd.txt").exists()
    return (read_ucf101 if is_ucf101 else read_hmdb51)(data, lists, split, suffix)
