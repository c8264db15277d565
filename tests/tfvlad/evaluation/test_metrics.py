import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, top_k_accuracy_score

from tfvlad.evaluation import (
    ScoreFile,
    align_scores,
    average_crops,
    average_precision_per_class,
    class_probabilities,
    confusion_matrix,
    evaluate_scores,
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


def official_charades(submission, truth, num_classes):
    """Charades_v1_classify.m line by line: its mAP and wAP of {id: scores} and {id: classes}."""
    gtids, gtclasses = [], []
    for video, classes in truth.items():
        # load_charades goes on to the next row before it notes the id of a video without actions.
        gtids.append(video if classes else None)
        gtclasses.append(classes)
    gtlabel = [[0] * num_classes for _ in gtids]
    test = [[-np.inf] * num_classes for _ in gtids]
    for i, video in enumerate(gtids):
        for label in gtclasses[i]:
            gtlabel[i][label] = 1
        if video in submission:
            test[i] = submission[video]
    precisions = []
    for k in range(num_classes):
        confidences = [row[k] for row in test]
        order = sorted(range(len(test)), key=lambda i: -confidences[i])  # stable, as sort(-conf)
        true_positives, false_positives, total = 0, 0, 0.0
        for i in order:
            true_positives += gtlabel[i][k] == 1
            false_positives += gtlabel[i][k] != 1
            if gtlabel[i][k] == 1:
                total += true_positives / (true_positives + false_positives)
        precisions.append(total / sum(row[k] for row in gtlabel))
    sizes = [sum(row[k] for row in gtlabel) for k in range(num_classes)]
    weighted = sum(p * n for p, n in zip(precisions, sizes, strict=True)) / sum(sizes)
    return sum(precisions) / num_classes, weighted


def map_of_the_authors_python_code(scores, labels):
    """`charades_map` of gsig/charades-algorithms: rows without truth are minus infinity."""
    scores = np.array(scores)
    scores[labels.sum(axis=1) == 0] = -np.inf
    precisions = []
    for confidences, truth in zip(scores.T, labels.T, strict=True):
        hits = truth[np.argsort(-confidences, kind="stable")] == 1
        precision = np.cumsum(hits) / (np.cumsum(~hits) + np.cumsum(hits))
        precisions.append(precision[hits].sum() / hits.sum())
    return np.mean(precisions), (precisions * labels.sum(axis=0)).sum() / labels.sum()


@st.composite
def charades_submissions(draw):
    """Scores of some of the listed videos, with ties; the classes of all, none of some."""
    num_classes = draw(st.integers(1, 4))
    num_videos = draw(st.integers(1, 12))
    classes = st.sets(st.integers(0, num_classes - 1))
    truth = {f"V{i:02d}": draw(classes) for i in range(num_videos)}
    truth[draw(st.sampled_from(["A", "V05x", "Z"]))] = set(range(num_classes))
    truth = dict(draw(st.permutations(list(truth.items()))))
    rows = st.lists(
        st.sampled_from([-1.5, 0.0, 0.25, 2.0]) | st.floats(-9, 9),
        min_size=num_classes,
        max_size=num_classes,
    )
    videos = draw(st.lists(st.sampled_from([*truth, "other"]), min_size=1, unique=True))
    return {video: draw(rows) for video in videos}, truth, num_classes


class TestCharades:
    @given(charades_submissions())
    def test_equals_the_official_measure(self, data):
        submission, truth, num_classes = data
        labels = np.zeros((len(truth), num_classes), dtype=int)
        for row, classes in zip(labels, truth.values(), strict=True):
            row[list(classes)] = 1
        file = ScoreFile(np.array(list(submission.values())), tuple(submission))
        scores = align_scores(file, tuple(truth), missing_score=-np.inf).scores
        names = [str(k) for k in range(num_classes)]
        metrics = evaluate_scores(scores, labels, names, unlabeled_last=True).metrics
        figures = metrics["mAP"], metrics["wAP"]
        assert figures == pytest.approx(official_charades(submission, truth, num_classes))
        assert figures == pytest.approx(map_of_the_authors_python_code(scores, labels))

    def test_random_scores_of_the_published_size(self):
        rng = np.random.default_rng(0)
        labels = (rng.random((1863, 157)) < 6.8 / 157).astype(int)
        labels[rng.choice(1863, 49, replace=False)] = 0
        scores = rng.normal(size=labels.shape).round(2)  # with ties
        truth = {str(i): set(np.flatnonzero(row)) for i, row in enumerate(labels)}
        submission = {str(i): list(row) for i, row in enumerate(scores) if i % 40}
        scores[::40] = -np.inf
        expected = official_charades(submission, truth, 157)
        found = [
            measure(scores, labels, unlabeled_last=True)
            for measure in (mean_average_precision, weighted_average_precision)
        ]
        assert found == pytest.approx(expected, rel=1e-12)
        # The quirks matter: without them the figures are others.
        assert mean_average_precision(scores, labels) != pytest.approx(expected[0], rel=1e-4)
