"""Frames -> video files (MP4, H.264)."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction

import av
import numpy as np

from pipelines.storage.files import write_aside

_X264_OPTIONS = {"crf": "20", "preset": "veryfast"}


def check_new_video(output: str | os.PathLike[str] | None) -> None:
    """Looks at the place of a video before the long work that makes it.

    Args:
        output: file to write; None for none.

    Raises:
        ValueError: when the file is there already, or lies in no folder.
    """
    if output is None:
        return
    if os.path.exists(output):
        raise ValueError(
            f"'{os.fspath(output)}' exists and is left as it is. Choose another `output`."
        )
    if not os.path.isdir(os.path.dirname(os.path.abspath(output))):
        raise ValueError(
            f"`output` must lie in an existing folder. Received: output={os.fspath(output)}."
        )


def write_video(
    path: str | os.PathLike[str],
    frames: Iterable[np.ndarray],
    frames_per_second: float,
    *,
    x264_options: Mapping[str, str] | None = None,
) -> None:
    """Encodes frames to an MP4 file, one at a time, see `video_writer`.

    Args:
        path: file to write; an existing one is replaced.
        frames: RGB, uint8 `(H, W, 3)`, all of one size.
        frames_per_second: constant frame rate.
        x264_options: options of the encoder by their x264 names. By default constant quality 20,
            "veryfast".

    Raises:
        ValueError: when there is no frame, a frame is no uint8 image of the first one's size, or
            the rate is not positive.
    """
    with video_writer(path, frames_per_second, x264_options=x264_options) as write:
        for image in frames:
            write(image)


@contextmanager
def video_writer(
    path: str | os.PathLike[str],
    frames_per_second: float,
    *,
    x264_options: Mapping[str, str] | None = None,
) -> Iterator[Callable[[np.ndarray], None]]:
    """Encodes frames to an MP4 file as they come: gives the function that takes them.

    H.264 with half the colour resolution needs even sizes: of an odd one, the last row or column is
    written twice. The file is written aside and appears when it is whole; after an error there is
    none.

    Args:
        path: file to write; an existing one is replaced.
        frames_per_second: constant frame rate.
        x264_options: options of the encoder by their x264 names. By default constant quality 20,
            "veryfast".

    Raises:
        ValueError: when there is no frame, a frame is no uint8 image of the first one's size, or
            the rate is not positive.
    """
    rate = frame_rate(frames_per_second)
    with write_aside(path) as aside, av.open(str(aside), "w", format="mp4") as container:
        options = dict(_X264_OPTIONS if x264_options is None else x264_options)
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.pix_fmt = "yuv420p"
        shape: tuple[int, ...] = ()
        number = 0

        def write(image: np.ndarray) -> None:
            nonlocal shape, number
            shape = shape or image.shape
            if image.dtype != np.uint8 or image.shape != shape or shape[2:] != (3,):
                raise ValueError(
                    "`frames` must be uint8 images (H, W, 3), all of one size. Received: "
                    f"{image.dtype} {image.shape} as frame {number}, {shape} as frame 0."
                )
            padding = ((0, shape[0] % 2), (0, shape[1] % 2), (0, 0))
            even = np.pad(image, padding, mode="edge") if shape[0] % 2 or shape[1] % 2 else image
            if not number:
                stream.height, stream.width = even.shape[:2]
            frame = av.VideoFrame.from_ndarray(even, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
            number += 1

        yield write
        if not number:
            raise ValueError(f"`frames` must hold at least one frame. Received: none for {path}.")
        container.mux(stream.encode())


def frame_rate(frames_per_second: float) -> Fraction:
    """The rate as a fraction.

    Raises:
        ValueError: when it is not a positive number.
    """
    if not 0 < frames_per_second < math.inf:
        raise ValueError(
            "`frames_per_second` must be a positive number. "
            f"Received: frames_per_second={frames_per_second}."
        )
    # 1001 is the denominator of the NTSC rates, such as 30000/1001.
    return Fraction(frames_per_second).limit_denominator(1001)
