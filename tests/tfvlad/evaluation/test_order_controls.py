import json

import numpy as np
import pytest

from tfvlad.evaluation import (
    compare_orders,
    evaluate_scores,
    mean_average_precision,
    paired_difference,
    paired_map_difference,
    top_k_correct,
)

NAMES = ("open", "close", "clap")
RANDOM = np.random.default_rng(0)
LABELS = np.arange(60) % 3
# Right about four clips in five, about two in five, and about four in five others.
PLAIN = np.eye(3)[np.where(np.arange(60) % 5 < 4, LABELS, (LABELS + 1) % 3)] + 0.1
WORSE = np.eye(3)[np.where(np.arange(60) % 5 < 2, LABELS, (LABELS + 1) % 3)] + 0.1
CHANGED = np.eye(3)[np.where(np.arange(60) % 5 > 0, LABELS, (LABELS + 1) % 3)] + 0.1


class TestSingleLabel:
    def test_figures(self):
        found = compare_orders(
            {"plain": PLAIN, "one_frame": CHANGED, "shuffled": WORSE, "reversed": CHANGED},
            LABELS,
            NAMES,
        )
        assert found.measure == "top1"
        assert found.plain.metrics == evaluate_scores(PLAIN, LABELS, NAMES).metrics
        names = [control.name for control in found.controls]
        assert names == ["shuffled", "reversed", "one_frame"]
        shuffled = found.controls[0]
        assert shuffled.report.metrics == evaluate_scores(WORSE, LABELS, NAMES).metrics
        hits = [top_k_correct(scores, LABELS) for scores in (WORSE, PLAIN)]
        assert shuffled.difference == paired_difference(*hits)

    def test_only_what_the_interval_supports_is_said(self):
        found = compare_orders(
            {"plain": PLAIN, "shuffled": WORSE, "reversed": CHANGED}, LABELS, NAMES
        )
        low, high = (100 * end for end in found.controls[0].difference[1:])
        assert high < 0
        assert found.summary == (
            "Order matters on this data: top-1 changes by "
            f"-40.0 points [{low:+.1f}, {high:+.1f}] with the frames shuffled."
        )
        assert repr(found) == (
            "top-1 of 60 clips, in %\n"
            "  in order: 80.0\n"
            f"  shuffled: 40.0, -40.0 points [{low:+.1f}, {high:+.1f}]\n"
            f"  reversed: 80.0, +0.0 points {repr(found).splitlines()[3].split('points ')[1]}\n"
            f"  {found.summary}"
        )

    def test_no_gain(self):
        found = compare_orders({"plain": WORSE, "shuffled": CHANGED}, LABELS, NAMES)
        assert found.controls[0].difference.low > 0
        assert found.reads_order
        assert found.summary.startswith(
            "No gain from order is shown on this data: top-1 changes by +40.0 points [+"
        )

    def test_both(self):
        found = compare_orders(
            {"plain": PLAIN, "shuffled": WORSE, "reversed": WORSE, "one_frame": WORSE},
            LABELS,
            NAMES,
        )
        assert " with the frames shuffled and by -40.0 points [" in found.summary
        assert found.summary.endswith(" with the frames reversed.")

    def test_a_model_that_does_not_read_order(self):
        rounded = PLAIN + 1e-7 * RANDOM.normal(size=PLAIN.shape)
        found = compare_orders(
            {"plain": PLAIN, "shuffled": rounded, "reversed": rounded, "one_frame": WORSE},
            LABELS,
            NAMES,
        )
        assert not found.reads_order
        assert found.summary.startswith("This model gives the same scores in any order")

    def test_json(self):
        found = compare_orders({"plain": PLAIN, "shuffled": WORSE}, LABELS, NAMES)
        told = found.to_dict()
        assert json.loads(json.dumps(told)) == told
        assert told["controls"]["shuffled"]["difference"] == pytest.approx(-0.4)
        assert told["controls"]["shuffled"]["metrics"]["top1"] == pytest.approx(0.4)
        assert told["plain"]["top1"] == pytest.approx(0.8)

    @pytest.mark.parametrize(
        "logits",
        [
            {},
            {"shuffled": PLAIN},
            {"plain": PLAIN, "one_frame": PLAIN},
            {"plain": PLAIN, "shuffled": PLAIN, "random": PLAIN},
        ],
    )
    def test_orders_that_are_missing_or_unknown(self, logits):
        received = ", ".join(logits) or "none"
        with pytest.raises(ValueError, match=rf"`logits` must be those .* Received: {received}\."):
            compare_orders(logits, LABELS, NAMES)


class TestSeveralLabels:
    truth = (RANDOM.random((80, 3)) < 0.3).astype(int)
    good = truth + RANDOM.normal(size=(80, 3))
    noise = RANDOM.normal(size=(80, 3))

    def test_measure(self):
        found = compare_orders({"plain": self.good, "shuffled": self.noise}, self.truth, NAMES)
        assert (found.measure, found.measure_title) == ("mAP", "mAP")
        (shuffled,) = found.controls
        assert shuffled.difference == paired_map_difference(self.noise, self.good, self.truth)
        assert found.summary.startswith("Order matters on this data: mAP changes by -")

    def test_interval_equals_a_loop_over_resamples(self):
        """Clips in their order, each as often as it is drawn, all at once in the precisions."""
        size, num_resamples = len(self.truth), 30
        draws = np.random.default_rng(7).multinomial(size, np.full(size, 1 / size), num_resamples)

        def average_precision(scores, truth, weights):
            above = scores[:, None] <= scores[None, :]
            precisions = (above @ (weights * truth)) / np.maximum(above @ weights, 1)
            return np.average(precisions, weights=weights * truth)

        differences = [
            np.mean(
                [
                    average_precision(self.good[:, i], self.truth[:, i], weights)
                    - average_precision(self.noise[:, i], self.truth[:, i], weights)
                    for i in range(3)
                ]
            )
            for weights in draws
        ]
        found = paired_map_difference(
            *(self.good, self.noise, self.truth),
            **{"confidence": 0.8, "num_resamples": num_resamples, "seed": 7},
        )
        np.testing.assert_allclose(found[1:], np.quantile(differences, [0.1, 0.9]))
        maps = [mean_average_precision(x, self.truth) for x in (self.good, self.noise)]
        assert found.mean == pytest.approx(maps[0] - maps[1])

    def test_equal_models(self):
        assert paired_map_difference(self.good, self.good, self.truth) == (0, 0, 0)

    def test_a_class_missed_by_a_resample_is_left_out(self):
        truth = np.array([[1, 0], [1, 0], [1, 1]])
        first, second = truth + 0.0, np.array([[0.0, 1], [0, 1], [0, 0]])
        assert not np.isnan(paired_map_difference(first, second, truth)).any()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"confidence": 0}, r"`confidence` must be between 0 and 1\."),
            ({"num_resamples": 0}, r"`num_resamples` must be a positive integer\."),
        ],
    )
    def test_mistakes(self, options, message):
        with pytest.raises(ValueError, match=message):
            paired_map_difference(self.good, self.noise, self.truth, **options)
        with pytest.raises(ValueError, match=r"needs multi-hot `labels`"):
            paired_map_difference(self.good, self.noise, self.truth[:, 0])
