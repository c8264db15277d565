"""When a model looks: frames, timelines and classes by their weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from tfvlad.visualization.overlays import show, shown_frames

_HIGH, _LOW, _NEUTRAL = "#2ca02c", "#d62728", "#4c72b0"


def extreme_frames_figure(
    frames: np.ndarray,
    weights: ArrayLike,
    *,
    frame_numbers: Sequence[int] | None = None,
    num_shown: int = 4,
    title: str = "",
) -> Figure:
    """The frames with the highest weights (green) and with the lowest ones (red), in a strip.

    Args:
        frames: RGB `(T, H, W, 3)`, values 0..255.
        weights: of the frames, `(T,)`: attention, or scores of any scale.
        frame_numbers: written above the frames. Defaults to 1..T.
        num_shown: frames of either kind, in the order of time; fewer where there are fewer than
            twice as many.
        title: of the figure.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        ValueError: when the lengths do not fit, there are fewer than two frames, or `num_shown` is
            not positive.

    Reference:
        Torabi and Sigal, "Action Classification and Highlighting in Videos", figure 2.
    """
    weights, numbers = _check_frames(frames, np.asarray(weights, "float64"), frame_numbers)
    if num_shown < 1:
        raise ValueError(f"`num_shown` must be positive. Received: num_shown={num_shown}.")
    if len(frames) < 2:
        raise ValueError(f"`frames` must be two or more. Received: {len(frames)}.")
    count = min(num_shown, len(frames) // 2)
    ranking = np.argsort(-weights, kind="stable")
    shown = [*np.sort(ranking[:count]), *np.sort(ranking[-count:])]
    figure = Figure(figsize=(1.3 * len(shown), 1.7), layout="constrained")
    for column, axis in enumerate(figure.subplots(1, len(shown))):
        i = shown[column]
        show(axis, frames[i], f"{weights[i]:.3f}")
        axis.set_title(numbers[i], fontsize=8)
        for spine in axis.spines.values():
            spine.set(visible=True, color=_HIGH if column < count else _LOW, linewidth=3)
    figure.suptitle(title, fontsize=10)
    return figure


def weighted_frames_figure(
    frames: np.ndarray,
    weights: ArrayLike | Mapping[str, ArrayLike],
    frame_numbers: Sequence[int] | None = None,
    *,
    num_shown: int = 6,
    title: str = "",
) -> Figure:
    """Frames above the same frames lightened or darkened by their weights.

    In a row, a frame of the mean weight stays as it is; one without weight has a fifth of its
    brightness, the one with the highest is half white.

    Args:
        frames: RGB `(T, H, W, 3)`, values 0..255.
        weights: of the frames, `(T,)`, not negative; or several, by the name of the model or of
            the attended set, a row each.
        frame_numbers: written above the frames. Defaults to 1..T.
        num_shown: frames shown, spread evenly over the clip.
        title: of the figure.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        ValueError: when the lengths do not fit, a weight is negative, there is no row of weights,
            or `num_shown` is not positive.

    Reference:
        Torabi and Sigal, "Action Classification and Highlighting in Videos", figure 3.
    """
    rows = dict(weights) if isinstance(weights, Mapping) else {"": weights}
    if not rows:
        raise ValueError("`weights` must hold at least one row. Received: none.")
    checked = {}
    for name, row in rows.items():
        checked[name], numbers = _check_frames(frames, np.asarray(row, "float64"), frame_numbers)
        if (checked[name] < 0).any():
            raise ValueError(
                f"`weights` must not be negative. Received: {checked[name].min():g} "
                "(of attributions, give the positive part)."
            )
    shown = shown_frames(len(frames), num_shown)
    figure = Figure(
        figsize=(1.3 * len(shown) + 0.4, 1.2 + 1.3 * len(checked)), layout="constrained"
    )
    axes = figure.subplots(1 + len(checked), len(shown), squeeze=False)
    for column, i in enumerate(shown):
        show(axes[0, column], frames[i])
        axes[0, column].set_title(numbers[i], fontsize=8)
        for axis, row in zip(axes[1:, column], checked.values(), strict=True):
            show(axis, _weighted(frames[i], row[i], row), f"{row[i]:.3f}")
    for axis, name in zip(axes[:, 0], ["video" if any(checked) else "", *checked], strict=True):
        axis.set_ylabel(name, fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def timeline_figure(
    seconds: ArrayLike,
    scores: ArrayLike,
    intervals: Sequence[Sequence[float]] = (),
    *,
    title: str = "",
    unit: str = "seconds",
) -> Figure:
    """The scores of a video over time, its mean score dashed, its highlights shaded.

    Args:
        seconds: start of each row, ascending, `(num_rows,)`.
        scores: `(num_rows,)`.
        intervals: (start, end) in seconds, what follows in an entry is not used: the highlights of
            `tfvlad.evaluation.highlight_intervals` fit.
        title: of the figure.
        unit: of the time axis, where it is not seconds.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        ValueError: when the lengths differ.
    """
    seconds, scores = np.asarray(seconds, "float64"), np.asarray(scores, "float64")
    if seconds.ndim != 1 or not seconds.size or seconds.shape != scores.shape:
        raise ValueError(
            "`seconds` and `scores` must have the same shape (num_rows,). "
            f"Received: seconds of shape {seconds.shape}, scores of shape {scores.shape}."
        )
    figure = Figure(figsize=(8, 2.2), layout="constrained")
    axis = figure.subplots()
    for start, end, *_ in intervals:
        axis.axvspan(start, end, color=_HIGH, alpha=0.25, linewidth=0)
    axis.step(seconds, scores, where="post", color=_NEUTRAL, linewidth=1)
    axis.axhline(scores.mean(), color="0.4", linestyle="--", linewidth=0.8)
    axis.margins(x=0)
    axis.set_xlabel(unit, fontsize=8)
    axis.set_ylabel("score", fontsize=8)
    axis.tick_params(labelsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def class_gain_figure(
    class_names: Sequence[str], gains: ArrayLike, top: int = 5, *, title: str = ""
) -> Figure:
    """The classes that gain most over a baseline, as bars.

    Args:
        class_names: of the C classes.
        gains: of each class, `(C,)`, such as the difference of two models' per-class accuracies;
            NaN, a class without clips, is left out.
        top: classes shown; fewer where there are fewer.
        title: of the figure.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        ValueError: when the lengths differ, or `top` is not positive.

    Reference:
        Torabi and Sigal, "Action Classification and Highlighting in Videos", figure 5.
    """
    gains = np.asarray(gains, "float64")
    if gains.shape != (len(class_names),):
        raise ValueError(
            f"`gains` must have shape ({len(class_names)},), one for each class. "
            f"Received: shape={gains.shape}."
        )
    if top < 1:
        raise ValueError(f"`top` must be positive. Received: top={top}.")
    ranking = [i for i in np.argsort(-gains, kind="stable") if not np.isnan(gains[i])][:top]
    figure = Figure(figsize=(5, 0.6 + 0.3 * len(ranking)), layout="constrained")
    axis = figure.subplots()
    # From the bottom to the top of the axis
    values = gains[ranking[::-1]]
    bars = axis.barh([class_names[i] for i in ranking[::-1]], values, color=_NEUTRAL)
    axis.bar_label(bars, labels=[f"{value:+.3g}" for value in values], fontsize=8, padding=2)
    axis.axvline(0, color="0.4", linewidth=0.8)
    axis.margins(x=0.15)
    axis.tick_params(labelsize=8)
    axis.set_xlabel("gain", fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def _check_frames(
    frames: np.ndarray, weights: np.ndarray, frame_numbers: Sequence[int] | None
) -> tuple[np.ndarray, list[str]]:
    if frames.ndim != 4 or weights.shape != frames.shape[:1]:
        raise ValueError(
            "`frames` must have shape (T, H, W, 3) and `weights` (T,). "
            f"Received: frames of shape {frames.shape}, weights of shape {weights.shape}."
        )
    if frame_numbers is None:
        frame_numbers = range(1, len(frames) + 1)
    if len(frame_numbers) != len(frames):
        raise ValueError(
            f"`frame_numbers` must be {len(frames)}, one for each frame. "
            f"Received: {len(frame_numbers)}."
        )
    return weights, [str(number) for number in frame_numbers]


def _weighted(frame: np.ndarray, weight: float, weights: np.ndarray) -> np.ndarray:
    """A frame darkened below the mean of the weights and lightened above it."""
    mean, highest = weights.mean(), weights.max()
    image = frame.astype("float64")
    if weight <= mean:
        image *= 0.2 + 0.8 * (weight / mean if mean else 1)
    else:
        image += (255 - image) * 0.5 * (weight - mean) / (highest - mean)
    return image.round().astype("uint8")
