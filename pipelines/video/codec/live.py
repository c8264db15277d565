"""Frames of a camera, a video file or a network stream as they come, in real time."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Iterator

import av
import numpy as np
from av.video.reformatter import VideoReformatter

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

_CAMERA_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
# Protocols whose sender keeps the time, even of a file that it plays.
_REAL_TIME_PROTOCOLS = ("rtmp", "rtmps", "rtp", "rtsp", "rtsps", "srt", "tcp", "udp")
# How often a waiting consumer looks whether it has been stopped.
_POLL_SECONDS = 0.05
# Motion JPEG, of which FFmpeg stamps 25 frames a second, however fast they come.
_FORMATS_WITHOUT_TIMES = ("mjpeg", "mpjpeg")


class LiveFrames(Iterator[tuple[float, np.ndarray]]):
    """Iterates over the newest frames of a source.

    A thread decodes the source and keeps the newest frame only: a consumer that is too slow misses
    frames and never lags behind. A file, here or on a web server, plays in real time, by its time
    stamps, as a camera would, and begins with the first `next`.

    The iteration ends with the source, and when it breaks or stalls: `error` then says why. Use it
    as a context manager, or `close` it.

    Args:
        source: camera (its number, such as "0", or a device, such as "/dev/video0" or, on Windows,
            "video=NAME"), URL (rtsp, http, hls and what else FFmpeg knows) or video file.
        image_size: side, or (height, width), of the frames in pixels: the centre crop that
            `VideoClipSource` takes for tests. By default whole frames of their own size. This
            attribute and the next two may still be set before the first `next`.
        short_side: shorter side of the frame that the crop is taken from, pixels.
        frames_per_second: the highest rate of frames; those between do not count as dropped. By
            default every frame.
        real_time: False waits for the consumer instead of dropping frames or keeping the time.
        timeout: seconds without a frame after which the source has stalled.

    Yields:
        The frame's time from the first one's, in seconds, and the frame, RGB, uint8 `(H, W, 3)`.

    Attributes:
        num_dropped: frames that came while the consumer was busy and gave way to newer ones.
        error: why the source broke, in one sentence; None before, and when it came to its end.

    Raises:
        ValueError: when an argument is out of range, or the platform's cameras have no numbers.
        BrokenVideoError: when the source cannot be opened.
    """

    def __init__(
        self,
        source: str,
        *,
        image_size: int | tuple[int, int] | None = None,
        short_side: int = 256,
        frames_per_second: float | None = None,
        real_time: bool = True,
        timeout: float = 10.0,
    ):
        for name, value in (("frames_per_second", frames_per_second), ("timeout", timeout)):
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"`{name}` must be a positive number. Received: {name}={value}.")
        self.source = source
        self.image_size = image_size
        self.short_side = short_side
        self.frames_per_second = frames_per_second
        self.real_time = real_time
        self.timeout = timeout
        self.num_dropped = 0
        self.error: str | None = None
        try:
            self._container = _opened(source, timeout)
        except (av.error.FFmpegError, OSError, BrokenVideoError) as error:
            raise BrokenVideoError(self._sentence(error)) from None
        self._is_file = _is_file(source, self._container)
        self._reformatter = VideoReformatter()
        self._converter: tuple[tuple, FrameConverter] | None = None
        self._first_seconds: float | None = None
        self._thread = threading.Thread(target=self._read, name="live-frames", daemon=True)
        self._stopped = threading.Event()
        self._changed = threading.Condition()
        # These change under the condition.
        self._newest: tuple[float, av.VideoFrame] | None = None
        self._has_ended = False
        self._last_sign = time.monotonic()
        if not self._is_file:
            # A camera does not wait for who opened it.
            self._thread.start()

    def __enter__(self) -> LiveFrames:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __next__(self) -> tuple[float, np.ndarray]:
        if self._first_seconds is None and not self._stopped.is_set():
            self._begin()
        with self._changed:
            while not (self._newest or self._has_ended or self._stopped.is_set()):
                if time.monotonic() > self._last_sign + self.timeout:
                    self.error = self._stall()
                    self._stopped.set()
                self._changed.wait(_POLL_SECONDS)
            newest, self._newest = self._newest, None
            self._changed.notify_all()
        if newest is None or self._stopped.is_set():
            self.close()
            raise StopIteration
        seconds, frame = newest
        if self._first_seconds is None:
            self._first_seconds = seconds
        return seconds - self._first_seconds, self._image(frame)

    def _begin(self) -> None:
        with self._changed:
            self.num_dropped = 0
            self._last_sign = time.monotonic()
        if self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        """Ends the iteration; a signal handler may call it."""
        self._stopped.set()

    def close(self) -> None:
        """Ends the iteration and the thread. A read that hangs ends after `timeout`."""
        self.stop()
        if self._thread.ident is None:
            self._container.close()
        else:
            self._thread.join(self.timeout + 1)

    def _read(self) -> None:
        """The thread: decodes until the end."""
        error_sentence = None
        try:
            with self._container as container:
                self._offer_all(self._timed_frames(container))
        except (av.error.FFmpegError, OSError) as error:
            # Not every format tells FFmpeg's own timeout from broken data.
            is_stall = time.monotonic() >= self._last_sign + self.timeout
            error_sentence = self._stall() if is_stall else self._sentence(error)
        finally:
            with self._changed:
                if not self._stopped.is_set():
                    self.error = error_sentence
                self._has_ended = True
                self._changed.notify_all()

    def _offer_all(self, frames: Iterator[tuple[float, av.VideoFrame]]) -> None:
        """Gives the consumer one frame after the other, in time."""
        start, next_seconds = None, -math.inf
        for seconds, frame in frames:
            now = time.monotonic()
            start = now - seconds if start is None else start
            due = start + seconds if self.real_time and self._is_file else now
            with self._changed:
                self._last_sign = max(now, due)
            if seconds + 1e-6 >= next_seconds:
                rate = self.frames_per_second
                next_seconds = (math.floor(seconds * rate + 1e-6) + 1) / rate if rate else seconds
                self._stopped.wait(due - now)
                self._offer(seconds, frame)
            if self._stopped.is_set():
                return

    def _offer(self, seconds: float, frame: av.VideoFrame) -> None:
        with self._changed:
            while not (self.real_time or self._newest is None or self._stopped.is_set()):
                self._changed.wait(_POLL_SECONDS)
                self._last_sign = time.monotonic()
            self.num_dropped += self._newest is not None
            self._newest = seconds, frame
            self._changed.notify_all()

    def _timed_frames(
        self, container: av.container.InputContainer
    ) -> Iterator[tuple[float, av.VideoFrame]]:
        """Frames and their times from the first one, without the jumps of a live stream's clock."""
        stream = container.streams.video[0]
        interval = 1 / float(stream.average_rate or stream.guessed_rate or 25)
        longest_gap = math.inf if self._is_file else self.timeout
        has_times = self._is_file or container.format.name not in _FORMATS_WITHOUT_TIMES
        seconds, offset = -interval, math.nan
        for packet in container.demux(stream):
            for frame in self._decoded(packet):
                stamp = math.nan if frame.time is None else frame.time
                if not has_times:
                    stamp = time.monotonic()
                if not 0 < stamp - offset - seconds < longest_gap:
                    offset = stamp - (seconds + interval)
                seconds = seconds + interval if math.isnan(stamp) else stamp - offset
                yield seconds, frame

    def _decoded(self, packet: av.Packet) -> list[av.VideoFrame]:
        try:
            return packet.decode()
        except av.error.InvalidDataError:
            if self._is_file:
                raise
            return []  # a stream may be joined between key frames, and lose packets

    def _image(self, frame: av.VideoFrame) -> np.ndarray:
        key = (frame.width, frame.height, frame_rotation(frame))
        if self._converter is None or self._converter[0] != key:  # a stream may change its size
            crops = None
            side = self.image_size
            if side is not None:
                size = resized_size(*displayed_size(*key), self.short_side)
                crops = [center_crop(*size, (side, side) if isinstance(side, int) else side)]
            self._converter = key, frame_converter(frame, crops, side, None)
        converter = self._converter[1]
        image = np.empty((1, *converter.size, 3), np.uint8)
        convert_frame(frame, converter, self._reformatter, image)
        return image[0]

    def _stall(self) -> str:
        return f"{self.source}: no frame has come for {self.timeout:g} seconds"

    def _sentence(self, error: Exception) -> str:
        return f"{self.source}: {getattr(error, 'strerror', None) or error}"


def _is_file(source: str, container: av.container.InputContainer) -> bool:
    """Whether a source is a file, here or on a web server, rather than live."""
    protocol, separator, _ = source.partition("://")
    if separator:
        # What a web server sends without an end, a camera's picture or a live playlist, is live.
        return protocol.lower() not in _REAL_TIME_PROTOCOLS and container.duration is not None
    return not _is_camera(source)


def _is_camera(source: str) -> bool:
    return source.isdecimal() or source.startswith(("/dev/video", "video="))


def _opened(source: str, timeout: float) -> av.container.InputContainer:
    if "://" in source:
        # Over UDP, RTSP loses packets.
        options = {"rtsp_transport": "tcp"} if source.lower().startswith("rtsp") else {}
        container = av.open(source, timeout=timeout, options=options, metadata_errors="replace")
    elif _is_camera(source):
        if source.isdecimal() and sys.platform == "win32":
            raise ValueError(
                "A camera on Windows is named, as in 'video=Integrated Camera'. "
                f"Received: source='{source}'."
            )
        is_number = source.isdecimal() and sys.platform == "linux"
        # AVFoundation opens no camera at a rate that it does not offer, and guesses a wrong one.
        options = {"framerate": "30"} if sys.platform == "darwin" else {}
        container = av.open(
            f"/dev/video{source}" if is_number else source,
            format=_CAMERA_FORMATS.get(sys.platform),
            options=options,
        )
    else:
        return open_video(source)
    if not container.streams.video:
        container.close()
        raise BrokenVideoError("no video stream")
    return container
