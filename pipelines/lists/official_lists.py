"""Official lists of published data sets -> records."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Collection
from typing import Any

from pipelines.lists.listing import (
    Listing,
    list_lines,
    source_group,
    video_stem,
    videos_below,
    warn_of_empty_classes,
)
from pipelines.lists.records import Split, VideoRecord

_logger = logging.getLogger(__name__)

_HOLLYWOOD2_ACTIONS = (
    "AnswerPhone",
    "DriveCar",
    "Eat",
    "FightPerson",
    "GetOutCar",
    "HandShake",
    "HugPerson",
    "Kiss",
    "Run",
    "SitDown",
    "SitUp",
    "StandUp",
)


def read_hmdb51(
    video_root: str | os.PathLike[str],
    split_folder: str | os.PathLike[str],
    split: int = 1,
    file_suffix: str = "",
) -> Split:
    """Reads an official split of HMDB51, or of JHMDB, which has the same format.

    Args:
        video_root: folder with `<class>/<video>`.
        split_folder: folder with `<class>_test_split<n>.txt`, lines `<video> 0|1|2` where 1 is
            training, 2 is test and 0 is unused.
        split: number of the split, 1 to 3.
        file_suffix: appended to the listed names, such as ".h5" where `video_root` holds
            features.

    Raises:
        ValueError: when there is no such split, a line cannot be read, a listed video is missing or
            a video is listed twice.
    """
    suffix = f"_test_split{split}.txt"
    if not os.path.isdir(split_folder):
        raise ValueError(f"The split folder does not exist: {split_folder}.")
    lists = sorted(name for name in os.listdir(split_folder) if name.endswith(suffix))
    if not lists:
        raise ValueError(f"No files <class>{suffix} in {split_folder}.")
    names = tuple(name[: -len(suffix)] for name in lists)
    listing = Listing(video_root, file_suffix)
    parts: dict[str, list[VideoRecord]] = {"1": [], "2": []}
    for label, name in enumerate(names):
        for where, line in list_lines(os.path.join(split_folder, lists[label])):
            video, _, part = line.rpartition(" ")
            if not video or part not in ("0", "1", "2"):
                raise ValueError(f"{where}: expected '<video> 0|1|2'. Received: {line!r}.")
            if part != "0":
                path = listing.add(f"{name}/{video.strip()}", where)
                parts[part].append(VideoRecord(path, (label,), group=source_group(path, name)))
    listing.check()
    warn_of_empty_classes(parts["1"], names, f"the training list of split {split}")
    return Split(tuple(parts["1"]), tuple(parts["2"]), names)


def read_ucf101(
    video_root: str | os.PathLike[str],
    list_folder: str | os.PathLike[str],
    split: int = 1,
    file_suffix: str = "",
) -> Split:
    """Reads an official split of UCF101.

    Args:
        video_root: folder with `<class>/<video>`.
        list_folder: folder with `classInd.txt`, `trainlist0<n>.txt` and `testlist0<n>.txt`.
        split: number of the split, 1 to 3.
        file_suffix: appended to the listed names, see `read_hmdb51`.

    Raises:
        ValueError: when a list is missing or cannot be read, names an unknown class or a missing
            video, or a video is listed twice.
    """
    names: list[str] = []
    for where, line in list_lines(os.path.join(list_folder, "classInd.txt")):
        number, _, name = line.partition(" ")
        if number != str(len(names) + 1) or not name:
            raise ValueError(f"{where}: expected '{len(names) + 1} <class>'. Received: {line!r}.")
        names.append(name.strip())
    index = {name: i for i, name in enumerate(names)}
    listing = Listing(video_root, file_suffix)
    parts: dict[str, list[VideoRecord]] = {"train": [], "test": []}
    for part, records in parts.items():
        for where, line in list_lines(os.path.join(list_folder, f"{part}list{split:02d}.txt")):
            video = re.sub(r"\s+\d+$", "", line)
            name = video.partition("/")[0]
            if name not in index:
                raise ValueError(f"{where}: unknown class {name!r}; classInd.txt does not list it.")
            path = listing.add(video, where)
            records.append(VideoRecord(path, (index[name],), group=source_group(path, name)))
    listing.check()
    warn_of_empty_classes(parts["train"], names, f"trainlist{split:02d}.txt")
    return Split(tuple(parts["train"]), tuple(parts["test"]), tuple(names))


def read_hollywood2(
    root: str | os.PathLike[str],
    video_root: str | os.PathLike[str] | None = None,
    file_suffix: str = "",
) -> Split:
    """Reads the 12 actions of Hollywood2, a multi-label task, with its clean training set.

    Args:
        root: folder with `ClipSets/<Action>_train.txt` and `ClipSets/<Action>_test.txt`, lines
            `<clip> 1|-1`. The lists of scenes and the automatic training set are passed over.
        video_root: folder with `<clip>.avi`; by default `<root>/AVIClips`.
        file_suffix: appended to the listed names, see `read_hmdb51`.

    Raises:
        ValueError: when a list is missing or cannot be read, lists a clip twice or other clips than
            the other actions' lists, or a listed video is missing.

    Reference:
        Marszalek, Laptev, Schmid, Actions in Context, CVPR 2009; 823 and 884 clips.
    """
    video_root = os.path.join(root, "AVIClips") if video_root is None else video_root
    listing = Listing(video_root, file_suffix)
    parts = {}
    for part in ("train", "test"):
        labels: dict[str, list[int]] = {}
        places: dict[str, str] = {}
        for label, name in enumerate(_HOLLYWOOD2_ACTIONS):
            path = os.path.join(root, "ClipSets", f"{name}_{part}.txt")
            signs = _signs(path)
            if label and signs.keys() != labels.keys():
                clip = min(signs.keys() ^ labels.keys())
                raise ValueError(
                    f"{path} must list the same clips as {_HOLLYWOOD2_ACTIONS[0]}_{part}.txt. "
                    f"Received: {clip} in only one of them."
                )
            for clip, (where, is_positive) in signs.items():
                places.setdefault(clip, where)
                labels.setdefault(clip, []).extend([label] if is_positive else [])
        parts[part] = tuple(
            VideoRecord(listing.add(f"{clip}.avi", places[clip]), tuple(found))
            for clip, found in labels.items()
        )
    listing.check()
    warn_of_empty_classes(parts["train"], _HOLLYWOOD2_ACTIONS, "the training lists")
    return Split(parts["train"], parts["test"], _HOLLYWOOD2_ACTIONS)


def read_activitynet(
    video_root: str | os.PathLike[str],
    json_path: str | os.PathLike[str],
    file_suffix: str = "",
    max_missing: int | None = None,
) -> Split:
    """Reads ActivityNet's annotations as trimmed clips: one record a segment.

    The subset "training" is the training list and "validation" the test list, as in the papers that
    train on trimmed segments; "testing" has no labels and is left out, and so are segments without
    length within the video and repeated ones. A record's group is its video.

    Args:
        video_root: folder with `v_<id>.<suffix>` or `<id>.<suffix>`, in sub-folders or not.
        json_path: annotations such as `activity_net.v1-3.min.json`: `{"database": {<id>: {"subset",
            "duration", "annotations": [{"label", "segment": [start, end]}]}}}`, in seconds.
        file_suffix: reads the files `<video><file_suffix>`, see `read_hmdb51`.
        max_missing: most videos that may be missing, which a warning counts; by default any number
            but all of them, since many are gone from YouTube.

    Raises:
        ValueError: when the file cannot be read, more than `max_missing` or all of the videos are
            missing, or a video is there twice.
    """
    json_path = os.fspath(json_path)
    database = _activitynet_database(json_path)
    paths = _activitynet_paths(video_root, file_suffix, database.keys())
    segments = [
        (part, video, label, segment)
        for video, entry in database.items()
        if (part := _activitynet_part(entry, video, json_path)) is not None
        for label, segment in _activitynet_segments(entry, video, json_path)
    ]
    wanted = dict.fromkeys(video for _, video, _, _ in segments)
    missing = [video for video in wanted if video not in paths]
    if missing:
        message = (
            f"{len(missing)} of {len(wanted)} videos of {json_path} are missing below "
            f"{video_root}, first: v_{missing[0]}"
        )
        if len(missing) == len(wanted) or (max_missing is not None and len(missing) > max_missing):
            raise ValueError(f"{message}.")
        _logger.warning("%s; they are left out.", message)
    names = tuple(sorted({label for _, _, label, _ in segments}))
    index = {name: i for i, name in enumerate(names)}
    parts: dict[str, list[VideoRecord]] = {"train": [], "test": []}
    for part, video, label, segment in segments:
        if video in paths:
            parts[part].append(VideoRecord(paths[video], (index[label],), *segment, group=video))
    warn_of_empty_classes(parts["train"], names, f"the training subset of {json_path}")
    return Split(tuple(parts["train"]), tuple(parts["test"]), names)


def _signs(path: str) -> dict[str, tuple[str, bool]]:
    """Where each clip of a list `<clip> 1|-1` stands, and whether it is positive."""
    signs: dict[str, tuple[str, bool]] = {}
    for where, line in list_lines(path):
        clip, *sign = line.split()
        if sign not in (["1"], ["-1"]):
            raise ValueError(f"{where}: expected '<clip> 1|-1'. Received: {line!r}.")
        if clip in signs:
            raise ValueError(f"{where}: {clip} is listed twice, first in {signs[clip][0]}.")
        signs[clip] = where, sign == ["1"]
    return signs


def _activitynet_database(path: str) -> dict[str, dict[str, Any]]:
    if not os.path.isfile(path):
        raise ValueError(f"The list does not exist: {path}.")
    try:
        with open(path, encoding="utf-8") as file:
            database = json.load(file)["database"]
    except (ValueError, KeyError, TypeError):
        database = None
    if not isinstance(database, dict) or not all(isinstance(v, dict) for v in database.values()):
        raise ValueError(
            f"{path} has not ActivityNet's format: expected "
            '{"database": {<id>: {"subset": ..., "annotations": [...]}}}.'
        )
    return database


def _activitynet_part(entry: dict[str, Any], video: str, path: str) -> str | None:
    parts = {"training": "train", "validation": "test", "testing": None}
    subset = entry.get("subset")
    if subset not in parts:
        raise ValueError(
            f"{path}, video {video}: `subset` must be one of {', '.join(parts)}. "
            f"Received: {subset!r}."
        )
    return parts[subset]


def _activitynet_segments(
    entry: dict[str, Any], video: str, path: str
) -> list[tuple[str, tuple[float, float]]]:
    found: dict[tuple[str, tuple[float, float]], None] = {}
    for annotation in entry.get("annotations", []):
        try:
            label = str(annotation["label"])
            start, end = (float(seconds) for seconds in annotation["segment"])
            start, end = max(start, 0.0), min(end, float(entry.get("duration", "inf")))
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f'{path}, video {video}: expected {{"label": ..., "segment": [start, end]}} and '
                "a duration in seconds. "
                f"Received: {annotation!r}."
            ) from None
        if start < end:
            found[label, (start, end)] = None
    return list(found)


def _activitynet_paths(
    video_root: str | os.PathLike[str], file_suffix: str, videos: Collection[str]
) -> dict[str, str]:
    paths: dict[str, str] = {}
    for path in videos_below(video_root, file_suffix):
        stem = video_stem(path)
        video = stem if stem in videos else stem.removeprefix("v_")
        if video not in videos:
            continue
        if video in paths:
            raise ValueError(f"The video {video} is there twice: {paths[video]} and {path}.")
        paths[video] = path
    return paths
