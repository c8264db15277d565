"""Extracted features of videos on disk: a folder for a feature set, a file for a video.

A feature set's folder holds `features.json` and, in the tree of the videos, `<video>.h5` or
`<video>.tfrecord`. Row r of a file describes the frames from `r * frame_step` on, `window_frames`
of them, the last window filled up with the last frame. In a set of arrays that were imported, the
files are `<clip>.h5`, and times may be unknown (NaN).

HDF5 files hold the datasets `features` (rows, D), `seconds` (rows,), the start of each row, and,
where extracted, `flipped` (rows, D), of the mirrored frames; the attributes are `num_frames` and
`frames_per_second`. TFRecord files hold the same as one SequenceExample, see `sequence_examples`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager

import h5py
import numpy as np

from pipelines.features.feature_set import (
    DTYPES,
    FILE_SUFFIXES,
    FeatureFileInfo,
    no_flipped_features,
)
from pipelines.storage.files import write_aside

# Rows of a video lie in chunks of about this size: few rows are read that are not asked for.
_CHUNK_BYTES = 2**14


def write_features(
    path: str | os.PathLike[str],
    features: np.ndarray,
    seconds: np.ndarray,
    *,
    num_frames: int,
    frames_per_second: float,
    flipped: np.ndarray | None = None,
) -> None:
    """Writes the features of one video, aside first: a reader never sees half a file.

    Args:
        path: ends with ".h5" or ".tfrecord"; missing folders are made.
        features: float32 or float16 `(rows, D)`; TFRecord takes float32 only.
        seconds: start of each row, `(rows,)`.
        num_frames: frames of the video.
        frames_per_second: mean frame rate of the video.
        flipped: features of the mirrored frames, like `features`.

    Raises:
        ValueError: when the shapes, the type or the suffix are others, or a TFRecord would exceed
            2 GB.
    """
    with write_aside(path) as aside, FeatureWriter(aside) as writer:
        writer.append(features, seconds, flipped)
        writer.finish(num_frames=num_frames, frames_per_second=frames_per_second)


class FeatureWriter(AbstractContextManager):
    """Writes the features of one video batch by batch.

    HDF5 batches go to the disk; those of a TFRecord, which is one example, wait in memory. The file
    is whole after `finish`.

    Args:
        path: ends with ".h5" or ".tfrecord".

    Raises:
        ValueError: when the suffix is another; at the end, if `finish` was not called.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = os.fspath(path)
        self._format = _format_of(self.path)
        self._file: h5py.File | None = None
        self._batches: list[tuple[np.ndarray, ...]] = []
        self._seconds: list[np.ndarray] = []
        self._num_rows = 0
        self._is_finished = False

    def append(
        self, features: np.ndarray, seconds: np.ndarray, flipped: np.ndarray | None = None
    ) -> None:
        """Adds rows; arguments and errors are those of `write_features`."""
        if features.ndim != 2 or seconds.shape != features.shape[:1] or not features.size:
            raise ValueError(
                "`features` must have the shape (rows, D) and `seconds` (rows,). "
                f"Received: {features.shape} and {seconds.shape}."
            )
        if flipped is not None and (flipped.shape, flipped.dtype) != (
            features.shape,
            features.dtype,
        ):
            raise ValueError(
                f"`flipped` must be {features.dtype} {features.shape} like `features`. "
                f"Received: {flipped.dtype} {flipped.shape}."
            )
        if features.dtype.name not in (DTYPES if self._format == "hdf5" else DTYPES[:1]):
            raise ValueError(
                f"`features` must be {' or '.join(DTYPES)}, in a TFRecord {DTYPES[0]}. "
                f"Received: {features.dtype.name} for {self.path}."
            )
        views = (features,) if flipped is None else (features, flipped)
        self._num_rows += len(features)
        self._seconds.append(seconds)
        if self._format == "tfrecord":
            check_example(self.path, self._num_rows, features.shape[1], flipped is not None)
            self._batches.append(views)
            return
        if self._file is None:
            self._file = h5py.File(self.path, "w")
        for name, rows in zip(("features", "flipped"), views, strict=False):
            _append(self._file, name, rows)

    def finish(self, *, num_frames: int, frames_per_second: float) -> None:
        """Completes the file."""
        self._is_finished = True
        seconds = np.concatenate(self._seconds).astype(np.float64)
        if self._file is not None:
            self._file["seconds"] = seconds
            self._file.attrs["num_frames"] = int(num_frames)
            self._file.attrs["frames_per_second"] = float(frames_per_second)
            self._file.close()
        else:
            from pipelines.features import sequence_examples

            features, *flipped = (np.concatenate(rows) for rows in zip(*self._batches, strict=True))
            info = FeatureFileInfo(
                features.shape[1],
                features.dtype.name,
                bool(flipped),
                int(num_frames),
                float(frames_per_second),
                seconds,
            )
            sequence_examples.write(self.path, info, features, flipped[0] if flipped else None)

    def __exit__(self, kind: object, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        if kind is None and not self._is_finished:
            raise ValueError(f"{self.path} is not whole: `finish` was not called.")


def check_example(path: str, num_rows: int, num_channels: int, flipped: bool) -> None:
    """Checks that the features of a video fit into one TFRecord example.

    Raises:
        ValueError: when they do not.
    """
    # A row's floats, its time, and their tags and lengths; the context is small.
    size = 2**12 + num_rows * (4 * num_channels + 40) * (2 if flipped else 1)
    if size >= 2**31:
        raise ValueError(
            f"The features of a video must fit into a TFRecord example of 2 GB. Received: {path} "
            f"with {num_rows} rows of {num_channels} channels{', twice' if flipped else ''}. "
            "Choose hdf5, or a longer `frame_step`."
        )


def read_info(path: str | os.PathLike[str]) -> FeatureFileInfo:
    """Reads what a file says besides its features.

    Raises:
        ValueError: when the file is missing, broken or no feature file.
    """
    path = os.fspath(path)
    if _format_of(path) == "tfrecord":
        from pipelines.features import sequence_examples

        return sequence_examples.read_info(path)
    with _open_hdf5(path) as file:
        features = file["features"]
        return FeatureFileInfo(
            features.shape[1],
            features.dtype.name,
            "flipped" in file,
            int(file.attrs["num_frames"]),
            float(file.attrs["frames_per_second"]),
            file["seconds"][:],
        )


def read_features(
    path: str | os.PathLike[str],
    rows: Sequence[int] | np.ndarray | None = None,
    flipped: bool = False,
) -> np.ndarray:
    """Reads rows of a video's features; from an HDF5 file, no others.

    Args:
        path: feature file.
        rows: rows in any order, repeats allowed; by default all.
        flipped: read the features of the mirrored frames.

    Returns:
        `(rows, D)` of the file's type.

    Raises:
        ValueError: when the file is missing, broken or no feature file, has no flipped features, or
            a row is out of range.
    """
    path = os.fspath(path)
    if _format_of(path) == "tfrecord":
        from pipelines.features import sequence_examples

        features = sequence_examples.read_features(path, flipped)
        return features if rows is None else features[_checked(rows, len(features), path)]
    with _open_hdf5(path) as file:
        if flipped and "flipped" not in file:
            raise no_flipped_features(path)
        dataset = file["flipped" if flipped else "features"]
        if rows is None:
            return dataset[:]
        wanted, places = np.unique(_checked(rows, len(dataset), path), return_inverse=True)
        first, last = wanted[0], wanted[-1]
        if last - first < 4 * len(wanted):  # one slice is faster than many
            return dataset[first : last + 1][wanted - first][places]
        # One by one: h5py takes several times as long to choose rows from many chunks.
        return np.stack([dataset[row] for row in wanted])[places]


def _format_of(path: str) -> str:
    for file_format, suffix in FILE_SUFFIXES.items():
        if path.endswith(suffix):
            return file_format
    raise ValueError(
        f"A feature file must end with {' or '.join(FILE_SUFFIXES.values())}. Received: {path}."
    )


def _append(file: h5py.File, name: str, rows: np.ndarray) -> None:
    if name not in file:
        shape = (max(_CHUNK_BYTES // rows[0].nbytes, 1), rows.shape[1])
        file.create_dataset(name, data=rows, maxshape=(None, rows.shape[1]), chunks=shape)
        return
    dataset = file[name]
    dataset.resize(len(dataset) + len(rows), axis=0)
    dataset[-len(rows) :] = rows


def _open_hdf5(path: str) -> h5py.File:
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path} cannot be read as a feature file ({error}).") from None
    attributes = {"num_frames", "frames_per_second"}
    is_whole = {"features", "seconds"} <= set(file) and attributes <= set(file.attrs)
    if not is_whole or np.ndim(file["features"]) != 2 or np.ndim(file["seconds"]) != 1:
        file.close()
        raise ValueError(f"{path} is an HDF5 file, but holds no features of a video.")
    return file


def _checked(rows: Sequence[int] | np.ndarray, num_rows: int, path: str) -> np.ndarray:
    rows = np.asarray(rows, dtype=np.int64)
    if rows.ndim != 1 or not rows.size or rows.min() < 0 or rows.max() >= num_rows:
        raise ValueError(
            f"`rows` must lie between 0 and {num_rows - 1} in {path}. Received: {rows}."
        )
    return rows
