"""The highlights of a video, or of an array: moments, pictures, files and a clip."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pipelines.storage.files import write_aside, write_json
from pipelines.video.codec.decoding import read_frames
from pipelines.video.codec.editing import cut_video
from pipelines.video.info import VideoInfo
from tfvlad.evaluation import ClassScore, Highlight, top_classes
from tfvlad.visualization import extreme_frames_figure, timeline_figure, weighted_frames_figure

_NUM_EXTREMES = 4
_NUM_SHOWN = 8
_DESCRIPTION = "highlights.json"


@dataclass(frozen=True, eq=False, repr=False)
class VideoHighlights:
    """The highlights of a class in a video, and the scores of the frames that were looked at.

    Of an array of features there are no frames to show or to cut out.

    Args:
        path: of the video, or of the array.
        info: about the video.
        class_names: of the C classes that the model knows.
        probabilities: of the classes, the mean over the chunks, `(C,)`.
        class_name: the class that is highlighted.
        moments: when the class stands out, in the order of time.
        chunk_seconds: length of a chunk.
        frames: that were looked at, ascending, `(R,)`.
        starts: where the time that a frame stands for begins, seconds `(R,)`: halfway between it
            and the frame before.
        attention: of the frames for the class, relative to the mean of their chunks, `(R,)`.
        chunk_probabilities: of the class in the chunks that saw the frames, `(R,)`.
        scores: of the frames, `(R,)`.
        of_array: whether the model has read an array of features, not a video.
        unit: "seconds"; or "features", where the times of an array are not known: then everything
            that is called seconds here counts its rows.
    """

    path: str
    info: VideoInfo
    class_names: tuple[str, ...]
    probabilities: np.ndarray
    class_name: str
    moments: tuple[Highlight, ...]
    chunk_seconds: float
    frames: np.ndarray
    starts: np.ndarray
    attention: np.ndarray
    chunk_probabilities: np.ndarray
    scores: np.ndarray
    of_array: bool = False
    unit: str = "seconds"

    def __repr__(self) -> str:
        unit = "s" if self.unit == "seconds" else self.unit
        moments = ", ".join(
            f"{start:.1f}-{end:.1f} {unit} x{score:.1f}" for start, end, score in self.moments
        )
        return (
            f"<VideoHighlights of {self.path!r}: {self.class_name} "
            f"{100 * self.probability:.1f} %, {moments or 'no moment stands out'}>"
        )

    @property
    def probability(self) -> float:
        """Of the class that is highlighted."""
        return float(self.probabilities[self.class_names.index(self.class_name)])

    def top(self, k: int = 5) -> list[ClassScore]:
        """The k most probable classes of the video."""
        return top_classes(self.class_names, self.probabilities, k)

    def to_dict(self) -> dict[str, Any]:
        """The content of highlights.json; the names of positions end with their unit."""
        columns = {
            "frame": self.frames,
            f"start_{self.unit}": self.starts,
            "attention": self.attention,
            "probability": self.chunk_probabilities,
            "score": self.scores,
        }
        rows = zip(*(np.round(column, 6).tolist() for column in columns.values()), strict=True)
        return {
            "video": os.path.abspath(self.path),
            "class": self.class_name,
            "probability": round(self.probability, 6),
            "top_classes": [
                {"class": score.class_name, "probability": round(score.probability, 6)}
                for score in self.top()
            ],
            f"duration_{self.unit}": round(self.info.duration_seconds, 6),
            f"chunk_{self.unit}": round(self.chunk_seconds, 6),
            "intervals": [
                {
                    name.replace("seconds", self.unit): round(value, 6)
                    for name, value in moment._asdict().items()
                }
                for moment in self.moments
            ],
            "rows": [dict(zip(columns, row, strict=True)) for row in rows],
        }

    def timeline(self) -> Figure:
        """The scores over time, the moments shaded."""
        return timeline_figure(
            self.starts, self.scores, self.moments, title=self.class_name, unit=self.unit
        )

    def frames_figure(self) -> Figure:
        """Frames spread over the video, lightened or darkened by their scores.

        Raises:
            ValueError: when there is an array, and no video.
        """
        self._check_frames()
        count = min(_NUM_SHOWN, len(self.frames))
        rows = np.linspace(0, len(self.frames) - 1, count).round().astype(int)
        return weighted_frames_figure(
            self._images(rows),
            self._relative_scores(rows),
            self._numbers(rows),
            num_shown=len(rows),
            title=self.class_name,
        )

    def extremes(self) -> Figure:
        """The frames of the highest and of the lowest scores.

        They lie a quarter of a chunk apart where there are enough such frames.

        Raises:
            ValueError: when the model looked at a single frame, or there is an array and no video.
        """
        self._check_frames()
        if len(self.frames) < 2:
            raise ValueError(
                f"A single frame of {self.path} was looked at: there is no highest and lowest one."
            )
        count = min(_NUM_EXTREMES, len(self.frames) // 2)
        order = np.argsort(-self.scores, kind="stable")
        highest = self._apart(order, count, ())
        lowest = self._apart(order[::-1], count, highest)
        rows = np.sort([*highest, *lowest])
        return extreme_frames_figure(
            self._images(rows),
            self._relative_scores(rows),
            frame_numbers=self._numbers(rows),
            num_shown=_NUM_EXTREMES,
            title=self.class_name,
        )

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write highlights.json, timeline.png, frames.png and, of two frames or more, extremes.png.

        Of an array, the first two. What an earlier `save` of the same video wrote is replaced.

        Args:
            folder: a new or an empty one, or one that holds highlights of the same video.

        Returns:
            The files.

        Raises:
            ValueError: when the folder holds other things, which are left as they are.
        """
        check_folder(folder, self.path)
        place = Path(folder)
        written = [place / _DESCRIPTION]
        write_json(written[0], self.to_dict())
        figures = {"timeline.png": self.timeline}
        if not self.of_array:
            figures["frames.png"] = self.frames_figure
        if not self.of_array and len(self.frames) > 1:
            figures["extremes.png"] = self.extremes
        for name, draw in figures.items():
            with write_aside(place / name) as aside:
                draw().savefig(aside, dpi=150)
            written.append(place / name)
        return written

    def write_clip(
        self, path: str | os.PathLike[str], max_seconds: float = 30.0
    ) -> list[tuple[float, float]]:
        """Cut the moments of the highest scores out into a video, in the order of time.

        The one that would be too long is shortened about its highest score.

        Args:
            path: MP4 file to write; an existing one is replaced.
            max_seconds: longest clip.

        Returns:
            What was cut out: (start, end) in seconds.

        Raises:
            ValueError: when no moment stands out, `max_seconds` is not positive, `path` is the
                video itself, or there is an array and no video.
        """
        self._check_frames()
        check_max_seconds(max_seconds)
        if not self.moments:
            raise ValueError(
                f"No moment of {self.class_name} stands out in {self.path}. A lower `threshold` "
                "finds more."
            )
        if os.path.exists(path) and os.path.samefile(path, self.path):
            raise ValueError(f"`path` must not be the video itself. Received: path={path}.")
        chosen: list[tuple[float, float]] = []
        left = max_seconds
        for start, end, _ in sorted(self.moments, key=lambda moment: -moment.score):
            if end - start > left:
                inside = np.flatnonzero((self.starts >= start) & (self.starts < end))
                peak = self.starts[inside[self.scores[inside].argmax()]]
                start = float(np.clip(peak - left / 2, start, end - left))
                end = start + left
            if end > start:
                chosen.append((start, end))
            left -= end - start
        chosen.sort()
        cut_video(self.path, chosen, path)
        return chosen

    def _check_frames(self) -> None:
        if self.of_array:
            raise ValueError(
                f"{self.path} is an array of features: there are no frames to show. "
                "Draw `timeline`, or look at its `moments` in the video."
            )

    def _images(self, rows: np.ndarray) -> np.ndarray:
        """Only the frames that are shown are decoded."""
        return read_frames(self.path, self.frames[rows], info=self.info)

    def _relative_scores(self, rows: np.ndarray) -> np.ndarray:
        return self.scores[rows] / (self.scores.mean() or 1.0)

    def _numbers(self, rows: np.ndarray) -> list[int]:
        """Of the frames, from 1."""
        return (self.frames[rows] + 1).tolist()

    def _apart(self, order: np.ndarray, count: int, taken: Sequence[int]) -> list[int]:
        """The first rows of an order that lie apart from each other, if possible."""
        chosen: list[int] = []
        for gap in (self.chunk_seconds / 4, 0.0):
            for row in order.tolist():
                is_near = any(abs(self.starts[row] - self.starts[one]) < gap for one in chosen)
                if len(chosen) < count and row not in chosen and row not in taken and not is_near:
                    chosen.append(row)
        return chosen


def check_max_seconds(max_seconds: float) -> None:
    """Refuse a length that no clip has.

    Raises:
        ValueError: when it is one.
    """
    if not max_seconds > 0:
        raise ValueError(f"`max_seconds` must be positive. Received: max_seconds={max_seconds}.")


def check_folder(folder: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Refuse a folder that the highlights of a video would be lost in, or others would be lost by.

    Args:
        folder: where `VideoHighlights.save` will write.
        path: of the video.

    Raises:
        ValueError: when the folder is not empty, and holds no highlights or those of another video.
    """
    place = Path(folder)
    description = place / _DESCRIPTION
    if not description.exists():
        if place.is_dir() and any(place.iterdir()):
            raise ValueError(
                f"'{place}' is not empty and is left as it is: it has no {_DESCRIPTION}. "
                "Choose a new folder."
            )
        return
    try:
        owner = json.loads(description.read_text("utf-8"))["video"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"'{description}' was not written by this package. Choose a new folder."
        ) from error
    if os.path.abspath(owner) != os.path.abspath(path):
        raise ValueError(
            f"'{place}' holds the highlights of {owner} and is left as it is. Choose another "
            f"folder for those of {os.fspath(path)}."
        )
