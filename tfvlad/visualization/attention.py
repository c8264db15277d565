"""Where a model looks: frames with their spatial attention."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from tfvlad.visualization.overlays import overlay, show, shown_frames


def attention_figure(
    frames: np.ndarray,
    attention: ArrayLike | Mapping[str, ArrayLike],
    *,
    num_shown: int = 8,
    title: str = "",
) -> Figure:
    """Frames of a clip above the same frames under their attention.

    Args:
        frames: RGB `(T, H, W, 3)`, values 0..255.
        attention: weight of each location, `(T, h, w)`; each frame is scaled to its own maximum
            and enlarged to the frame's size. Or several, such as after each stage of training, by
            name, a row each.
        num_shown: frames shown, spread evenly over the clip.
        title: of the figure.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        ValueError: when the shapes do not fit each other, there is no row of attention, or
            `num_shown` is not positive.

    Reference:
        Sudhakaran and Lanz, "Top-down Attention Recurrent VLAD Encoding for Action Recognition in
        Videos", the figure of class activation maps before and after stage 2.
    """
    named = attention if isinstance(attention, Mapping) else {"": attention}
    rows = {name: np.asarray(row, "float32") for name, row in named.items()}
    if not rows:
        raise ValueError("`attention` must hold at least one row. Received: none.")
    for row in rows.values():
        if frames.ndim != 4 or row.ndim != 3 or len(frames) != len(row):
            raise ValueError(
                "`frames` must have shape (T, H, W, 3) and `attention` (T, h, w). "
                f"Received: frames of shape {frames.shape}, attention of shape {row.shape}."
            )
    shown = shown_frames(len(frames), num_shown)
    figure = Figure(figsize=(1.3 * len(shown), 1.5 + 1.35 * len(rows)), layout="constrained")
    axes = figure.subplots(1 + len(rows), len(shown), squeeze=False)
    for column, i in enumerate(shown):
        show(axes[0, column], frames[i])
        axes[0, column].set_title(f"frame {i + 1}", fontsize=8)
        for axis, row in zip(axes[1:, column], rows.values(), strict=True):
            overlay(axis, frames[i], row[i], float(row[i].max()))
    for axis, name in zip(axes[1:, 0], rows, strict=True):
        axis.set_ylabel(name, fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure
