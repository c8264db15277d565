"""Files of class scores: HDF5 as ActionVLAD released them, npz of run folders, Charades' text."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pipelines.storage.files import write_aside
from tfvlad.evaluation.metrics import average_crops

FORMATS = (".h5", ".npz", ".txt")
_HDF5_NAME = "stream0/logits"


@dataclass(frozen=True)
class ScoreFile:
    """The class scores of clips, and what their file says of them.

    Attributes:
        scores: logits or any other scores, `(num_clips, num_classes)`.
        clips: the clips' names; None where a clip is known by its row alone.
        labels: class indices `(num_clips,)`, or multi-hot truth `(num_clips, num_classes)`.
        class_names: one name a class.

    Raises:
        ValueError: when the shapes do not fit together or a score is NaN.
    """

    scores: np.ndarray
    clips: tuple[str, ...] | None = None
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if np.ndim(self.scores) != 2 or np.size(self.scores) == 0:
            raise ValueError(
                "`scores` must have the shape (num_clips, num_classes) and hold at least one clip. "
                f"Received: scores.shape={np.shape(self.scores)}."
            )
        num_clips, num_classes = self.scores.shape
        invalid = np.isnan(self.scores).any(axis=1)
        if invalid.any():
            row = int(invalid.argmax())
            clip = f" ({self.clips[row]})" if self.clips else ""
            raise ValueError(f"`scores` must not be NaN. Received: NaN in row {row}{clip}.")
        lengths = {"clips": num_clips, "labels": num_clips, "class_names": num_classes}
        for name, length in lengths.items():
            values = getattr(self, name)
            if values is not None and len(values) != length:
                raise ValueError(
                    f"`{name}` must have {length} entries for scores of the shape "
                    f"{self.scores.shape}. Received: {len(values)}."
                )

    def __repr__(self) -> str:
        names = ("clips", "labels", "class_names")
        known = [name for name in names if getattr(self, name) is not None]
        return f"ScoreFile({', '.join([f'scores {self.scores.shape}', *known])})"


def read_scores(path: str | os.PathLike[str]) -> ScoreFile:
    """Reads class scores from a file whose suffix tells its format.

    `.h5`: the dataset `stream0/logits`, rows in the order of a list that the file does not name.
    `.npz`: `logits` and, where they are there, `clips`, `labels` and `class_names`, as run folders
    have them. `.txt`: a line `<id> <score> ... <score>` a clip, separated by any white space, as
    Charades' evaluation reads it. The scores of a clip's crops, `(num_clips, num_crops,
    num_classes)`, are averaged.

    Raises:
        ValueError: when the file is missing or cannot be read as what its suffix says.

    Reference:
        github.com/rohitgirdhar/ActionVLAD (HDF5); `Charades_v1_classify.m` (text).
    """
    path = Path(path)
    _check_format(path)
    if not path.is_file():
        raise ValueError(f"The score file does not exist: {path}.")
    try:
        return {".h5": _read_hdf5, ".npz": _read_npz, ".txt": _read_text}[path.suffix](path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def write_scores(path: str | os.PathLike[str], file: ScoreFile) -> None:
    """Writes class scores in the format of the suffix; see `read_scores`.

    HDF5 keeps the scores alone and text the clips' names beside them. Text is exact: reading it
    gives the same numbers.

    Raises:
        ValueError: when the suffix is none of the formats', or text lacks the clips' names or a
            name has white space in it.
    """
    path = Path(path)
    _check_format(path)
    with write_aside(path) as aside:
        {".h5": _write_hdf5, ".npz": _write_npz, ".txt": _write_text}[path.suffix](aside, file)


def align_scores(
    file: ScoreFile, clips: Sequence[str], *, missing_score: float | None = None
) -> ScoreFile:
    """Puts the rows in the order of a list of clips, by name.

    Clips that the list does not have are left out.

    Args:
        file: scores of named clips.
        clips: the names in the order that is wanted.
        missing_score: score in every class of a clip that the file does not have. Charades'
            official measure takes minus infinity: `align_scores(read_scores("scores.txt"), ids,
            missing_score=-np.inf)`. By default there must be no such clip.

    Returns:
        The scores of `clips`; labels stay where no clip is missing.

    Raises:
        ValueError: when the file names no clips, one twice or, without `missing_score`, too few.
    """
    if file.clips is None:
        raise ValueError("Scores without clip names cannot be put in the order of others.")
    row_of = {clip: row for row, clip in enumerate(file.clips)}
    if len(row_of) < len(file.clips):
        twice = next(clip for row, clip in enumerate(file.clips) if row_of[clip] != row)
        raise ValueError(f"The clip {twice} has two rows of scores.")
    rows = np.array([row_of.get(clip, -1) for clip in clips], dtype=np.int64)
    scores, labels = file.scores[rows], file.labels
    missing = [clip for clip, row in zip(clips, rows, strict=True) if row < 0]
    if not missing:
        labels = None if labels is None else labels[rows]
    elif missing_score is None:
        raise ValueError(
            f"{len(missing)} of {len(clips)} clips have no scores, first: {missing[0]}."
        )
    else:
        scores, labels = np.where(rows[:, None] < 0, missing_score, scores), None
    return replace(file, scores=scores, clips=tuple(clips), labels=labels)


def _check_format(path: Path) -> None:
    if path.suffix not in FORMATS:
        raise ValueError(f"Score files end in {', '.join(FORMATS)}. Received: {path}.")


def _read_hdf5(path: Path) -> ScoreFile:
    try:
        hdf5 = h5py.File(path)
    except OSError as error:
        raise ValueError(f"this is no HDF5 file ({error}).") from error
    with hdf5:
        logits = hdf5.get(_HDF5_NAME)
        if not isinstance(logits, h5py.Dataset):
            found: list[str] = []
            hdf5.visit(found.append)
            raise ValueError(
                f"there is no dataset '{_HDF5_NAME}'. Received: {', '.join(found) or 'nothing'}."
            )
        return ScoreFile(average_crops(logits[()]))


def _write_hdf5(path: Path, file: ScoreFile) -> None:
    with h5py.File(path, "w") as hdf5:
        hdf5.create_dataset(_HDF5_NAME, data=file.scores, compression="gzip")


def _write_npz(path: Path, file: ScoreFile) -> None:
    arrays: dict[str, Any] = {"logits": file.scores}
    for name in ("clips", "labels", "class_names"):
        if (values := getattr(file, name)) is not None:
            arrays[name] = np.asarray(values)
    np.savez(path, **arrays)


def _write_text(path: Path, file: ScoreFile) -> None:
    clips = file.clips or ("",)
    unfit = [clip for clip in clips if len(clip.split()) != 1]
    if unfit:
        raise ValueError(
            "Scores in a text file need clip names without white space. Received: "
            f"{'none' if file.clips is None else repr(unfit[0])}. Write .npz instead."
        )
    with open(path, "w", encoding="utf-8") as text:
        for clip, row in zip(clips, file.scores, strict=True):
            text.write(f"{clip} {' '.join(map(str, row))}\n")


def _read_npz(path: Path) -> ScoreFile:
    try:
        with np.load(path) as arrays:
            found = dict(arrays)
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise ValueError(f"this is no npz file ({error}).") from error
    if "logits" not in found:
        raise ValueError(f"there is no array 'logits'. Received: {', '.join(found) or 'nothing'}.")
    names = {
        name: tuple(found[name].tolist()) if name in found else None
        for name in ("clips", "class_names")
    }
    return ScoreFile(average_crops(found["logits"]), labels=found.get("labels"), **names)


def _read_text(path: Path) -> ScoreFile:
    rows: dict[str, list[float]] = {}
    num_classes = 0
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            clip, *values = line.split()
            try:
                scores = [float(value) for value in values]
            except ValueError as error:
                raise ValueError(f"line {number}: expected '<id> <score> ...' ({error}).") from None
            num_classes = num_classes or len(scores)
            if not scores or len(scores) != num_classes:
                raise ValueError(
                    f"line {number}: expected {num_classes or 'some'} scores as in the lines "
                    f"before. Received: {len(scores)}."
                )
            if clip in rows:
                raise ValueError(f"line {number}: {clip} is there twice.")
            rows[clip] = scores
    return ScoreFile(np.array(list(rows.values()), dtype=np.float64), tuple(rows))
