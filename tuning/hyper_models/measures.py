"""What a search may maximise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfvlad.evaluation import evaluate_scores

MEASURES = ("val_top1", "val_mean_class_accuracy", "val_mAP")


def validation_measures(logits: Any, labels: Any, class_names: Sequence[str]) -> dict[str, float]:
    """Those of `MEASURES` that the validation clips have: with several labels, mAP alone."""
    metrics = evaluate_scores(logits, labels, class_names).metrics
    found = {f"val_{name}": value for name, value in metrics.items()}
    return {name: float(found[name]) for name in MEASURES if name in found}  # type: ignore[arg-type]
