"""What a feature set and each of its files say of themselves."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from pipelines.clips.sampling import num_windows
from pipelines.storage.files import write_json
from pipelines.storage.owned_folder import read_json

FILE_SUFFIXES = {"hdf5": ".h5", "tfrecord": ".tfrecord"}
DTYPES = ("float32", "float16")
DESCRIPTION_NAME = "features.json"


@dataclass(frozen=True)
class FeatureSet:
    """How the features of a folder were made: its `features.json`.

    Of arrays that were imported, `network`, `weights`, `image_size`, `short_side` and `fingerprint`
    are None: what made them is not known.

    Args:
        network: name of the network.
        layer: name of its layer; of imported arrays, the name of the array in each file, if it has
            any.
        weights: where its weights are from; None for random ones.
        image_size: (height, width) of the network's input, pixels.
        short_side: shorter side of the frame that the centre crop was taken from, pixels.
        window_frames: frames that a row describes.
        frame_step: frames from one row's start to the next.
        num_channels: length D of a row.
        dtype: "float32" or "float16".
        format: "hdf5" or "tfrecord".
        flipped: there are features of the mirrored frames too.
        fingerprint: hash of the network and its weights.
        frames_per_second: frame rate of the videos behind imported arrays, if it is known; None in
            a set of videos, whose files tell it.

    Raises:
        ValueError: when a field is out of range, or TFRecord is to keep float16.
    """

    network: str | None
    layer: str | None
    weights: str | None
    image_size: tuple[int, int] | None
    short_side: int | None
    window_frames: int
    frame_step: int
    num_channels: int
    dtype: str
    format: str
    flipped: bool
    fingerprint: str | None
    frames_per_second: float | None = None

    def __post_init__(self) -> None:
        if self.image_size is not None:
            object.__setattr__(self, "image_size", tuple(self.image_size))
        whole = ("window_frames", "frame_step", "num_channels")
        for name in whole if self.is_imported else ("short_side", *whole):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"`{name}` must be a positive integer. Received: {name}={getattr(self, name)}."
                )
        if self.dtype not in DTYPES:
            raise ValueError(
                f"`dtype` must be one of {', '.join(DTYPES)}. Received: {self.dtype!r}."
            )
        if self.format not in FILE_SUFFIXES:
            raise ValueError(
                f"`file_format` must be one of {', '.join(FILE_SUFFIXES)}. "
                f"Received: {self.format!r}."
            )
        if self.format == "tfrecord" and self.dtype == "float16":
            raise ValueError(
                "TFRecord keeps 32-bit floats. Received: dtype='float16', file_format='tfrecord'. "
                "Choose float32, or hdf5."
            )

    @property
    def is_imported(self) -> bool:
        """Whether the features are arrays that `import_features` has taken over."""
        return self.network is None

    @property
    def file_suffix(self) -> str:
        """What is appended to a video's path."""
        return FILE_SUFFIXES[self.format]

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> FeatureSet:
        """Reads a file `features.json`.

        Raises:
            ValueError, KeyError, TypeError: when it describes no feature set.
        """
        content = {"frames_per_second": None, **read_json(Path(path))}  # earlier sets lack it
        return cls(**{field.name: content[field.name] for field in fields(cls)})

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> FeatureSet:
        """Reads a folder's description.

        Raises:
            ValueError: when the folder is no feature set.
        """
        path = Path(folder, DESCRIPTION_NAME)
        if not path.is_file():
            raise ValueError(f"{folder} is no feature set: {path} does not exist.")
        try:
            return cls.read(path)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} describes no feature set ({error}).") from None

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the folder's description."""
        write_json(Path(folder, DESCRIPTION_NAME), asdict(self))


@dataclass(frozen=True, eq=False)
class FeatureFileInfo:
    """What a feature file says besides its features.

    Args:
        num_channels: length of a row.
        dtype: type of the features.
        flipped: there are features of the mirrored frames too.
        num_frames: frames of the video.
        frames_per_second: mean frame rate of the video; NaN where it is not known.
        seconds: start of each row from the video's first frame, float64 `(rows,)`; NaN likewise.
    """

    num_channels: int
    dtype: str
    flipped: bool
    num_frames: int
    frames_per_second: float
    seconds: np.ndarray

    @property
    def num_rows(self) -> int:
        return len(self.seconds)

    def segment(
        self, start_seconds: float | None, end_seconds: float | None, frame_step: int
    ) -> range:
        """Returns the indices of the frames shown from the start up to, exclusively, the end.

        The time of a frame between two rows is interpolated.

        Raises:
            ValueError: when no frame is shown within the segment, or the file tells no times.
        """
        if start_seconds is None and end_seconds is None:
            return range(self.num_frames)
        if not np.isfinite(self.frames_per_second):
            raise ValueError(
                f"The segment from {start_seconds} to {end_seconds} s cannot be found: these "
                "features tell no times. Import them with `frames_per_second`."
            )
        num_after_last = self.num_frames - (self.num_rows - 1) * frame_step
        end = self.seconds[-1] + num_after_last / self.frames_per_second
        times = np.append(self.seconds, end)
        frames = np.append(np.arange(self.num_rows) * frame_step, self.num_frames)
        # A bound on a frame's own time counts that frame, in spite of rounding.
        bounds = [start_seconds or 0.0, end if end_seconds is None else end_seconds]
        first, last = np.ceil(np.interp(bounds, times, frames) - 1e-4).astype(int).tolist()
        if first >= last:
            raise ValueError(
                f"No frame lies in the segment from {start_seconds} to {end_seconds} s; the video "
                f"lasts {end:.2f} s."
            )
        return range(first, last)

    def check(self, path: str | os.PathLike[str], feature_set: FeatureSet) -> None:
        """Checks that a file belongs to a feature set and is whole.

        Raises:
            ValueError: when it does not or is not.
        """
        found = {name: getattr(self, name) for name in ("num_channels", "dtype", "flipped")}
        found["rows"] = self.num_rows
        expected = {name: getattr(feature_set, name) for name in found if name != "rows"}
        step, window = feature_set.frame_step, feature_set.window_frames
        expected["rows"] = num_windows(self.num_frames, window, step)
        for name, value in expected.items():
            if found[name] != value:
                raise ValueError(
                    f"{path} does not fit its feature set: expected {name} {value}. "
                    f"Received: {found[name]}. Delete it and extract it again."
                )


def no_flipped_features(path: str | os.PathLike[str]) -> ValueError:
    """Makes the error for a file or a folder without features of the mirrored frames."""
    return ValueError(f"{path} has no features of mirrored frames. Extract them with flipped=True.")
