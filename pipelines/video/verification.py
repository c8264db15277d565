"""Which files are videos that can be decoded to their last frame."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.video.index import BrokenVideo, VideoIndex, index_videos
from pipelines.video.info import VideoInfo
from pipelines.video.names import VIDEO_SUFFIXES


@dataclass(frozen=True)
class Verification:
    """What `verify` has found.

    Attributes:
        videos: each file, in the order they were named, with what it holds or why it is broken.
    """

    videos: VideoIndex

    @property
    def good(self) -> dict[str, VideoInfo]:
        """The files that can be decoded, and what they hold."""
        return {path: video for path, video in self.videos.items() if isinstance(video, VideoInfo)}

    @property
    def broken(self) -> tuple[BrokenVideo, ...]:
        """The files that cannot, and why."""
        return tuple(video for video in self.videos.values() if isinstance(video, BrokenVideo))

    def to_dict(self) -> dict[str, Any]:
        """Returns the same as JSON values."""
        good = [
            {"path": path, "num_frames": video.num_frames, "seconds": video.duration_seconds}
            for path, video in self.good.items()
        ]
        return {"good": good, "broken": [asdict(video) for video in self.broken]}


def verify(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    num_workers: int | None = None,
    progress: bool = True,
) -> Verification:
    """Decodes every frame of every video.

    Args:
        paths: files or folders. In a folder and those below it, files with a video's suffix or none
            are taken; names that begin with a dot are not. A file that is named always is.
        num_workers: files decoded at a time; by default one a processor.
        progress: show how many files are done.

    Raises:
        ValueError: when there is no file to decode.
    """
    paths = [paths] if isinstance(paths, str | os.PathLike) else paths
    files = [file for path in paths for file in _files(Path(path))]
    if not files:
        names = ", ".join(os.fspath(path) for path in paths)
        raise ValueError(f"There is no file to verify in: {names}.")
    return Verification(index_videos(files, num_workers=num_workers, progress=progress))


def _files(path: Path) -> list[str]:
    if not path.is_dir():
        return [str(path)]
    return [
        str(file)
        for file in sorted(path.rglob("*"))
        if file.is_file()
        and file.suffix.lower() in VIDEO_SUFFIXES | {""}
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    ]
