"""A live video -> moments."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import ExitStack

from pipelines.video.codec.encoding import check_new_video, video_writer
from pipelines.video.codec.live import LiveFrames
from pipelines.video.info import BrokenVideoError
from tfvlad.live.live_model import LiveModel
from tfvlad.live.moments import Moment
from tfvlad.models import ClipModel

# Of the frames that the pace is measured over.
_NUM_TIMES = 20


class Watch(Iterator[Moment]):
    """Iterates over what a model makes of a live video, up to now.

    It ends with the video, with `stop` and with `close`; the output file is finished in any case.
    Use it as a context manager, or `close` it, where the loop may be left before its end.

    Args:
        frames: that are looked at; they are closed with the watch.
        moments: what the model makes of them.
    """

    def __init__(self, frames: LiveFrames, moments: Generator[Moment, None, None]):
        self._frames = frames
        self._moments = moments

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __next__(self) -> Moment:
        return next(self._moments)

    def stop(self) -> None:
        """End the iteration after the moment that is being made; a signal handler may call it."""
        self._frames.stop()

    def close(self) -> None:
        """End the iteration, finish the output file and close the source."""
        self._moments.close()
        self._frames.close()


def watch(
    model: ClipModel,
    source: str | os.PathLike[str] | int | LiveFrames,
    *,
    frames_per_second: float,
    memory_seconds: float | None = None,
    seconds: float | None = None,
    output: str | os.PathLike[str] | None = None,
) -> Watch:
    """Name the action in a live video as it happens.

    The newest frame is what counts: a machine that is too slow drops frames instead of lagging
    behind.

    Args:
        model: of clips of RGB frames.
        source: camera (its number or device), URL (rtsp, http, hls) or video file, which plays in
            real time; see `pipelines.LiveFrames`. Or frames that were opened already.
        frames_per_second: most frames that the model looks at in a second.
        memory_seconds: half-life of a frame in a model that sums over time; 2 by default.
        seconds: end after that time; by default with the source.
        output: MP4 file to write: what the model saw, with the most probable action and, where the
            model has top-down attention, where it looked. A dropped frame repeats the one before.

    Yields:
        A `Moment` for each frame that the model looks at. A source that breaks raises
        `BrokenVideoError` at the end.

    Raises:
        ValueError: when an argument is out of range or does not suit the model, or there is such a
            file as `output`.
        BrokenVideoError: when the source cannot be opened.

    Example:
        >>> with watch(model, 0, frames_per_second=10) as moments:
        ...     for moment in moments:
        ...         print(moment.top(1))
    """
    check_new_video(output)
    for name, value in (("frames_per_second", frames_per_second), ("seconds", seconds)):
        if value is not None and not value > 0:
            raise ValueError(f"`{name}` must be positive. Received: {name}={value:g}.")
    with ExitStack() as stack:
        frames = stack.enter_context(opened(source))
        live = LiveModel(model, memory_seconds)
        frames.image_size, frames.short_side = live.frame_size, model.short_side
        frames.frames_per_second = frames_per_second
        moments = _moments(frames, live, seconds)
        if output is not None:
            moments = _written(moments, output, frames_per_second)
        stack.pop_all()
    return Watch(frames, moments)


def opened(source: str | os.PathLike[str] | int | LiveFrames) -> LiveFrames:
    """The frames of a source.

    Raises:
        BrokenVideoError: when it cannot be opened.
    """
    if isinstance(source, LiveFrames):
        return source
    return LiveFrames(str(source) if isinstance(source, int) else os.fspath(source))


def _moments(
    frames: LiveFrames, live: LiveModel, seconds: float | None
) -> Generator[Moment, None, None]:
    """What the model makes of the frames, up to a time."""
    names = live.clip_model.class_names
    ends: deque[float] = deque(maxlen=_NUM_TIMES)
    with frames:
        for now, frame in frames:
            if seconds is not None and now >= seconds:
                return
            probabilities, attention = live.see(frame, now)
            ends.append(time.monotonic())
            rate = (len(ends) - 1) / (ends[-1] - ends[0]) if len(ends) > 1 else 0.0
            dropped = frames.num_dropped
            yield Moment(now, frame, names, probabilities, attention, rate, dropped)
    if frames.error:
        raise BrokenVideoError(frames.error)


def _written(
    moments: Generator[Moment, None, None], output: str | os.PathLike[str], rate: float
) -> Generator[Moment, None, None]:
    """Writes what was seen at a constant rate: a dropped frame repeats the one before it."""
    first = next(moments, None)
    if first is None:
        return
    writing = ExitStack()
    write = writing.enter_context(video_writer(output, rate))
    picture, count = first.annotated(), 0
    try:
        yield first
        for moment in moments:
            while count < round(moment.seconds * rate):
                write(picture)
                count += 1
            picture = moment.annotated()
            yield moment
    finally:
        # Not told of an error: what was seen is written in any case.
        write(picture)
        writing.close()
        moments.close()
