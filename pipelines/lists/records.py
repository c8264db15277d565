"""Labelled clips and the lists they stand in."""

from __future__ import annotations

import json
import os
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.video.names import without_video_suffix


@dataclass(frozen=True)
class VideoRecord:
    """One labelled clip: a whole video or a segment of it.

    Args:
        path: video file, or frame folder.
        labels: class indices, usually one; several or none in a multi-label task.
        start_seconds: start of the segment from the first frame; None is the start of the file.
        end_seconds: end of the segment, exclusive; None is the end of the file.
        group: name of the source video the clip was cut from, where it is known. Clips of one
            group look alike and never straddle a validation split.
    """

    path: str
    labels: tuple[int, ...]
    start_seconds: float | None = None
    end_seconds: float | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", os.fspath(self.path))


@dataclass(frozen=True)
class Annotations:
    """Records and the names their labels index."""

    records: tuple[VideoRecord, ...]
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """Training and test records over the same classes.

    Raises:
        ValueError: when a file is in both parts.
    """

    train: tuple[VideoRecord, ...]
    test: tuple[VideoRecord, ...]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        train, test = ({file_identity(r.path) for r in part} for part in (self.train, self.test))
        shared = train & test
        if shared:
            raise ValueError(
                f"{len(shared)} videos are in both the training and the test list, first: "
                f"{min(shared)}. Remove them from one of the lists."
            )


def split_validation(
    records: Sequence[VideoRecord], fraction: float = 0.1, seed: int = 0
) -> tuple[tuple[VideoRecord, ...], tuple[VideoRecord, ...]]:
    """Carves a validation set out of training records.

    Whole groups move at a time (a record without a group is its own), in a seeded random order, as
    long as the move brings the classes' counts closer to `fraction` and leaves every class a
    training record. Where no move does, the smallest group that leaves every class a training
    record moves. The records keep their order within both parts.

    Args:
        records: training records.
        fraction: share of every class to set aside, between 0 and 1.
        seed: seed of the order in which groups are considered.

    Returns:
        The records to train on and the records to validate on.

    Raises:
        ValueError: when `fraction` is out of range or nothing can be set aside.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"`fraction` must lie between 0 and 1. Received: fraction={fraction}.")
    # Segments of one file stay together even where no group is known.
    keys = [record.group or file_identity(record.path) for record in records]
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


def label_array(records: Sequence[VideoRecord], num_classes: int, multi_label: bool) -> np.ndarray:
    """Returns the labels as int32 `(n,)`, or as float32 multi-hot `(n, num_classes)`.

    Raises:
        ValueError: when a label is out of range, or a record does not have exactly one label in a
            single-label task.
    """
    for record in records:
        if not all(0 <= label < num_classes for label in record.labels):
            raise ValueError(
                f"Labels must lie below the {num_classes} classes. Received: {record.labels} of "
                f"{record.path}."
            )
        if not multi_label and len(record.labels) != 1:
            raise ValueError(
                f"{record.path} has {len(record.labels)} labels; a single-label task needs exactly "
                "one. Set `multi_label=True` for multi-hot labels."
            )
    if not multi_label:
        return np.array([record.labels[0] for record in records], np.int32)
    labels = np.zeros((len(records), num_classes), np.float32)
    for row, record in zip(labels, records, strict=True):
        row[list(record.labels)] = 1
    return labels


def record_number(record: VideoRecord) -> int:
    """Returns a number of the clip that depends neither on its list nor on its folder.

    A video file and a frame folder of its name, without the suffix, have the same number: clips of
    frames and of optical flow are cropped alike.
    """
    name = without_video_suffix(os.path.basename(record.path))
    identity = [name, record.start_seconds, record.end_seconds]
    return zlib.crc32(json.dumps(identity).encode())


def file_identity(path: str) -> str:
    """Returns one name for all paths of a file."""
    return os.path.realpath(path)
