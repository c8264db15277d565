import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, top_k_accuracy_score

from tests.helpers import normal
from tfvlad.evaluation import (
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

SCORES = np.array([[0.9, 0.05, 0.05], [0.2, 0.5, 0.3], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7]])
LABELS = np.array([0, 2, 1, 2])


def charades_average_precision(scores, positives):
    """The loop of the official Matlab measure."""
    order = sorted(range(len(scores)), key=lambda clip: -scores[clip])
    total, num_found = 0.0, 0
    for rank, clip in enumerate(order, start=1):
        if positives[clip]:
            num_found += 1
            total += num_found / rank
    return total / num_found if num_found else np.nan


@st.composite
def multi_label_data(draw):
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 4)))
    scores = draw(hnp.arrays(np.float64, shape, elements=st.sampled_from([-np.inf, 0, 1, 2, 2.5])))
    labels = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 1)))
    labels[0, 0] = 1
    return scores, labels


class TestAccuracy:
    def test_known_values(self):
        np.testing.assert_array_equal(top_k_correct(SCORES, LABELS), [True, False, False, True])
        assert top_k_accuracy(SCORES, LABELS) == 0.5
        assert top_k_accuracy(SCORES, LABELS, k=2) == 1.0
        np.testing.assert_array_equal(per_class_accuracy(SCORES, LABELS), [1, 0, 0.5])
        assert mean_class_accuracy(SCORES, LABELS) == 0.5
        np.testing.assert_array_equal(
            confusion_matrix(SCORES, LABELS), [[1, 0, 0], [1, 0, 0], [0, 1, 1]]
        )

    @pytest.mark.parametrize("k", [1, 3, 5])
    def test_equals_scikit_learn(self, k):
        rng = np.random.default_rng(0)
        scores, labels = rng.normal(size=(200, 10)), rng.integers(10, size=200)
        expected = top_k_accuracy_score(labels, scores, k=k)
        assert top_k_accuracy(scores, labels, k) == pytest.approx(expected, abs=0)

    def test_ties_prefer_the_first_class(self):
        np.testing.assert_array_equal(
            top_k_correct(np.zeros((3, 3)), [0, 1, 2], k=2), [True, True, False]
        )

    def test_class_without_clips_is_nan_and_left_out_of_the_mean(self):
        accuracies = per_class_accuracy([[2.0, 1, 0], [0, 1, 2]], [0, 1])
        np.testing.assert_array_equal(accuracies, [1, 0, np.nan])
        assert mean_class_accuracy([[2.0, 1, 0], [0, 1, 2]], [0, 1]) == 0.5

    def test_multi_hot_truth_raises(self):
        with pytest.raises(ValueError, match=r"one class index a clip.*mean_average_precision"):
            top_k_accuracy(SCORES, np.eye(3)[LABELS])

    @pytest.mark.parametrize(
        ("scores", "labels", "message"),
        [
            (SCORES, [0, 1], r"one entry for each of the 4 rows.*\(2,\)"),
            (SCORES, [0, 1, 2, 3], "between 0 and 2. Received: 3 in row 3"),
            (SCORES, [0, -1, 2, 2], "between 0 and 2. Received: -1 in row 1"),
            (np.where(SCORES == 0.5, np.nan, SCORES), LABELS, "NaN in row 1"),
            (SCORES[0], LABELS, r"shape \(num_clips, num_classes\).*\(3,\)"),
            (SCORES[:0], LABELS[:0], "at least one clip"),
        ],
    )
    def test_bad_input_raises(self, scores, labels, message):
        with pytest.raises(ValueError, match=message):
            confusion_matrix(scores, labels)

    def test_float_labels_raise(self):
        with pytest.raises(TypeError, match=r"must be integers\. Received: labels.dtype=float64"):
            top_k_accuracy(SCORES, LABELS.astype(float))

    @pytest.mark.parametrize("k", [0, 4])
    def test_k_out_of_range_raises(self, k):
        with pytest.raises(ValueError, match=f"between 1 and the 3 classes. Received: k={k}"):
            top_k_accuracy(SCORES, LABELS, k=k)


class TestAveragePrecision:
    def test_known_values(self):
        scores = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]]
        labels = [[1, 1], [0, 0], [1, 0], [0, 0]]
        np.testing.assert_allclose(
            average_precision_per_class(scores, labels), [(1 + 2 / 3) / 2, 1 / 4]
        )
        assert mean_average_precision(scores, labels) == pytest.approx((5 / 6 + 1 / 4) / 2)
        assert weighted_average_precision(scores, labels) == pytest.approx(
            (2 * 5 / 6 + 1 * 1 / 4) / 3
        )

    @given(multi_label_data())
    def test_equals_the_official_loop_with_ties_and_missing_scores(self, data):
        scores, labels = data
        expected = [
            charades_average_precision(scores[:, k], labels[:, k]) for k in range(scores.shape[1])
        ]
        np.testing.assert_allclose(average_precision_per_class(scores, labels), expected)
        assert mean_average_precision(scores, labels) == pytest.approx(np.nanmean(expected))
        weights = labels.sum(axis=0)
        assert weighted_average_precision(scores, labels) == pytest.approx(
            np.nansum(np.array(expected) * weights) / weights.sum()
        )

    def test_equals_scikit_learn_without_ties(self):
        rng = np.random.default_rng(0)
        scores, labels = rng.normal(size=(60, 4)), rng.integers(2, size=(60, 4))
        expected = average_precision_score(labels, scores, average=None)
        np.testing.assert_allclose(average_precision_per_class(scores, labels), expected)

    def test_unlabeled_last(self):
        scores, labels = [[3.0], [2.0], [1.0]], [[0], [1], [1]]
        assert mean_average_precision(scores, labels) == pytest.approx((1 / 2 + 2 / 3) / 2)
        assert mean_average_precision(scores, labels, unlabeled_last=True) == 1
        assert weighted_average_precision(scores, labels, unlabeled_last=True) == 1

    def test_class_without_positives_is_left_out_of_the_means(self):
        scores, labels = np.ones((2, 2)), np.array([[1, 0], [0, 0]])
        np.testing.assert_array_equal(average_precision_per_class(scores, labels), [1, np.nan])
        assert mean_average_precision(scores, labels) == 1
        assert weighted_average_precision(scores, labels) == 1

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (LABELS, r"needs multi-hot `labels`.*top_k_accuracy"),
            (np.eye(4), r"shape of `scores`.*labels.shape=\(4, 4\), scores.shape=\(4, 3\)"),
            (np.full((4, 3), 0.5), "must be 0 or 1"),
            (np.zeros((4, 3)), "has no positive"),
        ],
    )
    def test_bad_truth_raises(self, labels, message):
        with pytest.raises(ValueError, match=message):
            mean_average_precision(SCORES, labels)


class TestProbabilities:
    def test_softmax_and_sigmoid(self):
        logits = np.array([[0.0, np.log(3)], [1000, -1000]])
        np.testing.assert_allclose(class_probabilities(logits), [[0.25, 0.75], [1, 0]])
        np.testing.assert_allclose(
            class_probabilities(logits, multi_label=True), [[0.5, 0.75], [1, 0]]
        )

    def test_crops_are_averaged_before_the_softmax(self):
        crops = np.array([[[0.0, 4.0], [3.0, 0.0], [0.0, 0.0]]])
        np.testing.assert_allclose(average_crops(crops), [[1, 4 / 3]])
        assert class_probabilities(average_crops(crops)).argmax() == 1
        # The mean of the crops' probabilities would say the same of other scores only.
        assert not np.allclose(
            class_probabilities(average_crops(crops)), class_probabilities(crops).mean(axis=1)
        )

    def test_single_crop_passes_and_other_ranks_raise(self):
        np.testing.assert_array_equal(average_crops(SCORES), SCORES)
        with pytest.raises(ValueError, match=r"num_crops, num_classes\). Received.*\(3,\)"):
            average_crops(SCORES[0])


class TestAverageProbabilities:
    @pytest.mark.parametrize("multi_label", [False, True])
    def test_gives_the_mean_probability_back(self, multi_label):
        models = [normal(4, 3, seed=n) for n in range(3)]
        scores = average_probabilities(models, multi_label=multi_label)
        np.testing.assert_allclose(
            class_probabilities(scores, multi_label=multi_label),
            np.mean([class_probabilities(m, multi_label=multi_label) for m in models], axis=0),
        )

    def test_one_model_keeps_its_ranking(self):
        scores = normal(5, 4)
        averaged = average_probabilities([scores])
        np.testing.assert_array_equal(np.argsort(averaged, axis=1), np.argsort(scores, axis=1))

    def test_different_shapes_raise(self):
        with pytest.raises(ValueError, match=r"have one shape.*\[\(2, 3\), \(2, 4\)\]"):
            average_probabilities([normal(2, 3), normal(2, 4)])
