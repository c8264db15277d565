"""Windows of frames of a video of any length, in one pass and in bounded memory."""

from __future__ import annotations

import itertools
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from pipelines.video.codec.frame_order import UnrankedError, decode_all, decode_ranked
from pipelines.video.codec.frames import (
    convert_frame,
    displayed_size,
    frame_converter,
    frame_rotation,
    open_video,
)
from pipelines.video.conversion import FrameConverter
from pipelines.video.crops import center_crop, resized_size
from pipelines.video.info import BrokenVideoError


class WindowBatch(NamedTuple):
    """Windows of consecutive frames.

    Attributes:
        first_frames: index of each window's first frame, int64 `(b,)`.
        seconds: its time from the video's first frame, float64 `(b,)`.
        windows: RGB, uint8 `(b, window_frames, height, width, 3)`.
    """

    first_frames: np.ndarray
    seconds: np.ndarray
    windows: np.ndarray


class WindowStream(Iterator[WindowBatch]):
    """Slides a window over a video: an iterator over batches of windows.

    Window k begins at frame `start_frame + k frame_step`. Windows follow until one reaches the last
    frame, which fills the last window up (as `dense_windows` with `end_policy="repeat_last"`).
    Frames are the centre crops that `VideoClipSource` takes for tests. Frames of no window are not
    converted, nor decoded where no other frame needs them.

    Args:
        path: video file.
        frame_step: frames from one window's start to the next; windows may overlap.
        window_frames: frames of a window.
        image_size: side, or (height, width), of the windows in pixels.
        short_side: shorter side of the frame that the crop is taken from, pixels.
        batch_windows: windows of a batch; the last one may be smaller.
        start_frame: first frame.
        end_frame: end, exclusive; None is the end of the video.
        window_numbers: the windows k that are wanted, ascending; all by default.

    Attributes:
        num_frames: frames of the video up to `end_frame`, once the iterator is exhausted.
        frames_per_second: mean rate of these frames.

    Raises:
        ValueError: when an argument is out of range.
        BrokenVideoError: when a frame cannot be decoded, after all whole windows before it, or
            there is no frame from `start_frame` on.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        frame_step: int,
        window_frames: int = 1,
        image_size: int | tuple[int, int] = 224,
        short_side: int = 256,
        batch_windows: int = 16,
        start_frame: int = 0,
        end_frame: int | None = None,
        window_numbers: Sequence[int] | np.ndarray | None = None,
    ):
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        counts = {
            "frame_step": frame_step,
            "window_frames": window_frames,
            "image_size": min(height, width),
            "short_side": short_side,
            "batch_windows": batch_windows,
        }
        for name, value in counts.items():
            if value < 1:
                raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value}.")
        if not 0 <= start_frame < (start_frame + 1 if end_frame is None else end_frame):
            raise ValueError(
                "Expected 0 <= `start_frame` < `end_frame`. "
                f"Received: start_frame={start_frame}, end_frame={end_frame}."
            )
        self._numbers: np.ndarray | None = None
        if window_numbers is not None:
            numbers = self._numbers = np.asarray(window_numbers, np.int64)
            if numbers.ndim != 1 or numbers[:1].min(initial=0) < 0 or (np.diff(numbers) <= 0).any():
                raise ValueError(
                    f"`window_numbers` must ascend from 0 or above. Received: {window_numbers}."
                )
        self.path = os.fspath(path)
        self.frame_step = frame_step
        self.window_frames = window_frames
        self.image_size = (height, width)
        self.short_side = short_side
        self.batch_windows = batch_windows
        self.start_frame = start_frame
        self.end_frame = end_frame
        self.num_frames = 0
        self.frames_per_second = 0.0
        self._batches = self._read_batches()

    def __next__(self) -> WindowBatch:
        return next(self._batches)

    def _read_batches(self) -> Iterator[WindowBatch]:
        shape = (self.batch_windows, self.window_frames, *self.image_size, 3)
        starts: list[tuple[int, float]] = []
        windows = np.empty(shape, np.uint8)
        try:
            for first_frame, seconds, images in self._read_windows():
                np.stack(images, out=windows[len(starts)])
                starts.append((first_frame, seconds))
                if len(starts) == self.batch_windows:
                    yield _batch(starts, windows)
                    # A new array: the consumer may still be reading the last one.
                    starts, windows = [], np.empty(shape, np.uint8)
        except (av.error.FFmpegError, OSError) as error:
            if starts:
                yield _batch(starts, windows)
            raise BrokenVideoError(f"{self.path}: {error.strerror or error}") from None
        except BrokenVideoError as error:
            raise BrokenVideoError(f"{self.path}: {error}") from None
        if starts:
            yield _batch(starts, windows)

    def _read_windows(self) -> Iterator[tuple[int, float, list[np.ndarray]]]:
        """Yields the index and the time of each window's first frame, and its images."""
        recent: deque[tuple[float, np.ndarray]] = deque(maxlen=self.window_frames)
        starts = self._starts()
        next_start = next(starts, sys.maxsize)
        converter: FrameConverter | None = None
        reformatter = VideoReformatter()
        for index, seconds, frame in self._read_frames():
            if converter is None:
                converter = self._converter(frame)
            image = np.empty((1, *self.image_size, 3), np.uint8)
            convert_frame(frame, converter, reformatter, image)
            recent.append((seconds, image[0]))
            if index == next_start + self.window_frames - 1:
                yield next_start, recent[0][0], [image for _, image in recent]
                next_start = next(starts, sys.maxsize)
        if self.num_frames <= self.start_frame:
            raise BrokenVideoError(f"frame {self.start_frame} cannot be decoded; is it the end?")
        previous_end = next_start - self.frame_step + self.window_frames
        is_covered = next_start > self.start_frame and previous_end >= self.num_frames
        if next_start < self.num_frames and not is_covered:
            rest = list(recent)[next_start - self.num_frames :]
            images = [image for _, image in rest]
            images += images[-1:] * (self.window_frames - len(images))
            yield next_start, rest[0][0], images

    def _starts(self) -> Iterator[int]:
        """First frames of the windows."""
        if self._numbers is None:
            return itertools.count(self.start_frame, self.frame_step)
        return iter((self.start_frame + self.frame_step * self._numbers).tolist())

    def _is_wanted(self, index: int) -> bool:
        offset = index - self.start_frame
        if self._numbers is None:
            return offset >= 0 and offset % self.frame_step < self.window_frames
        # Windows may overlap: the last one that has begun covers the frame, or none does.
        begun = np.searchsorted(self._numbers, offset // self.frame_step, side="right")
        if begun == 0:
            return False
        return bool(offset < self._numbers[begun - 1] * self.frame_step + self.window_frames)

    def _read_frames(self) -> Iterator[tuple[int, float, av.VideoFrame]]:
        """Yields index, time and frame of the wanted frames; counts them all."""
        position = 0
        for decode in (decode_ranked, decode_all):
            try:
                with open_video(self.path) as container:
                    stream = container.streams.video[0]
                    clock = _Clock(stream)
                    for index, tick, frame in decode(container, stream, self._is_wanted):
                        if self.end_frame is not None and index >= self.end_frame:
                            self.num_frames = self.end_frame  # the last may be passed over
                            break
                        seconds = clock.seconds(index, tick)
                        self.num_frames = index + 1
                        if frame is not None and index >= position and self._is_wanted(index):
                            position = index + 1
                            yield index, seconds, frame
                    self.frames_per_second = clock.mean_rate()
                return
            except UnrankedError:
                continue

    def _converter(self, frame: av.VideoFrame) -> FrameConverter:
        size = displayed_size(frame.width, frame.height, frame_rotation(frame))
        crop = center_crop(*resized_size(*size, self.short_side), self.image_size)
        return frame_converter(frame, [crop], self.image_size, None)


def estimate_num_frames(path: str | os.PathLike[str]) -> int | None:
    """Returns the number of frames that the container states, or its duration times the rate.

    Nothing is decoded, and many containers are wrong: good for a progress bar only. None where the
    container says nothing.

    Raises:
        BrokenVideoError: when the file cannot be opened or has no video stream.
    """
    try:
        with open_video(path) as container:
            stream = container.streams.video[0]
            if stream.frames > 0:
                return stream.frames
            rate = stream.average_rate or stream.guessed_rate
            if not rate:
                return None
            if stream.duration and stream.time_base:
                return max(round(stream.duration * stream.time_base * rate), 1)
            if container.duration:
                return max(round(container.duration / av.time_base * rate), 1)
    except (av.error.FFmpegError, OSError) as error:
        raise BrokenVideoError(f"{path}: {error.strerror or error}") from None
    return None


class _Clock:
    """The time of frames from the first one: by time stamps as long as these ascend."""

    def __init__(self, stream: av.VideoStream):
        self.rate = float(stream.average_rate or stream.guessed_rate or 25)
        self.seconds_per_tick = float(stream.time_base or 0)
        self.first_tick: int | None = None
        self.last = (0, 0.0)
        self.ascends = self.seconds_per_tick > 0

    def seconds(self, index: int, tick: int | None) -> float:
        if index == 0:
            self.first_tick = tick
        if tick is None or self.first_tick is None:
            self.ascends = False
        elif self.ascends:
            seconds = (tick - self.first_tick) * self.seconds_per_tick
            self.ascends = index == 0 or seconds > self.last[1]
        self.last = index, seconds if self.ascends else index / self.rate
        return self.last[1]

    def mean_rate(self) -> float:
        index, seconds = self.last
        return index / seconds if index and self.ascends else self.rate


def _batch(starts: list[tuple[int, float]], windows: np.ndarray) -> WindowBatch:
    first_frames, seconds = zip(*starts, strict=True)
    return WindowBatch(np.array(first_frames, np.int64), np.array(seconds), windows[: len(starts)])
