import csv
import itertools
import json

import cv2
import numpy as np
import pytest

from tfvlad.evaluation import (
    bootstrap_mean,
    class_probabilities,
    evaluate_scores,
    mean_average_precision,
    weighted_average_precision,
    write_report,
)
from tfvlad.evaluation.report import confusion_figure

LOGITS = np.array([[3.0, 1, 0], [0, 2, 1], [2, 1, 0], [0, 1, 4]])
LABELS = np.array([0, 1, 1, 2])
NAMES = ("pour", "sit", "stand up")


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_single_label_metrics():
    report = evaluate_scores(LOGITS, LABELS, NAMES)
    hits = np.array([True, True, False, True])
    top1, mean_class = bootstrap_mean(hits), bootstrap_mean(hits, groups=LABELS)
    assert report.metrics == {
        "num_clips": 4,
        "top1": 0.75,
        "top1_interval": [top1.low, top1.high],
        "mean_class_accuracy": pytest.approx(5 / 6),
        "mean_class_accuracy_interval": [mean_class.low, mean_class.high],
        "mAP": mean_average_precision(class_probabilities(LOGITS), np.eye(3, dtype=int)[LABELS]),
    }
    np.testing.assert_array_equal(report.confusion, [[1, 0, 0], [1, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(report.per_class, [1, 0.5, 1])
    np.testing.assert_array_equal(report.num_clips_per_class, [1, 2, 1])


def test_top5_needs_more_than_5_classes():
    logits, labels = np.eye(6)[::-1], np.arange(6)
    assert evaluate_scores(logits, labels, list("abcdef")).metrics["top5"] == pytest.approx(5 / 6)


def test_crops_are_averaged():
    crops = LOGITS[:, None] + np.array([5.0, 0, -5])[None, :, None]
    assert evaluate_scores(crops, LABELS, NAMES).metrics == (
        evaluate_scores(LOGITS, LABELS, NAMES).metrics
    )


def test_multi_label_metrics(tmp_path):
    labels = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]])
    report = evaluate_scores(LOGITS, labels, NAMES)
    assert report.metrics == {
        "num_clips": 4,
        "mAP": mean_average_precision(LOGITS, labels),
        "wAP": weighted_average_precision(LOGITS, labels),
    }
    write_report(tmp_path, report)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "per_class.csv"]
    rows = read_csv(tmp_path / "per_class.csv")
    assert rows[0] == ["class", "num_clips", "average_precision"]
    assert rows[3] == ["stand up", "0", ""]


def test_wrong_number_of_names_raises():
    with pytest.raises(ValueError, match=r"each of the 3 columns of `logits`. Received: 2 names"):
        evaluate_scores(LOGITS, LABELS, ["a", "b"])


def test_written_files(tmp_path):
    report = evaluate_scores(LOGITS, LABELS, NAMES)
    write_report(tmp_path / "new" / "folder", report)
    folder = tmp_path / "new" / "folder"
    assert json.loads((folder / "metrics.json").read_text()) == report.metrics
    assert read_csv(folder / "per_class.csv") == [
        ["class", "num_clips", "accuracy"],
        ["pour", "1", "1.000000"],
        ["sit", "2", "0.500000"],
        ["stand up", "1", "1.000000"],
    ]
    assert read_csv(folder / "confusion.csv")[2] == ["sit", "1", "1", "0"]
    picture = cv2.imread(str(folder / "confusion.png"))
    assert picture.shape[0] == picture.shape[1] > 400
    assert (picture < 128).any()


@pytest.mark.parametrize("num_classes", [8, 51, 101])
def test_confusion_labels_do_not_overlap(num_classes):
    confusion = np.random.default_rng(0).integers(40, size=(num_classes, num_classes))
    figure = confusion_figure(confusion, [f"class number {k}" for k in range(num_classes)])
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(upper.y0 >= lower.y1 for upper, lower in itertools.pairwise(boxes))
    cell_pixels = boxes[0].y0 - boxes[1].y0
    texts = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(texts) == (np.count_nonzero(confusion) if num_classes <= 25 else 0)
    assert all(box.width < cell_pixels for box in texts)


def test_figure_leaves_pyplot_alone():
    plt = pytest.importorskip("matplotlib.pyplot")
    confusion_figure(np.eye(3, dtype=int), NAMES)
    assert plt.get_fignums() == []


def test_as_values_and_text():
    report = evaluate_scores(LOGITS, LABELS, NAMES)
    assert json.loads(json.dumps(report.to_dict())) == {
        "metrics": report.metrics,
        "class_names": list(NAMES),
        "num_clips_per_class": [1, 2, 1],
        "per_class": [1, 0.5, 1],
        "confusion": [[1, 0, 0], [1, 1, 0], [0, 0, 1]],
    }
    low, high = report.metrics["top1_interval"]
    assert repr(report).startswith(
        f"EvaluationReport(4 clips of 3 classes: top1=0.750 [{low:.3f}, {high:.3f}], "
    )
    several = evaluate_scores(LOGITS, np.eye(3, dtype=int)[[0, 1, 1, 1]], NAMES)
    assert several.to_dict()["per_class"][2] is None
    assert several.to_dict()["confusion"] is None
    assert repr(several).startswith("EvaluationReport(4 clips of 3 classes: mAP=")
