"""Joins, cuts and repeats videos (MP4, H.264). Sound is left out."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from pipelines.storage.files import write_aside
from pipelines.video.codec.encoding import frame_rate, write_video
from pipelines.video.codec.frames import (
    convert_frame,
    displayed_size,
    frame_converter,
    frame_rotation,
    open_video,
)
from pipelines.video.conversion import FrameConverter
from pipelines.video.crops import center_crop
from pipelines.video.info import BrokenVideoError


def join_videos(
    paths: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    image_size: int | tuple[int, int] | None = None,
    frames_per_second: float = 25.0,
) -> list[tuple[float, float]]:
    """Encodes videos one behind the other, at one size and frame rate, one frame at a time.

    A video of another shape is cut at the centre. Where the rates differ, each frame is the one
    that the video shows at that time.

    Args:
        paths: video files.
        output: file to write, see `write_video`.
        image_size: side, or (height, width), of the output in pixels. Defaults to the first
            video's.
        frames_per_second: frame rate of the output.

    Returns:
        The (start, end) of each video in the output, seconds.

    Raises:
        ValueError: when there is no video or an option is not positive.
        BrokenVideoError: when a video cannot be decoded.
    """
    if not paths:
        raise ValueError("`paths` must name at least one video. Received: none.")
    rate = float(frame_rate(frames_per_second))
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if size is not None and min(size) < 1:
        raise ValueError(f"`image_size` must be positive. Received: image_size={image_size}.")
    intervals: list[tuple[float, float]] = []

    def frames() -> Iterator[np.ndarray]:
        shape, count = size, 0
        for path in paths:
            start = count
            for image in _shown_frames(path, rate, 0.0, math.inf, shape):
                shape = shape or image.shape[:2]
                count += 1
                yield image
            intervals.append((start / rate, count / rate))

    write_video(output, frames(), frames_per_second)
    return intervals


def cut_video(
    path: str | os.PathLike[str],
    intervals: Sequence[tuple[float, float]],
    output: str | os.PathLike[str],
) -> None:
    """Encodes intervals of a video one behind the other, at the video's mean frame rate.

    The decoder jumps to the key frame in front of each interval.

    Args:
        path: video file.
        intervals: (start, end), seconds from the first frame on.
        output: file to write, see `write_video`.

    Raises:
        ValueError: when there is no interval, one does not end after its start, or none has a
            frame.
        BrokenVideoError: when the video cannot be decoded.
    """
    for start, end in intervals:
        if not 0 <= start < end:
            raise ValueError(
                "`intervals` must start at 0 or later and end after their start. "
                f"Received: ({start}, {end})."
            )
    if not intervals:
        raise ValueError("`intervals` must hold at least one (start, end). Received: none.")
    with _opened(path) as container:
        rate = float(container.streams.video[0].average_rate or 25)
    frames = (
        image for start, end in intervals for image in _shown_frames(path, rate, start, end, None)
    )
    write_video(output, frames, rate)


def repeat_video(path: str | os.PathLike[str], count: int, output: str | os.PathLike[str]) -> None:
    """Writes a video several times over into one MP4 file, by copying the encoded packets.

    Args:
        path: video file of a codec that MP4 can hold, such as `write_video` makes.
        count: how often it is shown.
        output: file to write; it appears when it is whole.

    Raises:
        ValueError: when `count` is not positive.
        BrokenVideoError: when the video cannot be read.
    """
    if count < 1:
        raise ValueError(f"`count` must be a positive integer. Received: count={count}.")
    with (
        write_aside(output) as aside,
        _opened(path) as source,
        av.open(str(aside), "w", format="mp4") as target,
    ):
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for turn in range(count):
            if turn:
                source.seek(stream.start_time or 0, stream=stream)
            for packet in source.demux(stream):
                if packet.dts is None or packet.pts is None:
                    continue
                packet.pts += turn * stream.duration
                packet.dts += turn * stream.duration
                packet.stream = copy
                target.mux(packet)


def _shown_frames(
    path: str | os.PathLike[str],
    rate: float,
    start_seconds: float,
    end_seconds: float,
    image_size: tuple[int, int] | None,
) -> Iterator[np.ndarray]:
    """What a video shows at a constant rate within an interval, RGB."""
    converter: FrameConverter | None = None
    reformatter = VideoReformatter()
    number = 0
    for frame, end in _decode_from(path, start_seconds):
        image = None
        # An output frame's middle and a bit, since rounding decides on the borders of frames.
        while (seconds := start_seconds + (number + 0.5) / rate + 1e-6) < min(end, end_seconds):
            if image is None:
                converter = converter or _converter(frame, image_size)
                image = np.empty((1, *converter.size, 3), np.uint8)
                convert_frame(frame, converter, reformatter, image)
            yield image[0]
            number += 1
        if seconds >= end_seconds:
            return


def _decode_from(
    path: str | os.PathLike[str], start_seconds: float
) -> Iterator[tuple[av.VideoFrame, float]]:
    """Decodes from a key frame before the start on; pairs frames with the end of their time."""
    with _opened(path) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "AUTO", 0
        tick_seconds = float(stream.time_base or 0)
        frame_seconds = 1 / float(stream.average_rate or stream.guessed_rate or 25)
        first_tick = stream.start_time or 0
        if start_seconds and tick_seconds:
            container.seek(first_tick + int(start_seconds / tick_seconds), stream=stream)
        shown, seconds = None, -frame_seconds
        for frame in container.decode(stream):
            # A stream without time stamps shows its frames at its rate.
            seconds += frame_seconds
            if frame.pts is not None:
                seconds = (frame.pts - first_tick) * tick_seconds
            if shown is not None:
                yield shown, seconds
            shown = frame
        if shown is not None:
            yield shown, seconds + frame_seconds


def _converter(frame: av.VideoFrame, image_size: tuple[int, int] | None) -> FrameConverter:
    """Scales frames until they cover the size and cuts them at the centre."""
    if image_size is None:
        return frame_converter(frame, None, None, None)
    height, width = image_size
    size = displayed_size(frame.width, frame.height, frame_rotation(frame))
    scale = max(width / size[0], height / size[1])
    scaled = max(round(size[0] * scale), width), max(round(size[1] * scale), height)
    return frame_converter(frame, [center_crop(*scaled, image_size)], image_size, None)


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[av.container.InputContainer]:
    try:
        with open_video(str(path)) as container:
            yield container
    except (av.error.FFmpegError, OSError) as error:
        raise BrokenVideoError(f"{path}: {error.strerror or error}") from None
    except BrokenVideoError as error:
        raise BrokenVideoError(f"{path}: {error}") from None
