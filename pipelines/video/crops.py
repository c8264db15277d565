"""Boxes of frames, in the coordinates of a frame resized to a short side (256 px in the papers)."""

from __future__ import annotations

from typing import NamedTuple


class Crop(NamedTuple):
    """A box in a frame of `frame_width` x `frame_height` pixels, and whether it is mirrored."""

    left: int
    top: int
    width: int
    height: int
    frame_width: int
    frame_height: int
    flip: bool = False


def resized_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Returns the (width, height) of a frame whose shorter side becomes `short_side` pixels."""
    scale = short_side / min(width, height)
    return max(round(width * scale), short_side), max(round(height * scale), short_side)


def center_crop(frame_width: int, frame_height: int, image_size: tuple[int, int]) -> Crop:
    """Returns the centre crop of (height, width) `image_size`, or the largest of its shape."""
    height, width = image_size
    scale = min(1.0, frame_width / width, frame_height / height)
    width, height = round(width * scale), round(height * scale)
    left, top = (frame_width - width) // 2, (frame_height - height) // 2
    return Crop(left, top, width, height, frame_width, frame_height)
