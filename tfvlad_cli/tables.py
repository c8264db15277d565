"""Results as tables for the terminal."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from tfvlad.evaluation import EvaluationReport, OrderControls
    from tfvlad.studies import Ablation, Fusion, Runs


def metrics_table(reports: Mapping[str, EvaluationReport], *, title: str | None = None) -> Table:
    """One row a model, one column a figure, in percent; what a report lacks is left empty."""
    from rich.table import Table

    table = Table("model", title=title)
    columns = dict.fromkeys(
        name
        for report in reports.values()
        for name, value in report.metrics.items()
        if isinstance(value, float)
    )
    for name in (*columns, "clips"):
        table.add_column(name.replace("_", " "), justify="right")
    for model, report in reports.items():
        cells = [_percent(report.metrics, name) for name in columns]
        table.add_row(model, *cells, str(report.metrics["num_clips"]))
    return table


def controls_table(found: OrderControls) -> Table:
    """One row an order of the frames, in percent, with the difference to the plain one."""
    from rich.table import Table

    table = Table("frames", title="Does order matter? Difference with its 95 % interval")
    for column in (found.measure_title, "difference"):
        table.add_column(column, justify="right")
    table.add_row("in order", _figure(found.plain.metrics[found.measure]), "")
    for control in found.controls:
        figure = _figure(control.report.metrics[found.measure])
        table.add_row(control.title, figure, _difference(*control.difference))
    return table


def fusion_table(fusion: Fusion) -> Table:
    """One row a file and one for the fused scores, for each run and, at the end, their mean."""
    from rich.table import Table

    files = list(map(str, fusion.files))
    root = os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in files])
    rows = [*(os.path.relpath(file, root) for file in files), "fused"]
    means: list[Mapping[str, Any]] = [*fusion.file_metrics, fusion.metrics]
    measures = [name for name, value in means[0].items() if isinstance(value, float)]
    table = Table("run", "scores") if len(fusion.runs) > 1 else Table("scores")
    for name in (*measures, "clips"):
        table.add_column(name.replace("_", " "), justify="right")
    parts: dict[str, list[Mapping[str, Any]]] = {
        run.name: [report.metrics for report in (*run.reports, run.report)] for run in fusion.runs
    }
    if len(fusion.runs) > 1:
        parts["mean"] = means
    for part, metrics in parts.items():
        for row, found in zip(rows, metrics, strict=True):
            figures = [f"{100 * found[name]:.2f}" for name in measures]
            cells = (row, *figures, str(found.get("num_clips", "")))
            table.add_row(*((part, *cells) if len(fusion.runs) > 1 else cells))
        table.add_section()
    return table


def ablation_table(ablation: Ablation) -> Table:
    """One row a variant, in percent."""
    from rich.table import Table

    rows = ablation.rows
    table = Table(title=f"Test top-1, %; difference from {rows[0].variant} with its 95 % interval")
    for column in ("variant", "mean", "spread", "difference", "runs", "seconds"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    for row in rows:
        interval = _difference(row.difference, row.low, row.high)
        table.add_row(
            row.variant,
            f"{100 * row.mean:.1f}",
            f"{100 * row.spread:.1f}",
            "" if row is rows[0] else interval,
            str(row.num_runs),
            f"{row.seconds:.0f}",
        )
    return table


def runs_table(runs: Runs) -> Table:
    """One row a run and stage, in percent; the means over several runs last."""
    from rich.table import Table

    means = runs.means()
    table = Table("split", "seed", "stage", title="Test list, %")
    for name in (*means[0], "seconds"):
        table.add_column(name.replace("_", " "), justify="right")
    for result in runs.to_dict()["runs"]:
        for number, metrics in enumerate(result["stages"], 1):
            row = (str(result["split"]), str(result["seed"]), str(number))
            figures = (_percent(metrics, name) for name in means[0])
            table.add_row(*row, *figures, f"{result['seconds']:.0f}")
    if len(runs) > 1:
        for number, metrics in enumerate(means, 1):
            table.add_row("mean", "", str(number), *(_percent(metrics, n) for n in metrics), "")
    return table


def _percent(metrics: Mapping[str, Any], name: str) -> str:
    value, interval = metrics.get(name), metrics.get(f"{name}_interval")
    if not isinstance(value, float):
        return ""
    text = _figure(value)
    if interval:
        text += f" [{_figure(interval[0])}, {_figure(interval[1])}]"
    return text


def _figure(share: Any) -> str:
    return f"{100 * share:.1f}"


def _difference(mean: float, low: float, high: float) -> str:
    return f"{100 * mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
