"""Pictures of a search: two values against each other, all values, and what accuracy costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from tuning.trials import Trial, measured_trials, pareto_front, varying_values

# Shares of 1 that are drawn in percent.
_PERCENT_LABELS = {"val_top1": "validation top-1, %", "val_mAP": "validation mAP, %"}
_MAX_LABELS = 6
_PAPER = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5}
# Where the lines of trials without a value cross its axis, whose values are at 0 to 1.
_WITHOUT_VALUE = -0.12


def heat_map(
    trials: Iterable[Trial],
    *,
    rows: str = "num_clusters",
    columns: str = "units",
    measure: str = "val_top1",
) -> Figure:
    """A table of two values in colours; a frame marks the best cell.

    Args:
        trials: Of a search. The mean of those that share a cell stands in it, with their number.
        rows: Value along the rows.
        columns: Value along the columns.
        measure: Metric of which more is better.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        ValueError: no completed trial has both values and the measure.

    Reference:
        Sudhakaran and Lanz, "Top-down Attention Recurrent VLAD Encoding for Action Recognition in
        Videos", section 4.2 and figure 3.
    """
    drawn = [
        trial
        for trial in _measured(trials, measure)
        if rows in trial.values and columns in trial.values
    ]
    if not drawn:
        raise ValueError(f"No completed trial has both `{rows}` and `{columns}`: nothing to draw.")
    cells: dict[tuple[Any, Any], list[float]] = {}
    for trial, score in zip(drawn, _scores(drawn, measure).tolist(), strict=True):
        cells.setdefault((trial.values[rows], trial.values[columns]), []).append(score)
    row_values, column_values = (_distinct(values) for values in zip(*cells, strict=True))
    means = np.full((len(row_values), len(column_values)), np.nan)
    places = {cell: (row_values.index(cell[0]), column_values.index(cell[1])) for cell in cells}
    for cell, place in places.items():
        means[place] = np.mean(cells[cell])
    figure = Figure(
        figsize=(2 + 0.8 * len(column_values), 1 + 0.6 * len(row_values)), layout="constrained"
    )
    axis = figure.add_subplot(xlabel=columns, ylabel=rows)
    image = axis.imshow(means, cmap="viridis", aspect="auto")
    axis.set_xticks(range(len(column_values)), [_text(value) for value in column_values])
    axis.set_yticks(range(len(row_values)), [_text(value) for value in row_values])
    middle, digits = np.mean(image.get_clim()), ".1f" if measure in _PERCENT_LABELS else ".3g"
    for cell, (i, j) in places.items():
        number = f"\n({len(cells[cell])} trials)" if len(cells[cell]) > 1 else ""
        color = "white" if means[i, j] < middle else "black"
        text = f"{means[i, j]:{digits}}{number}"
        axis.text(j, i, text, ha="center", va="center", fontsize=8, color=color)
    i, j = max(places.values(), key=lambda place: means[place])
    frame = Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor="tab:red", linewidth=3)
    axis.add_patch(frame).set_clip_on(False)
    figure.colorbar(image, ax=axis, label=_label(measure))
    return figure


def parallel_coordinates(trials: Iterable[Trial], *, measure: str = "val_top1") -> Figure:
    """A line for each completed trial through all values that vary, up to its measure.

    Numbers lie on a linear or a logarithmic axis, whichever spreads them more evenly.

    Args:
        trials: Of a search.
        measure: Metric that colours the lines.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        ValueError: no completed trial has the measure, or all have the same values.
    """
    # The best lie on top.
    drawn = sorted(_measured(trials, measure), key=lambda trial: trial.metrics[measure])
    names = varying_values(drawn)
    if not names:
        raise ValueError(
            "Parallel coordinates need completed trials that differ in a value. "
            f"Received: {len(drawn)} with the same values."
        )
    scores = _scores(drawn, measure)
    scales = [_scale([trial.values.get(name) for trial in drawn]) for name in names]
    heights = np.stack([*(heights for heights, _ in scales), _stretch(scores)], axis=1)
    figure = Figure(figsize=(2.5 + 1.3 * len(names), 4), layout="constrained")
    axis = figure.add_subplot()
    lines = LineCollection(
        [np.column_stack([np.arange(len(line)), line]) for line in heights],
        array=scores,
        cmap="viridis",
        linewidths=[1.2] * (len(drawn) - 1) + [3],
    )
    axis.add_collection(lines)
    for x, (_, labels) in enumerate(scales):
        axis.axvline(x, color="0.6", linewidth=0.8)
        for label, height in labels.items():
            axis.text(x - 0.04, height, label, ha="right", va="center", fontsize=8, bbox=_PAPER)
    axis.set_xticks(range(len(names)), names, fontsize=8)
    axis.set(xlim=(-0.4, len(names) + 0.1), ylim=(heights.min() - 0.04, 1.04), yticks=[])
    axis.spines[:].set_visible(False)
    # The colour bar is the last axis: a line ends at its measure.
    bar = axis.inset_axes((len(names), 0, 0.1, 1), transform=axis.transData)
    figure.colorbar(lines, cax=bar, label=_label(measure))
    return figure


def pareto(
    trials: Iterable[Trial], *, measure: str = "val_top1", cost: str = "parameters"
) -> Figure:
    """What a measure costs: the completed trials, and those that no other one beats in both.

    Args:
        trials: Of a search.
        measure: Metric of which more is better.
        cost: Metric of which less is better.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        ValueError: no completed trial has both metrics.
    """
    drawn = _measured(trials, measure, cost)
    front = pareto_front(drawn, measure, cost)
    costs, scores = _costs(drawn, cost), _scores(drawn, measure)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.add_subplot(xlabel=cost, ylabel=_label(measure))
    axis.scatter(costs, scores, color="0.6", s=20, label="trials")
    front_costs, front_scores = _costs(front, cost), _scores(front, measure)
    axis.step(front_costs, front_scores, where="post", marker="o", label="best at its cost")
    for trial, x, y in zip(front, front_costs, front_scores, strict=True):
        axis.annotate(
            trial.trial_id, (x, y), xytext=(-4, 4), textcoords="offset points", ha="right"
        )
    if costs.min() > 0 and costs.max() >= 10 * costs.min():
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(EngFormatter(sep="") if costs.min() >= 1000 else "{x:g}")
    axis.margins(0.1)
    axis.legend(loc="lower right", fontsize=8)
    return figure


def _measured(trials: Iterable[Trial], *metrics: str) -> list[Trial]:
    measured = measured_trials(trials, *metrics)
    if not measured:
        names = " and ".join(f"`{name}`" for name in metrics)
        raise ValueError(f"No completed trial has a finite {names}: nothing to draw.")
    return measured


def _scores(trials: Sequence[Trial], measure: str) -> np.ndarray:
    """A measure as it is drawn."""
    factor = 100 if measure in _PERCENT_LABELS else 1
    return factor * np.array([trial.metrics[measure] for trial in trials])


def _costs(trials: Sequence[Trial], cost: str) -> np.ndarray:
    return np.array([trial.metrics[cost] for trial in trials])


def _label(measure: str) -> str:
    return _PERCENT_LABELS.get(measure, measure)


def _text(value: Any) -> str:
    return f"{float(f'{value:.3g}'):g}" if isinstance(value, float) else str(value)


def _distinct(values: Iterable[Any]) -> list[Any]:
    """Numbers before words, each in their order, without what is missing."""
    return sorted(set(values) - {None}, key=lambda value: (isinstance(value, str), value))


def _stretch(values: np.ndarray) -> np.ndarray:
    """From 0 for the lowest to 1 for the highest."""
    span = np.ptp(values)
    return (values - values.min()) / span if span else np.full(len(values), 0.5)


def _scale(values: Sequence[Any]) -> tuple[np.ndarray, dict[str, float]]:
    """Heights of values on their axis, and of the axis's labels."""
    distinct = _distinct(values)
    numbers = np.arange(len(distinct)) if _are_words(distinct) else np.array(distinct, "float64")
    is_log = _is_log(numbers)
    steps = _stretch(np.log(numbers) if is_log else numbers)
    labels = dict(zip(map(_text, distinct), steps.tolist(), strict=True))
    if len(distinct) > _MAX_LABELS and not _are_words(distinct):
        ends = numbers[0], numbers[-1]
        space = np.geomspace if is_log else np.linspace
        shown = space(*ends, _MAX_LABELS).tolist()
        labels = dict(zip(map(_text, shown), np.linspace(0, 1, _MAX_LABELS), strict=True))
    heights = dict(zip(distinct, steps.tolist(), strict=True))
    if None in values:
        heights[None] = labels["none"] = _WITHOUT_VALUE
    return np.array([heights[value] for value in values]), labels


def _are_words(values: Sequence[Any]) -> bool:
    return any(isinstance(value, str | bool) for value in values)


def _is_log(numbers: np.ndarray) -> bool:
    """Whether the logarithms of increasing numbers are spread more evenly than they are."""
    return numbers[0] > 0 and _unevenness(np.log(numbers)) < _unevenness(numbers)


def _unevenness(numbers: np.ndarray) -> float:
    return float(np.abs(_stretch(numbers) - np.linspace(0, 1, len(numbers))).mean())
