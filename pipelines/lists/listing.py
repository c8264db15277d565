"""What readers of lists share: files that a list names, its lines, groups and empty classes."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from pipelines.lists.records import VideoRecord, file_identity
from pipelines.video.frame_folders import is_frame_folder, is_frame_name
from pipelines.video.names import VIDEO_SUFFIXES, without_video_suffix

_logger = logging.getLogger(__name__)

# <source video>_<class>_<visible body>_<camera motion>_np<people>_<view>_<quality>_<number>
_HMDB51_ATTRIBUTES = r"_[a-z]_[a-z]{2}_np\d+_[a-z]{2}_[a-z]{3}_\d+"
_UCF101_NAME = re.compile(r"v_(?P<group>.+_g\d+)_c\d+")
# p<player>_<stroke, shortened>[_<kind of picture>]_s<take>
_THETIS_NAME = re.compile(r"(?P<player>p\d+)_[A-Za-z\d]+(?:_[A-Za-z\d]+)?_s\d+")
_FEATURE_SUFFIXES = (".h5", ".tfrecord")


class Listing:
    """The files a list names: joins them with their root and finds missing and repeated ones.

    Where a listed file is missing, the frame folder of its name without suffix is taken; of
    features, see `feature_path`.

    Args:
        root: folder that the names are relative to.
        file_suffix: appended to every name, such as ".h5" for the features of the listed videos.
            Some of these may be missing, since broken videos have none: see
            `pipelines.features.feature_index.drop_without_features`.
    """

    def __init__(self, root: str | os.PathLike[str], file_suffix: str = ""):
        self.root = root
        self.file_suffix = file_suffix
        self.first: dict[tuple, str] = {}
        self.missing: list[str] = []

    def add(self, name: str, where: str, segment: tuple = (None, None)) -> str:
        path = os.path.join(self.root, name)
        if self.file_suffix:
            path = feature_path(path, self.file_suffix)
        is_missing = not os.path.isfile(path)
        if is_missing and not self.file_suffix and is_frame_folder(without_video_suffix(path)):
            path, is_missing = without_video_suffix(path), False
        key = (file_identity(path), *segment)
        if key in self.first:
            raise ValueError(f"{where}: {name} is listed twice, first in {self.first[key]}.")
        self.first[key] = where
        if is_missing:
            self.missing.append(f"{name} ({where})")
        return path

    def check(self) -> None:
        if self.missing and (not self.file_suffix or len(self.missing) == len(self.first)):
            raise ValueError(
                f"{len(self.missing)} of {len(self.first)} listed videos are missing below "
                f"{self.root or '.'}, first: {self.missing[0]}."
            )


def feature_path(video: str, file_suffix: str) -> str:
    """Returns the file of a video's features: `<video><file_suffix>`.

    Where only a file of the video's name without its suffix is there, that: features that were
    imported are of no video file.
    """
    path, shorter = (f"{name}{file_suffix}" for name in (video, os.path.splitext(video)[0]))
    return shorter if os.path.isfile(shorter) and not os.path.isfile(path) else path


def videos_below(folder: str | os.PathLike[str], file_suffix: str = "") -> list[str]:
    """Lists the video files and frame folders in a folder and those below it, sorted.

    With a suffix, the files that end with it instead. Names that begin with a dot are passed over.
    """
    paths = []
    for base, names in visible_files(folder):
        if not file_suffix and any(map(is_frame_name, names)):
            paths.append(base)
        paths += [
            os.path.join(base, name)
            for name in names
            if (name.endswith(file_suffix) if file_suffix else _is_video_name(name))
        ]
    return sorted(paths)


def visible_files(folder: str | os.PathLike[str]) -> Iterator[tuple[str, list[str]]]:
    """Walks a folder and those below it: each with the names of its files.

    Names that begin with a dot are passed over.
    """
    for base, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield base, [name for name in names if not name.startswith(".")]


def name_videos(names: Iterable[str]) -> bool:
    """Whether one of the names in a folder is a video's, or a frame's of a folder of frames."""
    return any(_is_video_name(name) or is_frame_name(name) for name in names)


def _is_video_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def find_videos(
    videos: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    root: str | os.PathLike[str] | None = None,
) -> tuple[list[str], str]:
    """Finds the videos to make something of, and the folder whose tree that mirrors.

    Args:
        videos: a folder, all videos in which and below are taken; one video; or several.
        root: the folder that they lie below; by default the folder, or the one that holds all.

    Raises:
        ValueError: when there is no video, or one does not lie below `root`.
    """
    return find_files(videos, root, videos_below, "video")


def find_files(
    named: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    root: str | os.PathLike[str] | None,
    below: Callable[[str], list[str]],
    kind: str,
) -> tuple[list[str], str]:
    """Finds the files that a caller names: all in a folder and below it, one, or several.

    Args:
        named: a folder, a file, or several files.
        root: see `find_videos`.
        below: lists the files in a folder and below it.
        kind: what the files are, for messages; the caller's argument is called `<kind>s`.

    Raises:
        ValueError: when there is no file, or one does not lie below `root`.
    """
    if not isinstance(named, str | os.PathLike):
        paths = [os.fspath(path) for path in named]
        if not paths:
            raise ValueError(f"`{kind}s` must name at least one {kind}. Received: an empty list.")
        root = root or os.path.commonpath([os.path.dirname(os.path.abspath(p)) for p in paths])
    elif os.path.isdir(named) and not is_frame_folder(os.fspath(named)):
        paths, root = below(os.fspath(named)), root or named
        if not paths:
            raise ValueError(f"There is no {kind} below {os.fspath(named)}.")
    elif os.path.exists(named):
        paths, root = [os.fspath(named)], root or os.path.dirname(named) or os.curdir
    else:
        raise ValueError(f"There is no folder or {kind} {os.fspath(named)}.")
    for path in paths:
        if os.path.relpath(path, root).split(os.sep)[0] == os.pardir:
            raise ValueError(f"Every {kind} must lie below {root}. Received: {path}.")
    return paths, os.fspath(root)


def video_stem(path: str | os.PathLike[str]) -> str:
    """Returns a video's name without folder and suffix, also of a file `<video>.h5` beside it."""
    name = os.path.basename(path)
    stem, suffix = os.path.splitext(name)
    shorter = without_video_suffix(stem)
    is_video = shorter == stem and suffix not in _FEATURE_SUFFIXES
    return without_video_suffix(name) if is_video else shorter


def list_lines(path: str | os.PathLike[str]) -> Iterator[tuple[str, str]]:
    """Yields where each line that is not empty stands, and the line."""
    if not os.path.isfile(path):
        raise ValueError(f"The list does not exist: {path}.")
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield f"{path}, line {number}", line.strip()


def source_group(path: str | os.PathLike[str], class_name: str | None = None) -> str | None:
    """Names the source of a clip, from HMDB51's (JHMDB's), UCF101's and THETIS' file names.

    HMDB51's clips of one film share its name over all classes; UCF101 numbers its 25 source groups
    in each class; THETIS names the player. None for any other name. The features of a clip,
    `<video>.h5`, are of its group.
    """
    name = video_stem(path)
    if match := _UCF101_NAME.fullmatch(name):
        return match["group"]
    if match := _THETIS_NAME.fullmatch(name):
        return match["player"]
    if class_name and (
        match := re.fullmatch(f"(.+)_{re.escape(class_name)}{_HMDB51_ATTRIBUTES}", name)
    ):
        return match[1]
    return None


def warn_of_empty_classes(
    records: Iterable[VideoRecord], class_names: Sequence[str], source: str | os.PathLike[str]
) -> None:
    used = {label for record in records for label in record.labels}
    empty = [name for i, name in enumerate(class_names) if i not in used]
    if empty:
        names = ", ".join(empty)
        _logger.warning("%d classes have no videos in %s: %s.", len(empty), source, names)
