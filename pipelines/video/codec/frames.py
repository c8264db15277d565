"""Opens videos with FFmpeg, and turns its frames into RGB images."""

from __future__ import annotations

import os
from collections.abc import Sequence

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from pipelines.video.conversion import FrameConverter
from pipelines.video.crops import Crop
from pipelines.video.info import BrokenVideoError

# Planar 8-bit YUV, which needs no conversion by swscale.
_YUV_PLANES = frozenset(f"yuv{j}{s}p" for j in ("", "j") for s in (411, 420, 422, 440, 444))


def open_video(path: str | os.PathLike[str]) -> av.container.InputContainer:
    """Opens a file for decoding its first video stream in one thread."""
    if os.path.isdir(path):
        raise BrokenVideoError("a folder, where a video file is needed")
    # Metadata in a foreign encoding is no reason to refuse a video.
    container = av.open(os.fspath(path), metadata_errors="replace")
    if not container.streams.video:
        container.close()
        raise BrokenVideoError("no video stream")
    # Clips are decoded in parallel; threads within a decoder would oversubscribe the cores.
    container.streams.video[0].codec_context.thread_count = 1
    return container


def frame_converter(
    frame: av.VideoFrame,
    crops: Sequence[Crop] | None,
    image_size: int | tuple[int, int] | None,
    color_matrix: np.ndarray | None,
) -> FrameConverter:
    """Makes the converter for a video from its first frame; see `read_frames`."""
    rotation = frame_rotation(frame)
    width, height = displayed_size(frame.width, frame.height, rotation)
    crops = [Crop(0, 0, width, height, width, height)] if crops is None else crops
    if image_size is None:
        box = crops[0]
        image_size = (
            round(box.height * height / box.frame_height),
            round(box.width * width / box.frame_width),
        )
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    return FrameConverter(crops, size, rotation, color_matrix)


def convert_frame(
    frame: av.VideoFrame,
    converter: FrameConverter,
    reformatter: VideoReformatter,
    images: np.ndarray,
) -> None:
    """Converts a frame into `images`, uint8 `(num_crops, height, width, 3)`."""
    name = frame.format.name
    if name in _YUV_PLANES:
        full_range = name.startswith("yuvj") or int(frame.color_range) == 2
        planes = [_plane_rows(plane) for plane in frame.planes]
        converter.convert_yuv(planes, images, int(frame.colorspace), full_range)
    else:
        frame = reformatter.reformat(frame, format="rgb24", threads=1)
        rows = _plane_rows(frame.planes[0], num_channels=3)
        converter.convert_rgb(rows.reshape(frame.height, frame.width, 3), images)


def _plane_rows(plane: av.video.plane.VideoPlane, num_channels: int = 1) -> np.ndarray:
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width * num_channels]


def displayed_size(width: int, height: int, rotation_degrees: int) -> tuple[int, int]:
    """Returns the (width, height) of a stored frame when it is displayed."""
    return (height, width) if rotation_degrees in (90, 270) else (width, height)


def frame_rotation(frame: av.VideoFrame) -> int:
    """Returns the clockwise rotation from the stored to the displayed frame, degrees."""
    # PyAV's angle is counter-clockwise; other angles than quarter turns are not displayed as such.
    return round(-frame.rotation / 90) % 4 * 90
