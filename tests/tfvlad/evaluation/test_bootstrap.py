import numpy as np
import pytest

from tfvlad.evaluation import bootstrap_mean, mean_class_accuracy, paired_difference, top_k_correct


class TestBootstrapMean:
    def test_interval_of_a_proportion(self):
        hits = np.arange(400) < 280
        estimate = bootstrap_mean(hits, num_resamples=4000)
        half_width = 1.96 * np.sqrt(0.7 * 0.3 / 400)
        assert estimate.mean == pytest.approx(0.7)
        np.testing.assert_allclose(estimate.low, 0.7 - half_width, atol=0.005)
        np.testing.assert_allclose(estimate.high, 0.7 + half_width, atol=0.005)

    def test_equals_a_loop_over_resamples(self):
        values, num_resamples = np.random.default_rng(1).normal(size=30), 50
        draws = np.random.default_rng(7).multinomial(30, np.full(30, 1 / 30), num_resamples)
        means = [np.repeat(values, counts).mean() for counts in draws]
        estimate = bootstrap_mean(values, confidence=0.8, num_resamples=num_resamples, seed=7)
        np.testing.assert_allclose(estimate[1:], np.quantile(means, [0.1, 0.9]))

    def test_seed(self):
        values = np.random.default_rng(0).normal(size=50)
        assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)
        assert bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)

    def test_groups_give_the_mean_class_accuracy(self):
        rng = np.random.default_rng(0)
        scores, labels = rng.normal(size=(80, 4)), rng.choice(4, 80, p=[0.7, 0.1, 0.1, 0.1])
        hits = top_k_correct(scores, labels)
        estimate = bootstrap_mean(hits, groups=labels)
        assert estimate.mean == pytest.approx(mean_class_accuracy(scores, labels))
        assert estimate.low < estimate.mean < estimate.high
        assert estimate.high - estimate.low > np.ptp(bootstrap_mean(hits)[1:])

    def test_a_group_missed_by_a_resample_is_left_out(self):
        estimate = bootstrap_mean([1.0, 1.0, 1.0], groups=["a", "b", "b"])
        assert estimate == (1, 1, 1)

    def test_clips_stay_together(self):
        values = np.random.default_rng(0).normal(size=60)
        names = [f"clip {clip}" for clip in range(60)]
        once = bootstrap_mean(values)
        repeated = bootstrap_mean(np.tile(values, 4), clips=names * 4)
        independent = bootstrap_mean(np.tile(values, 4))
        assert np.ptp(repeated[1:]) == pytest.approx(np.ptp(once[1:]), rel=0.1)
        assert np.ptp(independent[1:]) == pytest.approx(np.ptp(once[1:]) / 2, rel=0.1)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"values": []}, r"at least one value. Received: values.shape=\(0,\)"),
            ({"values": [[1]]}, r"must be a vector.*\(1, 1\)"),
            ({"values": [1], "confidence": 95}, "between 0 and 1. Received: confidence=95"),
            ({"values": [1], "num_resamples": 0}, "positive integer. Received: num_resamples=0"),
            ({"values": [1], "groups": [0, 1]}, r"`groups` must have one entry a value.*\(2,\)"),
            ({"values": [1, 2], "clips": ["a"]}, r"`clips` must have one entry a value.*\(1,\)"),
        ],
    )
    def test_bad_input_raises(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            bootstrap_mean(**arguments)


class TestPairedDifference:
    def test_pairing_narrows_the_interval(self):
        first = np.arange(200) < 120
        second = first.copy()
        second[:10] = False
        estimate = paired_difference(first, second)
        assert estimate.mean == pytest.approx(0.05)
        assert 0 < estimate.low < estimate.high < 0.1

    def test_equal_models(self):
        assert paired_difference([True, False], [True, False]) == (0, 0, 0)

    def test_seeds_are_averaged_and_do_not_count_as_clips(self):
        rng = np.random.default_rng(0)
        first, second = rng.random((2, 1, 100)) < 0.5
        once = paired_difference(first[0], second[0])
        repeated = paired_difference(np.tile(first, (9, 1)), np.tile(second, (9, 1)))
        np.testing.assert_allclose(repeated, once)

    def test_splits_weigh_the_same_and_share_their_clips(self):
        first = np.array([1, 1, 0, 0, 1, 1], bool)
        second = np.array([0, 0, 0, 0, 1, 0], bool)
        splits = [1, 1, 1, 1, 2, 2]
        clips = ["a", "b", "c", "d", "a", "e"]
        estimate = paired_difference(first, second, splits=splits, clips=clips)
        assert estimate.mean == pytest.approx((2 / 4 + 1 / 2) / 2)
        assert estimate != paired_difference(first, second, splits=splits)

    @pytest.mark.parametrize("shapes", [((3,), (4,)), ((1, 1, 1), (1, 1, 1))])
    def test_bad_shapes_raise(self, shapes):
        first, second = (np.zeros(shape) for shape in shapes)
        with pytest.raises(ValueError, match=r"must have the same shape.*first\.shape="):
            paired_difference(first, second)
