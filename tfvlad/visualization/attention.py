"""Where a model looks: frames with their spatial attention."""

from __future__ import annotations

import cv2
import numpy as np
from matplotlib.figure import Figure


def attention_figure(
    frames: np.ndarray, attention: np.ndarray, *, num_shown: int = 8, title: str = ""
) -> Figure:
    """Frames of a clip above the same frames under their attention.

    Args:
        frames: RGB `(T, H, W, 3)`, values 0..255.
        attention: weight of each location, `(T, h, w)`; each frame is scaled to its own maximum
            and enlarged to the frame's size.
        num_shown: frames shown, spread evenly over the clip.
        title: of the figure.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        ValueError: the shapes do not fit each other.
    """
    if frames.ndim != 4 or attention.ndim != 3 or len(frames) != len(attention):
        raise ValueError(
            "`frames` must have shape (T, H, W, 3) and `attention` (T, h, w). "
            f"Received: frames of shape {frames.shape}, attention of shape {attention.shape}."
        )
    shown = np.linspace(0, len(frames) - 1, min(num_shown, len(frames))).round().astype(int)
    figure = Figure(figsize=(1.3 * len(shown), 2.9), layout="constrained")
    axes = figure.subplots(2, len(shown), squeeze=False)
    size = frames.shape[2], frames.shape[1]
    for column, i in enumerate(shown):
        frame = frames[i].astype("uint8")
        weights = np.asarray(attention[i], dtype="float32") / max(float(attention[i].max()), 1e-12)
        heat = cv2.resize(weights, size, interpolation=cv2.INTER_CUBIC)
        axes[0, column].imshow(frame)
        axes[0, column].set_title(f"frame {i + 1}", fontsize=8)
        axes[1, column].imshow(frame)
        axes[1, column].imshow(heat, cmap="inferno", alpha=0.6, vmin=0, vmax=1)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.suptitle(title, fontsize=10)
    return figure
