"""Records whose video cannot be used are left out; of the others, how long they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipelines.lists.records import VideoRecord
from pipelines.video.index import BrokenVideo
from pipelines.video.info import VideoInfo


def drop_broken(
    records: Sequence[VideoRecord],
    index: Mapping[str, VideoInfo | BrokenVideo],
    max_broken: int | None = None,
) -> tuple[tuple[VideoRecord, ...], list[BrokenVideo]]:
    """Leaves out the records whose video is broken or whose segment holds no frame.

    Args:
        records: labelled clips.
        index: what `index_videos` returned for their paths.
        max_broken: most records that may be left out; by default a tenth of them, and at least 10.
            Single bad files are common in collected data; more than that tells of a wrong folder or
            an interrupted download, which training should not paper over.

    Returns:
        The good records and, for each of the others, its path and the reason.

    Raises:
        ValueError: when more than `max_broken` records are broken, or none is good.
    """
    good, broken = [], []
    for record in records:
        info = index[record.path]
        if isinstance(info, BrokenVideo):
            broken.append(info)
            continue
        try:
            info.segment(record.start_seconds, record.end_seconds)
        except ValueError as error:
            broken.append(BrokenVideo(record.path, str(error)))
        else:
            good.append(record)
    limit = most_broken(len(records), max_broken)
    if len(broken) > limit or (broken and not good):
        examples = "; ".join(f"{b.path} ({b.reason})" for b in broken[:3])
        raise ValueError(
            f"{len(broken)} of {len(records)} videos are broken, more than the {limit} allowed by "
            f"`max_broken`, or all of them: {examples}{' ...' if len(broken) > 3 else ''}"
        )
    return tuple(good), broken


def most_broken(num_records: int, max_broken: int | None) -> int:
    """Returns how many of the records may be broken: see `drop_broken`."""
    return max(10, num_records // 10) if max_broken is None else max_broken


def clip_frames(
    records: Sequence[VideoRecord], index: Mapping[str, VideoInfo | BrokenVideo]
) -> list[int]:
    """Counts the frames of clips of unbroken videos."""
    infos = [(record, index[record.path]) for record in records]
    return [
        len(info.segment(record.start_seconds, record.end_seconds))
        for record, info in infos
        if isinstance(info, VideoInfo)
    ]
