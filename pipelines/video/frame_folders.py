"""Folders of numbered images, which stand for videos: their frames, their optical flow or both.

`img_00001.jpg` (or .png) and so on are the frames. `flow_x_00001.jpg` and `flow_y_00001.jpg` are
grey images of the optical flow from the first frame to the second, and so on: 127.5 is no motion.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np

from pipelines.video.conversion import FrameConverter
from pipelines.video.crops import Crop
from pipelines.video.info import BrokenVideoError, VideoInfo

STREAMS = ("rgb", "flow")
# Where a frame folder may say when its frames are shown: fields of `VideoInfo`.
NOTE_NAME = "video.json"
DEFAULT_FRAMES_PER_SECOND = 25.0

_FRAME_NAME = re.compile(r"(img|flow_x|flow_y)_(\d{5,})\.(?:jpg|png)")


def is_frame_name(name: str) -> bool:
    """Whether a file of that name makes its folder a frame folder."""
    return _FRAME_NAME.fullmatch(name) is not None


def is_frame_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a folder holds at least one frame of a video or of its flow."""
    return os.path.isdir(path) and any(map(is_frame_name, os.listdir(path)))


def check_frame_folder(path: str | os.PathLike[str], stream: str = "rgb") -> VideoInfo:
    """Decodes every image of a stream of a frame folder and describes the video.

    The video of F - 1 flow frames has F frames, or as many as the folder has images. Its frame rate
    is 25 unless the folder's `video.json` states `frames_per_second`.

    Args:
        path: folder.
        stream: "rgb" or "flow".

    Raises:
        BrokenVideoError: when there is no image of the stream, a number is missing, an image cannot
            be decoded or has another size, or the numbers of images do not agree.
    """
    images = _numbered_images(path, "img")
    num_frames = len(images)
    if stream == "flow":
        images, vertical = flow_images(path)
        num_frames = num_frames or len(images) + 1
        if num_frames - len(images) not in (0, 1):  # some extractors leave the last frame out
            raise BrokenVideoError(f"{num_frames} frames have {len(images)} frames of flow")
        images = images + vertical
    elif not images:
        raise BrokenVideoError("the folder has no frames img_00001.jpg, img_00002.jpg, ...")
    height, width = _common_size(images)
    return VideoInfo(num_frames, width=width, height=height, **_times(path, num_frames))


def read_images(
    path: str | os.PathLike[str], indices: Sequence[int] | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields all or chosen frames of a frame folder, uint8 RGB `(H, W, 3)`, up to a missing one."""
    images = _numbered_images(path, "img")
    for index in range(len(images)) if indices is None else indices:
        if index >= len(images):
            return
        yield index, cv2.cvtColor(_decode(images[index], cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def flow_images(path: str | os.PathLike[str]) -> tuple[list[str], list[str]]:
    """Returns the images of x and of y of a folder's optical flow, in order.

    Raises:
        BrokenVideoError: when there is no flow or a number is missing.
    """
    if not os.path.isdir(path):
        raise BrokenVideoError(
            "a video file has no optical flow: compute it with `pipelines.extract_flow`"
        )
    images = [_numbered_images(path, kind) for kind in ("flow_x", "flow_y")]
    if not images[0] and not images[1]:
        raise BrokenVideoError(
            "the folder has no optical flow: compute it with `pipelines.extract_flow`"
        )
    if len(images[0]) != len(images[1]):
        raise BrokenVideoError(
            f"there are {len(images[0])} images flow_x_*.jpg and {len(images[1])} flow_y_*.jpg"
        )
    return images[0], images[1]


def read_flow(
    path: str | os.PathLike[str],
    indices: Sequence[int] | np.ndarray,
    *,
    stack_frames: int = 10,
    segment: range | None = None,
    crops: Sequence[Crop],
    image_size: int,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Reads stacks of consecutive flow frames around chosen frames.

    The stack of frame i with L flow frames is the motion from frame `i - L // 2` to frame
    `i - L // 2 + L`. Beyond the ends of the segment its first or last flow frame is repeated, so
    that the shortest video has a stack. A mirrored crop has x negated: `255 - x`.

    Args:
        path: frame folder.
        indices: frame indices, in any order, repeats allowed.
        stack_frames: L.
        segment: frames that the motion may come from; by default all of them.
        crops: boxes of the displayed frame, each in the coordinates of a resized frame.
        image_size: side of the output, pixels.
        out: array to write into, uint8 of the returned shape.

    Returns:
        uint8 `(num_crops, T, image_size, image_size, 2 L)`, channels x, y, x, y, ...

    Raises:
        BrokenVideoError: when the folder has no flow, or an image cannot be decoded.
    """
    try:
        images = flow_images(path)
        num_flow = len(images[0])
        segment = range(num_flow + 1) if segment is None else segment
        stacks = np.asarray(indices)[:, None] + np.arange(stack_frames) - stack_frames // 2
        stacks = stacks.clip(segment.start, max(segment.stop - 2, segment.start))
        wanted, slots = np.unique(stacks.clip(0, num_flow - 1), return_inverse=True)
        # Every flow frame is decoded and cut once, whatever the number of stacks it is part of.
        planes = np.empty((len(crops), len(wanted), 2, image_size, image_size), np.uint8)
        converter = FrameConverter(crops, (image_size, image_size))
        for number, index in enumerate(wanted.tolist()):
            for axis in (0, 1):
                plane = _decode(images[axis][index], cv2.IMREAD_GRAYSCALE)
                converter.convert_grey(plane, planes[:, number, axis])
    except BrokenVideoError as error:
        raise BrokenVideoError(f"{path}: {error}") from None
    mirrored = [crop.flip for crop in crops]
    planes[mirrored, :, 0] = 255 - planes[mirrored, :, 0]
    if out is None:
        shape = (len(crops), len(stacks), image_size, image_size, 2 * stack_frames)
        out = np.empty(shape, np.uint8)
    for view, clip in zip(planes, out, strict=True):
        for rows, stack in zip(slots.reshape(stacks.shape), clip, strict=True):
            cv2.merge(list(view[rows].reshape(-1, image_size, image_size)), dst=stack)
    return out


def _numbered_images(folder: str | os.PathLike[str], kind: str) -> list[str]:
    """Returns the paths of the images `<kind>_00001.jpg` (or .png) and so on."""
    found: dict[int, str] = {}
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise BrokenVideoError(error.strerror or str(error)) from None
    for name in names:
        match = _FRAME_NAME.fullmatch(name)
        if match and match[1] == kind:
            found.setdefault(int(match[2]), os.path.join(folder, name))
    for number in range(1, len(found) + 1):
        if number not in found:
            raise BrokenVideoError(
                f"{kind}_{number:05d}.jpg is missing: frames are numbered from 1 without gaps"
            )
    return [found[number] for number in range(1, len(found) + 1)]


def _common_size(images: Sequence[str]) -> tuple[int, int]:
    """Decodes images and returns the (height, width) of all of them."""
    first = _decode(images[0], cv2.IMREAD_GRAYSCALE).shape
    for path in images[1:]:
        shape = _decode(path, cv2.IMREAD_GRAYSCALE).shape
        if shape != first:
            raise BrokenVideoError(
                f"{os.path.basename(path)} has {shape[1]}x{shape[0]} pixels, "
                f"{os.path.basename(images[0])} {first[1]}x{first[0]}"
            )
    return first[0], first[1]


def _decode(path: str, flags: int) -> np.ndarray:
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise BrokenVideoError(f"{os.path.basename(path)}: {error.strerror or error}") from None
    image = cv2.imdecode(data, flags) if data.size else None
    if image is None:
        raise BrokenVideoError(f"{os.path.basename(path)} cannot be decoded")
    return image


def _times(folder: str | os.PathLike[str], num_frames: int) -> dict[str, Any]:
    """What the folder's note says of the frames' times: arguments of `VideoInfo`."""
    path = os.path.join(folder, NOTE_NAME)
    if not os.path.exists(path):
        return {"frames_per_second": DEFAULT_FRAMES_PER_SECOND}
    try:
        with open(path, encoding="utf-8") as file:
            note = json.load(file)
        rate = float(note["frames_per_second"])
        if not 0 < rate < float("inf"):
            raise ValueError
        if "frame_ticks" not in note:
            return {"frames_per_second": rate}
        info = VideoInfo.from_json(note)
    except (ValueError, KeyError, TypeError):
        raise BrokenVideoError(
            f"{NOTE_NAME} must state a positive number of `frames_per_second`"
        ) from None
    if info.num_frames != num_frames:
        raise BrokenVideoError(
            f"{num_frames} frames are there, {info.num_frames} by its {NOTE_NAME}"
        )
    return {
        "frames_per_second": rate,
        "seconds_per_tick": info.seconds_per_tick,
        "frame_ticks": info.frame_ticks,
    }
