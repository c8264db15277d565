"""What the action words stand for: the regions of frames that VLAD assigns to them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tfvlad.visualization.overlays import overlay, show, shown_frames

_NUM_COLORS = 10


def word_shares(assignments: np.ndarray, attention: np.ndarray | None = None) -> np.ndarray:
    """Share of each action word in each frame.

    Args:
        assignments: of each location to the words, `(..., h, w, K)`.
        attention: weight of each location, `(..., h, w)`; None weights all alike.

    Returns:
        `(..., K)`, the mean over a frame's locations; sums to 1 over the words.
    """
    if attention is None:
        return assignments.mean(axis=(-3, -2))
    weights = attention / attention.sum(axis=(-2, -1), keepdims=True)
    return (assignments * weights[..., np.newaxis]).sum(axis=(-3, -2))


def action_words_figure(
    clips: np.ndarray,
    assignments: np.ndarray,
    words: Sequence[int],
    *,
    num_regions: int = 8,
    region_cells: int = 3,
    title: str = "",
) -> Figure:
    """Regions that are assigned to action words, a row of them for each word.

    A region is a square of cells of the feature map; the regions shown are those whose mean
    assignment to the word is highest, at most one of a clip.

    Args:
        clips: RGB `(n, T, H, W, 3)`, values 0..255.
        assignments: of each location to the words, `(n, T, h, w, K)`.
        words: numbers of the words, from 0.
        num_regions: regions of a word; fewer where there are fewer clips.
        region_cells: side of a region in cells, or the whole frame where the map is smaller.
        title: of the figure.

    Returns:
        A figure; `figure.savefig(path)` writes it. The mean assignment stands below a region.

    Raises:
        ValueError: when the shapes do not fit each other, there is no such word, or a number is not
            positive.

    Reference:
        Girdhar et al., "ActionVLAD", poster: regions assigned to an action word.
    """
    if clips.ndim != 5 or assignments.ndim != 5 or clips.shape[:2] != assignments.shape[:2]:
        raise ValueError(
            "`clips` must have shape (n, T, H, W, 3) and `assignments` (n, T, h, w, K). "
            f"Received: clips of shape {clips.shape}, assignments of shape {assignments.shape}."
        )
    for name, value in (("num_regions", num_regions), ("region_cells", region_cells)):
        if value < 1:
            raise ValueError(f"`{name}` must be positive. Received: {name}={value}.")
    if not len(words):
        raise ValueError("`words` must name at least one word. Received: none.")
    count = min(num_regions, len(clips))
    figure = Figure(figsize=(1.1 * count + 0.4, 1.35 * len(words) + 0.3), layout="constrained")
    for word, axes in zip(words, figure.subplots(len(words), count, squeeze=False), strict=True):
        maps = _of_word(assignments, word)
        found = [_best_region(*clip, region_cells) for clip in zip(clips, maps, strict=True)]
        found.sort(key=lambda region: -region[0])
        for axis, (mean, region) in zip(axes, found, strict=False):
            show(axis, region, f"{mean:.2f}")
        axes[0].set_ylabel(f"word {word}", fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def word_map_figure(
    frames: np.ndarray, assignments: np.ndarray, *, num_shown: int = 8, title: str = ""
) -> Figure:
    """Frames of a clip above maps of the word that each location is assigned to most.

    The ten words that have most of the clip have a colour each; the others are grey.

    Args:
        frames: RGB `(T, H, W, 3)`, values 0..255.
        assignments: of each location to the words, `(T, h, w, K)`.
        num_shown: frames shown, spread evenly over the clip.
        title: of the figure.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        ValueError: when the shapes do not fit each other, or `num_shown` is not positive.
    """
    _check_frames(frames, assignments)
    shown = shown_frames(len(frames), num_shown)
    winners = assignments.argmax(axis=-1)
    num_words = assignments.shape[-1]
    ranking = np.argsort(-np.bincount(winners.ravel(), minlength=num_words), kind="stable")
    colored = [word for word in ranking[:_NUM_COLORS].tolist() if (winners == word).any()]
    palette = np.full((num_words, 3), 0.75)
    palette[colored] = matplotlib.colormaps["tab10"].colors[: len(colored)]  # type: ignore[attr-defined]
    figure = Figure(figsize=(1.3 * len(shown), 3.2), layout="constrained")
    axes = figure.subplots(2, len(shown), squeeze=False)
    for column, i in enumerate(shown):
        show(axes[0, column], frames[i])
        axes[0, column].set_title(f"frame {i + 1}", fontsize=8)
        size = frames.shape[2], frames.shape[1]
        image = cv2.resize(palette[winners[i]] * 255, size, interpolation=cv2.INTER_NEAREST)
        show(axes[1, column], 0.35 * frames[i] + 0.65 * image)
    handles = [
        Line2D([], [], marker="s", linestyle="", color=palette[word], label=f"word {word}")
        for word in colored
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=7, frameon=False)
    figure.suptitle(title, fontsize=10)
    return figure


def word_track_figure(
    frames: np.ndarray,
    assignments: np.ndarray,
    word: int,
    *,
    num_shown: int = 8,
    title: str = "",
) -> Figure:
    """One action word over a video: where it is in the frames, and its share of every frame.

    Args:
        frames: RGB `(T, H, W, 3)`, values 0..255.
        assignments: of each location to the words, `(T, h, w, K)`.
        word: number of the word, from 0.
        num_shown: frames shown, spread evenly over the clip.
        title: of the figure.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        ValueError: when the shapes do not fit each other, there is no such word, or `num_shown` is
            not positive.

    Reference:
        Girdhar et al., "ActionVLAD", poster: an action word tracked over time.
    """
    _check_frames(frames, assignments)
    maps = _of_word(assignments, word)
    shown = shown_frames(len(frames), num_shown)
    figure = Figure(figsize=(max(1.3 * len(shown), 4), 3.9), layout="constrained")
    grid = figure.add_gridspec(3, len(shown), height_ratios=(1, 1, 0.8))
    for column, i in enumerate(shown):
        axis = figure.add_subplot(grid[0, column])
        show(axis, frames[i])
        axis.set_title(f"frame {i + 1}", fontsize=8)
        overlay(figure.add_subplot(grid[1, column]), frames[i], maps[i], 1.0)
    axis = figure.add_subplot(grid[2, :])
    axis.plot(np.arange(1, len(frames) + 1), maps.mean(axis=(1, 2)), color="#4c72b0", marker=".")
    axis.set_ylim(bottom=0)
    axis.set_xlabel("frame", fontsize=8)
    axis.set_ylabel(f"share of word {word}", fontsize=8)
    axis.tick_params(labelsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def _check_frames(frames: np.ndarray, assignments: np.ndarray) -> None:
    if frames.ndim != 4 or assignments.ndim != 4 or len(frames) != len(assignments):
        raise ValueError(
            "`frames` must have shape (T, H, W, 3) and `assignments` (T, h, w, K). "
            f"Received: frames of shape {frames.shape}, assignments of shape {assignments.shape}."
        )


def _of_word(assignments: np.ndarray, word: int) -> np.ndarray:
    """The maps of one word."""
    if not 0 <= word < assignments.shape[-1]:
        raise ValueError(
            f"A word must be a number from 0 to {assignments.shape[-1] - 1}. Received: {word}."
        )
    return assignments[..., word].astype("float32")


def _best_region(
    frames: np.ndarray, maps: np.ndarray, region_cells: int
) -> tuple[float, np.ndarray]:
    """The region of a clip with the highest mean of the maps `(T, h, w)`, and that mean."""
    height, width = (min(region_cells, cells) for cells in maps.shape[1:])
    windows = np.lib.stride_tricks.sliding_window_view(maps, (height, width), axis=(1, 2))
    means = windows.mean(axis=(-2, -1))
    frame, row, column = np.unravel_index(means.argmax(), means.shape)
    rows, columns = (
        np.round(np.array([first, first + cells]) * side / num_cells).astype(int)
        for first, cells, side, num_cells in zip(
            (row, column), (height, width), frames.shape[1:3], maps.shape[1:], strict=True
        )
    )
    return float(means.max()), frames[frame, slice(*rows), slice(*columns)]
