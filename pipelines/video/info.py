"""What is known of a video that can be read, and the error for one that cannot."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


class BrokenVideoError(ValueError):
    """A file that is no video, or no array, or cannot be read to its end; the message says why."""


@dataclass(frozen=True)
class VideoInfo:
    """What decoding every frame of a video told.

    Args:
        num_frames: frames, counted by decoding (containers' own counts are often wrong).
        frames_per_second: mean frame rate.
        width: pixels, as displayed.
        height: pixels, as displayed.
        rotation_degrees: clockwise rotation from the stored to the displayed frame.
        seconds_per_tick: unit of `frame_ticks`.
        frame_ticks: presentation time of every frame, a `range` where the rate is constant; empty
            where the file's time stamps do not ascend, and then no seeking is done.
        key_frames: indices of the frames that decoding can begin with.
    """

    num_frames: int
    frames_per_second: float
    width: int
    height: int
    rotation_degrees: int = 0
    seconds_per_tick: float = 0.0
    frame_ticks: range | tuple[int, ...] = ()
    key_frames: tuple[int, ...] = ()

    @property
    def duration_seconds(self) -> float:
        return self.num_frames / self.frames_per_second

    def frame_seconds(self) -> np.ndarray:
        """Returns the time of every frame from the first one, float64 `(num_frames,)`."""
        if not self.frame_ticks:
            return np.arange(self.num_frames) / self.frames_per_second
        ticks = np.asarray(self.frame_ticks, dtype=np.int64)
        return (ticks - ticks[0]) * self.seconds_per_tick

    def segment(self, start_seconds: float | None, end_seconds: float | None) -> range:
        """Returns the indices of the frames shown from the start up to, exclusively, the end.

        Raises:
            ValueError: when no frame is shown within the segment.
        """
        if start_seconds is None and end_seconds is None:
            return range(self.num_frames)
        seconds = self.frame_seconds() + 1e-6  # a bound on a frame's own time, in spite of rounding
        start = int(np.searchsorted(seconds, start_seconds or 0.0))
        end = self.num_frames
        if end_seconds is not None:
            end = int(np.searchsorted(seconds, end_seconds))
        if start >= end:
            raise ValueError(
                f"No frame lies in the segment from {start_seconds} to {end_seconds} s; the video "
                f"lasts {self.duration_seconds:.2f} s."
            )
        return range(start, end)

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as what JSON can hold."""
        fields = asdict(self)
        ticks = self.frame_ticks
        if isinstance(ticks, range):
            fields["frame_ticks"] = {"start": ticks.start, "stop": ticks.stop, "step": ticks.step}
        return fields

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> VideoInfo:
        """Makes what `to_json` described."""
        ticks = fields["frame_ticks"]
        frame_ticks = (
            range(ticks["start"], ticks["stop"], ticks["step"])
            if isinstance(ticks, dict)
            else tuple(ticks)
        )
        key_frames = tuple(fields["key_frames"])
        return cls(**{**fields, "frame_ticks": frame_ticks, "key_frames": key_frames})
