"""What the order of the frames is worth: a model's scores of the same clips in other orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tfvlad.evaluation.bootstrap import Estimate, paired_difference, paired_map_differences
from tfvlad.evaluation.metrics import top_k_correct
from tfvlad.evaluation.report import EvaluationReport, evaluate_scores

_SHOWN = {
    "plain": "in order",
    "shuffled": "shuffled",
    "reversed": "reversed",
    "one_frame": "one frame",
}
_MEASURES = {"top1": "top-1", "mAP": "mAP"}

# Of the spread of the scores: what sums in another order differ by.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class OrderControl:
    """The test of the same clips with their frames in another order.

    Attributes:
        name: "shuffled", "reversed" or "one_frame".
        report: the figures.
        difference: the measure here minus that of the frames in order, paired clip by clip, with
            its 95 % interval.
    """

    name: str
    report: EvaluationReport
    difference: Estimate

    @property
    def title(self) -> str:
        """The name in words."""
        return _SHOWN[self.name]


@dataclass(frozen=True)
class OrderControls:
    """What `compare_orders` found.

    Attributes:
        measure: what is compared: "top1", or "mAP" of clips with several labels.
        plain: the figures of the frames in order.
        controls: the tests of frames in other orders.
        reads_order: whether the model's scores depend on the order of the frames at all.
    """

    measure: str
    plain: EvaluationReport
    controls: tuple[OrderControl, ...]
    reads_order: bool

    @property
    def measure_title(self) -> str:
        """The measure in words."""
        return _MEASURES[self.measure]

    @property
    def summary(self) -> str:
        """One sentence: whether order matters, as far as the intervals show it."""
        if not self.reads_order:
            return (
                "This model gives the same scores in any order of the frames: whether order "
                "matters on this data is shown by a model that reads it."
            )
        orders = [control for control in self.controls if control.name != "one_frame"]
        falls = [control for control in orders if control.difference.high < 0]
        changes = " and ".join(
            f"by {_points(control.difference)} with the frames {control.title}"
            for control in falls or orders
        )
        if falls:
            return f"Order matters on this data: {self.measure_title} changes {changes}."
        return f"No gain from order is shown on this data: {self.measure_title} changes {changes}."

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON values."""
        return {
            "measure": self.measure,
            "plain": dict(self.plain.metrics),
            "controls": {
                control.name: {
                    "metrics": dict(control.report.metrics),
                    "difference": control.difference.mean,
                    "interval": [control.difference.low, control.difference.high],
                }
                for control in self.controls
            },
            "reads_order": self.reads_order,
            "summary": self.summary,
        }

    def __repr__(self) -> str:
        clips = self.plain.metrics["num_clips"]
        lines = [
            f"{self.measure_title} of {clips} clips, in %",
            f"{_SHOWN['plain']}: {_percent(self.plain, self.measure)}",
        ]
        lines += [
            f"{control.title}: {_percent(control.report, self.measure)}, "
            f"{_points(control.difference)}"
            for control in self.controls
        ]
        return "\n  ".join([*lines, self.summary])


def compare_orders(
    logits: Mapping[str, ArrayLike], labels: ArrayLike, class_names: Sequence[str], *, seed: int = 0
) -> OrderControls:
    """Compares the scores of clips whose frames come in other orders with those in order.

    That a model loses shows that it uses the order it was trained on. What the order adds shows its
    difference to a model that does not read it, see `tfvlad.studies.compare`.

    Args:
        logits: `(num_clips, num_classes)` of "plain", of "shuffled" or "reversed" or both, and of
            "one_frame" if wanted, as `tfvlad.training.predict_in_orders` gives them.
        labels: class indices `(num_clips,)`, or multi-hot truth `(num_clips, num_classes)`.
        class_names: one name a class.
        seed: seed of the bootstrap.

    Raises:
        ValueError: when an order is missing or there is no such order, or as in `evaluate_scores`.

    Example:
        >>> compare_orders(logits, labels, ("open", "close"))  # doctest: +SKIP
        top-1 of 400 clips, in %
          in order: 81.5
          shuffled: 70.0, -11.5 points [-15.7, -7.3]
          Order matters on this data: top-1 changes by -11.5 points [-15.7, -7.3] with the frames
          shuffled.
    """
    unknown = [name for name in logits if name not in _SHOWN]
    others = {name: np.asarray(logits[name]) for name in _SHOWN if name in logits}
    if unknown or "plain" not in others or not {"shuffled", "reversed"} & set(others):
        raise ValueError(
            '`logits` must be those of "plain", of "shuffled" or "reversed" or both, and of '
            f'"one_frame" if wanted. Received: {", ".join(logits) or "none"}.'
        )
    plain, truth = others.pop("plain"), np.asarray(labels)

    if truth.ndim == 2:
        differences = paired_map_differences(list(others.values()), plain, truth, seed=seed)
    else:
        hits = top_k_correct(plain, truth)
        differences = [
            paired_difference(top_k_correct(scores, truth), hits, seed=seed)
            for scores in others.values()
        ]

    def report(scores: np.ndarray) -> EvaluationReport:
        return evaluate_scores(scores, truth, class_names, seed=seed)

    rounding = _ROUNDING * plain.std()
    return OrderControls(
        measure="mAP" if truth.ndim == 2 else "top1",
        plain=report(plain),
        controls=tuple(
            OrderControl(name, report(scores), difference)
            for (name, scores), difference in zip(others.items(), differences, strict=True)
        ),
        reads_order=any(
            np.abs(scores - plain).max() > rounding
            for name, scores in others.items()
            if name != "one_frame"
        ),
    )


def _percent(report: EvaluationReport, measure: str) -> str:
    return f"{100 * float(np.asarray(report.metrics[measure])):.1f}"


def _points(difference: Estimate) -> str:
    mean, low, high = (100 * value for value in difference)
    return f"{mean:+.1f} points [{low:+.1f}, {high:+.1f}]"
