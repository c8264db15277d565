"""Which records have features, before any of them is read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from pipelines.features.feature_set import FeatureFileInfo, FeatureSet
from pipelines.features.files import read_info
from pipelines.lists.broken import drop_broken
from pipelines.lists.listing import feature_path
from pipelines.lists.records import VideoRecord
from pipelines.video.index import BrokenVideo


def drop_without_features(
    records: Sequence[VideoRecord],
    folders: Sequence[str | os.PathLike[str]],
    max_broken: int | None = None,
) -> tuple[tuple[VideoRecord, ...], list[BrokenVideo]]:
    """Leaves out the records without a file in one of the sets or without a frame in the segment.

    Broken videos have no features, and annotated segments may lie behind the end of a file.

    Args:
        records: labelled clips; the path is the file of the first set.
        folders: one or two feature sets.
        max_broken: most records that may be left out, see `drop_broken`.

    Returns:
        The good records and, for each of the others, its path and the reason.

    Raises:
        ValueError: when more than `max_broken` records have to be left out, or all of them.
    """
    sets = [FeatureSet.load(folder) for folder in folders]
    # What `drop_broken` asks of an entry is the segment.
    index: dict[str, Any] = {}
    for record in records:
        if record.path in index:
            continue
        files = files_of(record, folders, sets)
        missing = next((path for path in files if not os.path.isfile(path)), None)
        if missing:
            index[record.path] = BrokenVideo(record.path, f"has no features: {missing} is missing")
        else:
            index[record.path] = _FeatureFile(record.path, sets[0].frame_step)
    return drop_broken(records, index, max_broken)


class _FeatureFile:
    """Opened when a segment of it is asked for."""

    def __init__(self, path: str, frame_step: int):
        self.path = path
        self.frame_step = frame_step

    @cached_property
    def info(self) -> FeatureFileInfo:
        return read_info(self.path)

    def segment(self, start_seconds: float | None, end_seconds: float | None) -> range | None:
        if start_seconds is None and end_seconds is None:
            return None
        return self.info.segment(start_seconds, end_seconds, self.frame_step)


def files_of(
    record: VideoRecord, folders: Sequence[str | os.PathLike[str]], sets: Sequence[FeatureSet]
) -> tuple[str, ...]:
    """The record's file in each set: the same place in each folder, with the set's own suffix."""
    name = os.path.relpath(record.path, folders[0]).removesuffix(sets[0].file_suffix)
    others = zip(folders[1:], sets[1:], strict=True)
    return record.path, *(
        feature_path(os.path.join(folder, name), one.file_suffix) for folder, one in others
    )
