"""Measures of a classifier's scores, and the report that is written from them."""

from tfvlad.evaluation.bootstrap import Estimate, bootstrap_mean, paired_difference
from tfvlad.evaluation.highlights import (
    AttentionShare,
    FrameScores,
    Highlight,
    attention_share,
    highlight_intervals,
)
from tfvlad.evaluation.metrics import (
    average_crops,
    average_precision_per_class,
    average_probabilities,
    class_probabilities,
    confusion_matrix,
    mean_average_precision,
    mean_class_accuracy,
    per_class_accuracy,
    top_k_accuracy,
    top_k_correct,
    weighted_average_precision,
)
from tfvlad.evaluation.report import (
    EvaluationReport,
    evaluate_scores,
    metrics_table,
    write_report,
)

__all__ = [
    "AttentionShare",
    "Estimate",
    "EvaluationReport",
    "FrameScores",
    "Highlight",
    "attention_share",
    "average_crops",
    "average_precision_per_class",
    "average_probabilities",
    "bootstrap_mean",
    "class_probabilities",
    "confusion_matrix",
    "evaluate_scores",
    "highlight_intervals",
    "mean_average_precision",
    "mean_class_accuracy",
    "metrics_table",
    "paired_difference",
    "per_class_accuracy",
    "top_k_accuracy",
    "top_k_correct",
    "weighted_average_precision",
    "write_report",
]
