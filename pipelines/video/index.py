"""Which videos can be decoded: checked once, in parallel, before any long work begins."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from pipelines.progress import progress_bar
from pipelines.storage.files import write_aside
from pipelines.video.codec.decoding import check_video
from pipelines.video.info import BrokenVideoError, VideoInfo

_logger = logging.getLogger(__name__)

_CACHE_VERSION = 1
_SAVE_INTERVAL_SECONDS = 10.0


@dataclass(frozen=True)
class BrokenVideo:
    """A video that cannot be used, and why."""

    path: str
    reason: str


VideoIndex = dict[str, VideoInfo | BrokenVideo]


def index_videos(
    paths: Iterable[str | os.PathLike[str]],
    num_workers: int | None = None,
    cache_path: str | os.PathLike[str] | None = None,
    progress: bool = True,
    stream: str = "rgb",
) -> VideoIndex:
    """Decodes every frame of every video once and describes it or says why it is broken.

    Args:
        paths: video files or frame folders; repeats are decoded once.
        num_workers: files decoded at a time; by default one a processor.
        cache_path: JSON file that keeps the results. A file of unchanged path, size and time of
            modification (a folder: of unchanged names) is not decoded again, so that an interrupted
            check goes on where it was.
        progress: show a progress bar with the remaining time on the standard error stream.
        stream: "rgb", or "flow" for the optical flow of frame folders; see `check_video`.

    Returns:
        A `VideoInfo` or a `BrokenVideo` for each path, in the order of `paths`.
    """
    names = list(dict.fromkeys(os.fspath(path) for path in paths))
    cache = _load_cache(cache_path)
    results: VideoIndex = {}
    pending = []
    for path in names:
        entry = cache.get(_cache_key(path, stream))
        if entry is not None and entry["stamp"] == file_stamp(path):
            results[path] = _from_json(path, entry)
        else:
            pending.append(path)
    pool = ThreadPoolExecutor(num_workers or os.cpu_count())
    bar = progress_bar(
        "Checking videos", len(names), done=len(results), disable=not progress or not pending
    )
    try:
        with bar:
            futures = {pool.submit(_check, path, stream): path for path in pending}
            saved = time.monotonic()
            for future in as_completed(futures):
                path = futures[future]
                stamp, results[path] = future.result()
                cache[_cache_key(path, stream)] = {"stamp": stamp, **_to_json(results[path])}
                bar.update()
                if time.monotonic() - saved > _SAVE_INTERVAL_SECONDS:
                    _save_cache(cache_path, cache)
                    saved = time.monotonic()
    finally:
        pool.shutdown(cancel_futures=True)
        if pending:
            _save_cache(cache_path, cache)
    return {path: results[path] for path in names}


def tell_broken(
    broken: Sequence[BrokenVideo],
    num_videos: int,
    lack: str,
    max_broken: int | None,
    kind: str = "videos",
) -> None:
    """Says which videos something could not be made of.

    Args:
        broken: these.
        num_videos: all videos.
        lack: what the broken ones have none of, such as "features".
        max_broken: most videos that may be broken; by default all but one.
        kind: what they are called.

    Raises:
        ValueError: when more are.
    """
    if not broken:
        return
    told = f"{len(broken)} of {num_videos} {kind} are broken and have no {lack}"
    names = "".join(f"\n  {video.path}: {video.reason}" for video in broken)
    _logger.warning("%s:%s", told, names)
    limit = num_videos - 1 if max_broken is None else max_broken
    if len(broken) > limit:
        raise ValueError(f"{told}, more than the {limit} allowed by `max_broken`.")


def file_stamp(path: str | os.PathLike[str]) -> list[int]:
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


def _load_cache(path: str | os.PathLike[str] | None) -> dict[str, dict[str, Any]]:
    if path is None or not os.path.exists(path):
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        return content["videos"] if content["version"] == _CACHE_VERSION else {}
    except (ValueError, KeyError, TypeError):
        _logger.warning("%s is no video index and will be replaced.", path)
        return {}


def _save_cache(path: str | os.PathLike[str] | None, cache: dict[str, dict[str, Any]]) -> None:
    if path is None:
        return
    with write_aside(path) as aside, open(aside, "w", encoding="utf-8") as file:
        json.dump({"version": _CACHE_VERSION, "videos": cache}, file)
