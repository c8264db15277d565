"""Pictures of a search: two values against each other, and what accuracy costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from tuning.results.trials import Trial, measured_trials, pareto_front

# Shares of 1 that are drawn in percent.
_PERCENT_LABELS = {"val_top1": "validation top-1, %", "val_mAP": "validation mAP, %"}


def heat_map(
    trials: Iterable[Trial],
    *,
    rows: str = "num_clusters",
    columns: str = "units",
    measure: str = "val_top1",
) -> Figure:
    """A table of two values in colours; a frame marks the best cell.

    Args:
        trials: of a search. The mean of those that share a cell stands in it, with their number.
        rows: value along the rows.
        columns: value along the columns.
        measure: metric of which more is better.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        ValueError: when no completed trial has both values and the measure.

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


def pareto(
    trials: Iterable[Trial], *, measure: str = "val_top1", cost: str = "parameters"
) -> Figure:
    """What a measure costs: the completed trials, and those that no other one beats in both.

    Args:
        trials: of a search.
        measure: metric of which more is better.
        cost: metric of which less is better.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        ValueError: when no completed trial has both metrics.
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
    """Numbers before words, each in their order."""
    return sorted(set(values), key=lambda value: (isinstance(value, str), value))
