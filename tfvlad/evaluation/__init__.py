"""Measures of a classifier's scores, their fusion and files, and the report written from them."""

from tfvlad.evaluation.bootstrap import (
    Estimate,
    bootstrap_mean,
    paired_difference,
    paired_map_difference,
)
from tfvlad.evaluation.class_scores import ClassScore, top_classes
from tfvlad.evaluation.fusion import align_files, fuse_scores
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
    class_probabilities,
    confusion_matrix,
    mean_average_precision,
    mean_class_accuracy,
    per_class_accuracy,
    top_k_accuracy,
    top_k_correct,
    weighted_average_precision,
)
from tfvlad.evaluation.order_controls import OrderControl, OrderControls, compare_orders
from tfvlad.evaluation.report import (
    EvaluationReport,
    evaluate_scores,
    write_per_class,
    write_report,
)
from tfvlad.evaluation.score_files import ScoreFile, align_scores, read_scores, write_scores

__all__ = [
    "AttentionShare",
    "ClassScore",
    "Estimate",
    "EvaluationReport",
    "FrameScores",
    "Highlight",
    "OrderControl",
    "OrderControls",
    "ScoreFile",
    "align_files",
    "align_scores",
    "attention_share",
    "average_crops",
    "average_precision_per_class",
    "bootstrap_mean",
    "class_probabilities",
    "compare_orders",
    "confusion_matrix",
    "evaluate_scores",
    "fuse_scores",
    "highlight_intervals",
    "mean_average_precision",
    "mean_class_accuracy",
    "paired_difference",
    "paired_map_difference",
    "per_class_accuracy",
    "read_scores",
    "top_classes",
    "top_k_accuracy",
    "top_k_correct",
    "weighted_average_precision",
    "write_per_class",
    "write_report",
    "write_scores",
]
