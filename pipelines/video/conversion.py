"""Planes of a decoded frame -> RGB crops at the network's size.

The planes are cut and resized before their colours are converted, so that only the output's pixels
are ever converted.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from pipelines.video.crops import Crop

# Colour spaces by their number in ITU-T H.273: the luma weights of red and blue.
_LUMA_WEIGHTS = {1: (0.2126, 0.0722), 9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
_BT601_WEIGHTS = (0.299, 0.114)  # also where a file does not say


class FrameConverter:
    """Cuts crops out of frames, resizes them and converts them to RGB.

    A crop becomes the box of whole pixels nearest to it in each plane. The resize is bilinear, or
    averages where it shrinks to less than half. One converter serves the frames of one clip and
    reuses its buffers over them.

    Args:
        crops: boxes of the displayed frame.
        size: (height, width) of the output, pixels.
        rotation_degrees: clockwise rotation from the stored to the displayed frame.
        color_matrix: float32 `(3, 4)` applied to `(R, G, B, 1)`, or None.
    """

    def __init__(
        self,
        crops: Sequence[Crop],
        size: tuple[int, int],
        rotation_degrees: int = 0,
        color_matrix: np.ndarray | None = None,
    ):
        self.crops = crops
        self.size = size
        self.num_quarter_turns = rotation_degrees // 90
        self.color_matrix = color_matrix
        self._boxes: dict[tuple[int, ...], list[tuple[slice, slice, int]]] = {}
        self._matrices: dict[tuple[int, bool], np.ndarray] = {}
        self._full = [np.empty(size, np.uint8) for _ in range(3)]
        self._merged = np.empty((*size, 3), np.uint8)
        self._i420 = np.empty((0, 0), np.uint8)
        self._halves: list[np.ndarray] = []
        height, width = size
        if height % 2 == 0 and width % 2 == 0:
            self._i420 = np.empty((height * 3 // 2, width), np.uint8)
            chroma = self._i420[height:].reshape(2, height // 2, width // 2)
            self._halves = [self._i420[:height], *chroma]

    def convert_rgb(self, frame: np.ndarray, images: np.ndarray) -> None:
        """Converts a uint8 `(H, W, 3)` RGB frame into `(num_crops, height, width, 3)`."""
        (frame,) = self._displayed([frame])
        for number, image in enumerate(images):
            self._resize(frame, number, image)
            if self.color_matrix is not None:
                cv2.transform(image, self.color_matrix, dst=image)
            self._mirror(number, image)

    def convert_grey(self, plane: np.ndarray, images: np.ndarray) -> None:
        """Cuts and resizes a uint8 `(H, W)` plane into `(num_crops, height, width)`."""
        (plane,) = self._displayed([plane])
        for number, image in enumerate(images):
            self._resize(plane, number, image)
            self._mirror(number, image)

    def convert_yuv(
        self, planes: Sequence[np.ndarray], images: np.ndarray, colorspace: int, full_range: bool
    ) -> None:
        """Converts the planes Y, U, V, of any subsampling, into `(num_crops, height, width, 3)`.

        Args:
            planes: uint8 `(H, W)` and twice `(h, w)`.
            images: uint8, written.
            colorspace: number of the matrix coefficients in ITU-T H.273; BT.601 where unknown.
            full_range: luma spans 0 to 255 instead of 16 to 235.
        """
        planes = self._displayed(planes)
        # OpenCV's own conversion upsamples chroma by itself; it knows BT.601's limited range only.
        shortcut = (
            self._halves
            and self.color_matrix is None
            and not full_range
            and colorspace not in _LUMA_WEIGHTS
            and planes[1].shape[0] < planes[0].shape[0]
        )
        buffers = self._halves if shortcut else self._full
        for number, image in enumerate(images):
            for plane, buffer in zip(planes, buffers, strict=True):
                self._resize(plane, number, buffer)
            if shortcut:
                cv2.cvtColor(self._i420, cv2.COLOR_YUV2RGB_I420, dst=image)
            else:
                cv2.merge(buffers, dst=self._merged)
                cv2.transform(self._merged, self._matrix(colorspace, full_range), dst=image)
            self._mirror(number, image)

    def _displayed(self, planes: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        if not self.num_quarter_turns:
            return planes
        return [np.ascontiguousarray(np.rot90(p, -self.num_quarter_turns)) for p in planes]

    def _mirror(self, number: int, image: np.ndarray) -> None:
        if self.crops[number].flip:
            cv2.flip(image, 1, dst=image)

    def _resize(self, plane: np.ndarray, number: int, out: np.ndarray) -> None:
        shape = plane.shape
        if shape not in self._boxes:
            self._boxes[shape] = [_box(crop, shape, self.size) for crop in self.crops]
        rows, columns, method = self._boxes[shape][number]
        cv2.resize(plane[rows, columns], out.shape[1::-1], dst=out, interpolation=method)

    def _matrix(self, colorspace: int, full_range: bool) -> np.ndarray:
        key = (colorspace, full_range)
        if key not in self._matrices:
            matrix = yuv_to_rgb_matrix(colorspace, full_range)
            if self.color_matrix is not None:
                linear, offset = np.hsplit(self.color_matrix, [3])
                matrix = linear @ matrix + np.pad(offset, ((0, 0), (3, 0)))
            self._matrices[key] = matrix
        return self._matrices[key]


def yuv_to_rgb_matrix(colorspace: int, full_range: bool) -> np.ndarray:
    """Returns the float32 `(3, 4)` map of 8-bit `(Y, U, V, 1)` to RGB (ITU-T H.273, 8.3)."""
    kr, kb = _LUMA_WEIGHTS.get(colorspace, _BT601_WEIGHTS)
    kg = 1 - kr - kb
    luma, chroma, black = (1.0, 1.0, 0.0) if full_range else (255 / 219, 255 / 224, 16.0)
    red, blue = 2 * (1 - kr) * chroma, 2 * (1 - kb) * chroma
    linear = np.array([[luma, 0, red], [luma, -blue * kb / kg, -red * kr / kg], [luma, blue, 0]])
    offset = -linear @ [[black], [128], [128]]
    return np.hstack([linear, offset]).astype(np.float32)


def _box(crop: Crop, shape: tuple[int, ...], size: tuple[int, int]) -> tuple[slice, slice, int]:
    rows = _whole_pixels(crop.top, crop.height, crop.frame_height, shape[0])
    columns = _whole_pixels(crop.left, crop.width, crop.frame_width, shape[1])
    # Bilinear weights see two pixels a side; an image shrunk further would alias.
    shrinks = rows.stop - rows.start >= 2 * size[0] and columns.stop - columns.start >= 2 * size[1]
    return rows, columns, cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR


def _whole_pixels(start: int, length: int, frame_length: int, num_pixels: int) -> slice:
    first = min(round(start * num_pixels / frame_length), num_pixels - 1)
    last = round((start + length) * num_pixels / frame_length)
    return slice(first, min(max(last, first + 1), num_pixels))
