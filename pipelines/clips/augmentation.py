"""Crops, flips and colour changes of a clip: one draw for all of its frames.

`decoding.read_frames` composes that resize, the crop and the resize to the network's input into
one; `crop_clip` applies a crop to a clip that is already an array.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from pipelines.video.crops import Crop

RGB_SCALES = (1.0, 0.875, 0.75, 0.66)
FLOW_SCALES = (1.0, 0.875, 0.75)


def crop_sizes(
    base: int, image_size: int, scales: Sequence[float] = RGB_SCALES
) -> list[tuple[int, int]]:
    """Lists the (width, height) pairs of scale jittering.

    Sizes are `int(base * scale)`; one within 3 px of `image_size` becomes it. Widths and heights
    pair up when their positions in `scales` differ by at most 1.

    Args:
        base: shorter side of the frame, pixels.
        image_size: side of the network's input, pixels.
        scales: descending shares of the base.

    Reference:
        Wang et al., Temporal Segment Networks, ECCV 2016, section 3.2; sizes as in its code.
    """
    sizes = [int(base * scale) for scale in scales]
    sizes = [image_size if abs(size - image_size) < 3 else size for size in sizes]
    return [
        (sizes[i], sizes[j])
        for j in range(len(sizes))
        for i in range(len(sizes))
        if abs(i - j) <= 1
    ]


def crop_offsets(
    frame_width: int, frame_height: int, width: int, height: int, num_offsets: int = 5
) -> list[tuple[int, int]]:
    """Lists the (left, top) places of corner cropping, in quarter steps of the free space.

    Args:
        frame_width: frame's width, pixels.
        frame_height: frame's height, pixels.
        width: crop's width, pixels.
        height: crop's height, pixels.
        num_offsets: 5 for the corners and the centre, 13 for the mid-points of the sides and of
            the quarters as well.
    """
    if num_offsets not in (5, 13):
        raise ValueError(f"`num_offsets` must be 5 or 13. Received: num_offsets={num_offsets}.")
    steps = [(0, 0), (4, 0), (0, 4), (4, 4), (2, 2)]
    if num_offsets == 13:
        steps += [(0, 2), (4, 2), (2, 4), (2, 0), (1, 1), (3, 1), (1, 3), (3, 3)]
    step_x, step_y = (frame_width - width) // 4, (frame_height - height) // 4
    return [(x * step_x, y * step_y) for x, y in steps]


def draw_crop(
    rng: np.random.Generator,
    frame_width: int,
    frame_height: int,
    image_size: int = 224,
    scales: Sequence[float] = RGB_SCALES,
    num_offsets: int = 5,
    flip_probability: float = 0.5,
) -> Crop:
    """Draws a training crop by corner cropping and scale jittering.

    Args:
        rng: source of the draw.
        frame_width: width of the resized frame, pixels.
        frame_height: height of the resized frame, pixels.
        image_size: side of the network's input, pixels.
        scales: `RGB_SCALES`, or `FLOW_SCALES` for optical flow.
        num_offsets: 5 or 13, see `crop_offsets`.
        flip_probability: probability of a mirrored crop.
    """
    sizes = crop_sizes(min(frame_width, frame_height), image_size, scales)
    width, height = sizes[rng.integers(len(sizes))]
    # A size that became the input's may exceed a frame up to 2 px smaller.
    width, height = min(width, frame_width), min(height, frame_height)
    offsets = crop_offsets(frame_width, frame_height, width, height, num_offsets)
    left, top = offsets[rng.integers(len(offsets))]
    flip = bool(rng.random() < flip_probability)
    return Crop(left, top, width, height, frame_width, frame_height, flip)


def fixed_crops(
    frame_width: int, frame_height: int, image_size: int = 224, num_crops: int = 1
) -> tuple[Crop, ...]:
    """Returns the crops whose scores are averaged at test time.

    Args:
        frame_width: width of the resized frame, pixels.
        frame_height: height of the resized frame, pixels.
        image_size: side of the network's input, pixels; a smaller frame gives its short side.
        num_crops: 1 for the centre, 5 for the four corners and the centre, 10 for these five and
            their mirror images.
    """
    if num_crops not in (1, 5, 10):
        raise ValueError(f"`num_crops` must be 1, 5 or 10. Received: num_crops={num_crops}.")
    size = min(image_size, frame_width, frame_height)
    free_x, free_y = frame_width - size, frame_height - size
    corners = [(0, 0), (free_x, 0), (0, free_y), (free_x, free_y)] if num_crops > 1 else []
    return tuple(
        Crop(left, top, size, size, frame_width, frame_height, flip)
        for flip in ((False, True) if num_crops == 10 else (False,))
        for left, top in [*corners, (free_x // 2, free_y // 2)]
    )


def draw_color_matrix(rng: np.random.Generator, strength: float) -> np.ndarray:
    """Draws a colour jitter as an affine map of RGB values (0 to 255).

    Brightness (a factor), contrast (about mid-grey 127.5) and saturation (about the pixel's BT.601
    luma) are each drawn from `1 - strength` to `1 + strength`.

    Returns:
        float32 `(3, 4)`, to be applied to `(R, G, B, 1)`.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"`strength` must lie between 0 and 1. Received: strength={strength}.")
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, size=3)
    luma = np.tile([0.299, 0.587, 0.114], (3, 1))
    mix = saturation * np.eye(3) + (1 - saturation) * luma
    offset = np.full((3, 1), (1 - contrast) * 127.5)
    return np.hstack([brightness * contrast * mix, offset]).astype(np.float32)


def crop_clip(clip: np.ndarray, crop: Crop, image_size: int, is_flow: bool = False) -> np.ndarray:
    """Cuts a crop out of every frame of a clip and resizes it.

    Args:
        clip: `(T, H, W, C)`, uint8 or float32, at most 4 channels unless `is_flow`.
        crop: a crop of a frame of the clip's size.
        image_size: side of the output, pixels.
        is_flow: the channels are x and y components of optical flow in turn: mirroring negates x
            (`255 - x` where uint8 stands for displacements about 127.5).

    Returns:
        `(T, image_size, image_size, C)` of the clip's type.
    """
    if clip.ndim != 4 or clip.shape[1:3] != (crop.frame_height, crop.frame_width):
        raise ValueError(
            f"`clip` must have the shape (T, {crop.frame_height}, {crop.frame_width}, C) of the "
            f"crop's frame. Received: clip.shape={clip.shape}."
        )
    out = np.empty((len(clip), image_size, image_size, clip.shape[3]), clip.dtype)
    rows = slice(crop.top, crop.top + crop.height)
    columns = slice(crop.left, crop.left + crop.width)
    for frame, target in zip(clip, out, strict=True):
        resized = cv2.resize(frame[rows, columns], (image_size, image_size))
        target[:] = resized.reshape(target.shape)
    if crop.flip:
        out = out[:, :, ::-1].copy()
        if is_flow:
            x = out[..., 0::2]
            out[..., 0::2] = 255 - x if out.dtype == np.uint8 else -x
    return out


def augment_clip(
    clip: np.ndarray,
    seed: int,
    image_size: int = 224,
    scales: Sequence[float] = RGB_SCALES,
    num_offsets: int = 5,
    flip_probability: float = 0.5,
    is_flow: bool = False,
) -> np.ndarray:
    """Crops a clip that is already an array by corner cropping and scale jittering, from a seed.

    Args:
        clip: `(T, H, W, C)`, see `crop_clip`.
        seed: non-negative seed of the one draw.
        image_size: side of the output, pixels.
        scales: see `draw_crop`.
        num_offsets: see `draw_crop`.
        flip_probability: see `draw_crop`.
        is_flow: see `crop_clip`.
    """
    rng = np.random.default_rng(seed)
    height, width = clip.shape[1:3]
    crop = draw_crop(rng, width, height, image_size, scales, num_offsets, flip_probability)
    return crop_clip(clip, crop, image_size, is_flow)
