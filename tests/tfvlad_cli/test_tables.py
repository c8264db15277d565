import io

import numpy as np
from rich.console import Console

from tfvlad.evaluation import compare_orders, evaluate_scores
from tfvlad_cli.tables import controls_table, metrics_table

LOGITS = np.array([[3.0, 1, 0], [0, 2, 1], [2, 1, 0], [0, 1, 4]])
LABELS = np.array([0, 1, 1, 2])
NAMES = ("pour", "sit", "stand up")


def test_metrics_table():
    single = evaluate_scores(LOGITS, LABELS, NAMES)
    several = evaluate_scores(LOGITS, np.eye(3, dtype=int)[LABELS], NAMES)
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(metrics_table({"TA-VLAD": single, "other": several}, title="Test set"))
    text = console.export_text()
    low, high = (100 * end for end in single.metrics["top1_interval"])
    assert f"75.0 [{low:.1f}, {high:.1f}]" in text
    assert f"{100 * several.metrics['mAP']:.1f}" in text
    assert "Test set" in text
    assert "mean class accuracy" in text


def test_controls_table():
    found = compare_orders({"plain": LOGITS, "shuffled": -LOGITS}, LABELS, NAMES)
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(controls_table(found))
    rows = [line.split() for line in console.export_text().splitlines()]
    low, high = (f"{100 * end:+.1f}" for end in found.controls[0].difference[1:])
    assert ["│", "in", "order", "│", "75.0", "│", "│"] in rows
    assert ["│", "shuffled", "│", "0.0", "│", "-75.0", f"[{low},", f"{high}]", "│"] in rows
