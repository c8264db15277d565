"""Arrays of features that another program has written -> a feature set."""

from __future__ import annotations

import logging
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipelines.features.arrays import (
    array_stem,
    arrays_below,
    check_channels,
    has_names,
    read_array,
)
from pipelines.features.extraction import FeatureExtraction
from pipelines.features.feature_set import DESCRIPTION_NAME, FeatureSet
from pipelines.features.files import write_features
from pipelines.lists.listing import find_files
from pipelines.progress import progress_bar
from pipelines.storage.files import remove_unfinished
from pipelines.storage.owned_folder import OwnedFolder
from pipelines.video.index import BrokenVideo, tell_broken
from pipelines.video.info import BrokenVideoError

_logger = logging.getLogger(__name__)


class _Array(NamedTuple):
    num_rows: int
    num_channels: int
    dtype: str


def import_features(
    arrays: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    key: str | None = None,
    frame_step: int = 16,
    frames_per_second: float | None = None,
    max_broken: int | None = None,
    progress: bool = True,
) -> FeatureExtraction:
    """Makes a feature set of arrays `(T, D)` that any network has written, one file a clip.

    The folder mirrors the tree of the arrays: `train` takes it as it takes the features of videos,
    with the same lists, in which a clip is named as a video (`kick/a.avi`) or as an array
    (`kick/a.npy`). Every array is checked before the first is written. One that cannot be used gets
    no file; a warning names these. An import that was killed goes on; given again, it imports what
    has changed since.

    Args:
        arrays: a folder of files, all in which and below are taken; one file; or several. See
            `read_array` for their formats.
        folder: of the feature set, made when missing.
        key: name of the array in files that name their arrays (`.npz`, HDF5, MATLAB); by default
            the only one.
        frame_step: frames of the video from one row of an array to the next. With 16 frames, a
            chunk of 192 is 12 rows.
        frames_per_second: frame rate of the videos; without it the features tell no times.
        max_broken: most arrays that may be broken; by default all but one. The features of the
            others are there when more are.
        progress: show how many arrays are done.

    Raises:
        ValueError: when an argument is out of range or has no effect, two arrays have the same name
            but for their suffix, the folder holds other things or features of other settings, no
            array can be used, or too many are broken.
        OSError: when the disk has not enough room, or another process works in the folder.
    """
    if isinstance(frame_step, bool) or not isinstance(frame_step, int) or frame_step < 1:
        raise ValueError(
            f"`frame_step` must be a positive integer. Received: frame_step={frame_step}."
        )
    if frames_per_second is not None and not 0 < frames_per_second < float("inf"):
        raise ValueError(
            "`frames_per_second` must be a positive number. "
            f"Received: frames_per_second={frames_per_second}."
        )
    if isinstance(arrays, str | os.PathLike):
        if Path(arrays, DESCRIPTION_NAME).exists():
            raise ValueError(f"{os.fspath(arrays)} is a feature set already: train on it.")
        if Path(folder).resolve().is_relative_to(Path(arrays).resolve()):
            raise ValueError(
                f"`folder` must not lie within `arrays`. Received: folder={os.fspath(folder)!r}."
            )
    paths, root = find_files(arrays, None, arrays_below, "array")
    if key is not None and not any(map(has_names, paths)):
        raise ValueError(
            f"`key` has no effect on .npy files, which hold one array. Received: key={key!r}."
        )
    targets = _targets(paths, root, folder)
    found, broken = _check(paths, key, progress)
    described = _describe(found, key, frame_step, frames_per_second)
    owned = OwnedFolder(
        folder,
        holds="features",
        settings_file=DESCRIPTION_NAME,
        read=lambda path: asdict(FeatureSet.read(path)),
    )
    with owned.locked():
        owned.claim(asdict(described))
        pending = [path for path in found if not _is_imported(path, targets[path])]
        for one in broken:
            # Of a time when it could be read.
            Path(targets[one.path]).unlink(missing_ok=True)
        _check_room(folder, [found[path] for path in pending], described.dtype)
        for parent in {os.path.dirname(targets[path]) for path in pending}:
            remove_unfinished(parent)
        with progress_bar("Importing", len(pending), disable=not progress or not pending) as bar:
            for path in pending:
                _write(read_array(path, key), targets[path], described)
                bar.update()
    tell_broken(broken, len(paths), "features", max_broken, "arrays")
    if frames_per_second is None:
        _logger.info(
            "%s tells no times: positions are counted in features. `frames_per_second` gives "
            "seconds.",
            os.fspath(folder),
        )
    return FeatureExtraction(Path(folder), len(found), described.num_channels, tuple(broken))


def import_like(
    described: FeatureSet, arrays: Sequence[str], folder: str | os.PathLike[str]
) -> tuple[dict[str, str], list[BrokenVideo]]:
    """Makes a set of a few arrays as another set was made, to give them to a model of that.

    Args:
        described: the other set, which was imported.
        arrays: their files.
        folder: of the new set.

    Returns:
        The arrays with their files in the set, and those that cannot be used.
    """
    described = replace(described, dtype="float32")
    files: dict[str, str] = {}
    broken: list[BrokenVideo] = []
    for path in dict.fromkeys(arrays):
        try:
            array = read_array(path, described.layer)
            check_channels(array, described.num_channels)
        except BrokenVideoError as error:
            broken.append(BrokenVideo(path, str(error)))
            continue
        # Of the array's own name, from which the chunks of a test are drawn.
        name = array_stem(os.path.basename(path)) + described.file_suffix
        files[path] = os.path.join(folder, str(len(files)), name)
        _write(array, files[path], described)
    described.save(folder)
    return files, broken


def _is_imported(path: str, target: str) -> bool:
    """Whether an array's features are there, and no older than the array."""
    return os.path.isfile(target) and os.path.getmtime(target) >= os.path.getmtime(path)


def _targets(paths: Sequence[str], root: str, folder: str | os.PathLike[str]) -> dict[str, str]:
    """Maps arrays to their files in the feature set."""
    owners: dict[str, str] = {}
    for path in paths:
        target = os.path.join(folder, array_stem(os.path.relpath(path, root)) + ".h5")
        if target in owners:
            raise ValueError(
                f"`arrays` must have different names, whatever their suffix. Received: "
                f"{owners[target]} and {path}."
            )
        owners[target] = path
    return {path: target for target, path in owners.items()}


def _check(
    paths: Sequence[str], key: str | None, progress: bool
) -> tuple[dict[str, _Array], list[BrokenVideo]]:
    """What the arrays hold, and those that cannot be used."""
    found: dict[str, _Array] = {}
    reasons: dict[str, str] = {}
    bar = progress_bar("Checking arrays", len(paths), transient=True, disable=not progress)
    with bar:
        for path in paths:
            try:
                array = read_array(path, key)
                found[path] = _Array(len(array), array.shape[1], array.dtype.name)
            except BrokenVideoError as error:
                reasons[path] = str(error)
            bar.update()
    if not found:
        raise ValueError(
            f"None of {len(paths)} arrays can be used, first: {paths[0]}: {reasons[paths[0]]}."
        )
    ((num_channels, count), *_) = Counter(one.num_channels for one in found.values()).most_common(1)
    for path in [path for path, one in found.items() if one.num_channels != num_channels]:
        reasons[path] = (
            f"its rows have {found.pop(path).num_channels} channels, and those of "
            f"{count} arrays {num_channels}"
        )
    return found, [BrokenVideo(path, reasons[path]) for path in paths if path in reasons]


def _describe(
    found: Mapping[str, _Array], key: str | None, frame_step: int, frames_per_second: float | None
) -> FeatureSet:
    halves = all(one.dtype == "float16" for one in found.values())
    return FeatureSet(
        network=None,
        layer=key,
        weights=None,
        image_size=None,
        short_side=None,
        window_frames=frame_step,
        frame_step=frame_step,
        num_channels=next(iter(found.values())).num_channels,
        dtype="float16" if halves else "float32",
        format="hdf5",
        flipped=False,
        fingerprint=None,
        frames_per_second=frames_per_second,
    )


def _check_room(folder: str | os.PathLike[str], arrays: Sequence[_Array], dtype: str) -> None:
    needed = sum(one.num_rows * one.num_channels for one in arrays) * np.dtype(dtype).itemsize
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"The features need about {needed / 2**30:.1f} GiB and {folder} has "
            f"{free / 2**30:.1f} GiB free. Choose another folder."
        )


def _write(array: np.ndarray, path: str, described: FeatureSet) -> None:
    rate = described.frames_per_second or np.nan
    write_features(
        path,
        array.astype(described.dtype, copy=False),
        np.arange(len(array)) * described.frame_step / rate,
        num_frames=len(array) * described.frame_step,
        frames_per_second=rate,
    )
