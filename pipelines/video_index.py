"""Which videos can be decoded: checked once, in parallel, before any long work begins."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from pipelines.decoding import check_video
from pipelines.progress import progress_bar
from pipelines.records import VideoRecord
from pipelines.video_info import BrokenVideoError, VideoInfo

_CACHE_VERSION = 1
_SAVE_INTERVAL_SECONDS = 10.0


@dataclass(frozen=True)
class BrokenVideo:
    """A video that cannot be used, and why."""

    path: str
    reason: str


VideoIndex = dict[str, VideoInfo | BrokenVideo]


def index_videos(
    paths: Iterable[str],
    num_workers: int | None = None,
    cache_path: str | None = None,
    progress: bool = True,
    stream: str = "rgb",
) -> VideoIndex:
    """Decodes every frame of every video once and describes it or says why it is broken.

    Args:
        paths: Video files or frame folders; repeats are decoded once.
        num_workers: Files decoded at a time; by default one a processor.
        cache_path: JSON file that keeps the results. A file of unchanged path, size and time of
            modification (a folder: of unchanged names) is not decoded again, so that an interrupted
            check goes on where it was.
        progress: Show a progress bar with the remaining time on the standard error stream.
        stream: "rgb", or "flow" for the optical flow of frame folders; see `check_video`.

    Returns:
        A `VideoInfo` or a `BrokenVideo` for each path, in the order of `paths`.
    """
    paths = list(dict.fromkeys(paths))
    cache = _load_cache(cache_path)
    results: VideoIndex = {}
    pending = []
    for path in paths:
        entry = cache.get(_cache_key(path, stream))
        if entry is not None and entry["stamp"] == file_stamp(path):
            results[path] = _from_json(path, entry)
        else:
            pending.append(path)
    pool = ThreadPoolExecutor(num_workers or os.cpu_count())
    bar = progress_bar(disable=not progress or not pending)
    try:
        with bar:
            task = bar.add_task("Checking videos", total=len(paths), completed=len(results))
            futures = {pool.submit(_check, path, stream): path for path in pending}
            saved = time.monotonic()
            for future in as_completed(futures):
                path = futures[future]
                stamp, results[path] = future.result()
                cache[_cache_key(path, stream)] = {"stamp": stamp, **_to_json(results[path])}
                bar.advance(task)
                if time.monotonic() - saved > _SAVE_INTERVAL_SECONDS:
                    _save_cache(cache_path, cache)
                    saved = time.monotonic()
    finally:
        pool.shutdown(cancel_futures=True)
        if pending:
            _save_cache(cache_path, cache)
    return {path: results[path] for path in paths}


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


def drop_broken(
    records: Sequence[VideoRecord],
    index: Mapping[str, VideoInfo | BrokenVideo],
    max_broken: int | None = None,
) -> tuple[tuple[VideoRecord, ...], list[BrokenVideo]]:
    """Leaves out the records whose video is broken or whose segment holds no frame.

    Args:
        records: Labelled clips.
        index: What `index_videos` returned for their paths.
        max_broken: Most records that may be left out; by default a tenth of them, and at least 10.
            Single bad files are common in collected data; more than that tells of a wrong folder or
            an interrupted download, which training should not paper over.

    Returns:
        The good records and, for each of the others, its path and the reason.

    Raises:
        ValueError: If more than `max_broken` records are broken, or none is good.
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
    limit = max(10, len(records) // 10) if max_broken is None else max_broken
    if len(broken) > limit or (broken and not good):
        examples = "; ".join(f"{b.path} ({b.reason})" for b in broken[:3])
        raise ValueError(
            f"{len(broken)} of {len(records)} videos are broken, more than the {limit} allowed by "
            f"`max_broken`, or all of them: {examples}{' ...' if len(broken) > 3 else ''}"
        )
    return tuple(good), broken


def file_stamp(path: str) -> list[int]:
    """Returns the size in bytes and the time of modification in ns; empty for a missing file."""
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _cache_key(path: str, stream: str) -> str:
    path = os.path.abspath(path)
    return path if stream == "rgb" else f"{path} ({stream})"


def _check(path: str, stream: str) -> tuple[list[int], VideoInfo | BrokenVideo]:
    stamp = file_stamp(path)
    try:
        return stamp, check_video(path, stream)
    except BrokenVideoError as error:
        return stamp, BrokenVideo(path, str(error))


def _to_json(result: VideoInfo | BrokenVideo) -> dict[str, Any]:
    if isinstance(result, BrokenVideo):
        return {"reason": result.reason}
    return {"info": result.to_json()}


def _from_json(path: str, entry: dict[str, Any]) -> VideoInfo | BrokenVideo:
    if "reason" in entry:
        return BrokenVideo(path, entry["reason"])
    return VideoInfo.from_json(entry["info"])


def _load_cache(path: str | None) -> dict[str, dict[str, Any]]:
    if path is None or not os.path.exists(path):
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        return content["videos"] if content["version"] == _CACHE_VERSION else {}
    except (ValueError, KeyError, TypeError):
        warnings.warn(f"{path} is no video index and will be replaced.", stacklevel=3)
        return {}


def _save_cache(path: str | None, cache: dict[str, dict[str, Any]]) -> None:
    if path is None:
        return
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump({"version": _CACHE_VERSION, "videos": cache}, file)
    os.replace(temporary, path)  # readers and a killed process never see half a file
