"""What the pictures of frames share: which frames are shown, and what lies over them."""

from __future__ import annotations

import cv2
import numpy as np
from matplotlib.axes import Axes


def shown_frames(num_frames: int, num_shown: int) -> np.ndarray:
    """Indices of at most `num_shown` frames, spread evenly."""
    if num_shown < 1:
        raise ValueError(f"`num_shown` must be positive. Received: num_shown={num_shown}.")
    return np.linspace(0, num_frames - 1, min(num_shown, num_frames)).round().astype(int)


def show(axis: Axes, image: np.ndarray, label: str = "") -> None:
    """An RGB image, values 0..255, without ticks and frame, its label below."""
    axis.imshow(image.astype("uint8"))
    axis.set(xticks=[], yticks=[])
    axis.set_xlabel(label, fontsize=8)
    for spine in axis.spines.values():
        spine.set_visible(False)


def overlay(axis: Axes, frame: np.ndarray, weights: np.ndarray, highest: float) -> None:
    """A frame under a map `(h, w)` of weights that is enlarged to its size."""
    show(axis, frame)
    size = frame.shape[1], frame.shape[0]
    heat = cv2.resize(weights.astype("float32"), size, interpolation=cv2.INTER_CUBIC)
    axis.imshow(heat, cmap="inferno", alpha=0.6, vmin=0, vmax=max(highest, 1e-12))
