"""From several videos to their highlights, each in a folder of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipelines.video.index import BrokenVideo
from pipelines.video.info import BrokenVideoError
from tfvlad.highlights.chunks import ChunkModel
from tfvlad.highlights.finding import check_arguments, highlight
from tfvlad.highlights.video_highlights import (
    VideoHighlights,
    check_folder,
    check_max_seconds,
)


def video_folders(paths: Sequence[str], output: str | os.PathLike[str]) -> dict[str, Path]:
    """The folder of each video below `output`: its name without the ending.

    Args:
        paths: video files, or files of arrays.
        output: folder of the folders.

    Raises:
        ValueError: when two videos have the same name, or a folder holds other things.
    """
    folders: dict[str, Path] = {}
    owners: dict[Path, str] = {}
    for path in paths:
        folder = folders[path] = Path(output, Path(path).stem)
        owner = owners.setdefault(folder, path)
        if owner != path:
            raise ValueError(
                f"{owner} and {path} would both write to {folder}. Highlight them one at a time, "
                "each with its own `output`."
            )
        check_folder(folder, path)
    return folders


def highlight_videos(
    model: ChunkModel,
    folders: Mapping[str, Path],
    *,
    class_name: str | None = None,
    threshold: float = 1.5,
    clip: bool = False,
    max_seconds: float | None = None,
) -> Iterator[tuple[Path, VideoHighlights | BrokenVideo]]:
    """Highlight videos one after the other, and save what is found.

    Args:
        model: of chunks.
        folders: of the videos, see `video_folders`.
        class_name: see `highlight`.
        threshold: see `highlight`.
        clip: cut the moments out into highlight.mp4, where there are any.
        max_seconds: longest clip; see `VideoHighlights.write_clip`.

    Yields:
        The folder of each video, and its highlights or why it has none: those that cannot be opened
        first, before the long work begins.

    Raises:
        ValueError: when an argument is out of range or has no effect.
    """
    check_arguments(model, class_name, threshold)
    if clip and model.reads_arrays:
        raise ValueError(
            "`clip` has no effect on arrays of features, which have no frames. Leave it out."
        )
    lengths: dict[str, float] = {}
    if max_seconds is not None:
        if not clip:
            raise ValueError(
                f"`max_seconds` has no effect without `clip`. Received: max_seconds={max_seconds}."
            )
        check_max_seconds(max_seconds)
        lengths["max_seconds"] = max_seconds
    left = dict(folders)
    for path, folder in folders.items():
        try:
            model.inputs[0].check(path)
        except BrokenVideoError as error:
            del left[path]
            yield folder, BrokenVideo(path, str(error).removeprefix(f"{path}: "))
    for path, folder in left.items():
        try:
            found = highlight(model, path, class_name, threshold)
        except BrokenVideoError as error:
            yield folder, BrokenVideo(path, str(error).removeprefix(f"{path}: "))
            continue
        found.save(folder)
        if clip and found.moments:
            found.write_clip(folder / "highlight.mp4", **lengths)
        yield folder, found
