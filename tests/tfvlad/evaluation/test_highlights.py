import re

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from tfvlad.evaluation import (
    AttentionShare,
    FrameScores,
    Highlight,
    attention_share,
    highlight_intervals,
)

AS_THEY_ARE = {"smoothing_seconds": 0, "merge_seconds": 0, "min_seconds": 0}
some_scores = arrays(float, st.integers(1, 60), elements=st.floats(0, 100, allow_subnormal=False))


@st.composite
def chunks(draw):
    """Rows, weights and probabilities of chunks that overlap."""
    made = []
    for _ in range(draw(st.integers(1, 8))):
        length = draw(st.integers(1, 6))
        rows = draw(arrays(int, length, elements=st.integers(0, 30)))
        weights = draw(arrays(float, length, elements=st.floats(0, 10)))
        made.append((rows, weights, draw(st.floats(0, 1))))
    return made


class TestFrameScores:
    @given(chunks())
    def test_mean_over_the_chunks_that_saw_a_row(self, made):
        scores = FrameScores()
        seen: dict[int, list[float]] = {}
        for rows, weights, probability in made:
            scores.add(rows, weights, probability)
            for row, weight in zip(rows.tolist(), weights, strict=True):
                total = weights.sum()
                relative = weight * len(rows) / total if weights.mean() > 0 else 1
                seen.setdefault(row, []).append(relative * probability)
        mean = scores.mean()
        assert mean.shape == (max(seen) + 1,)
        for row, values in seen.items():
            assert mean[row] == pytest.approx(np.mean(values), rel=1e-6, abs=1e-9)

    def test_rows_between_chunks_lie_on_a_line(self):
        scores = FrameScores()
        scores.add([2], [1], probability=0.2)
        scores.add([6], [1], probability=0.6)
        np.testing.assert_allclose(scores.mean(), [0.2, 0.2, 0.2, 0.3, 0.4, 0.5, 0.6])

    def test_steps_are_averaged_and_negative_parts_left_out(self):
        scores = FrameScores()
        scores.add([0, 1], [[0.9, 0.1], [0.5, 0.5]])
        np.testing.assert_allclose(scores.mean(), [1.4, 0.6])
        scores = FrameScores()
        scores.add([0, 1, 2, 3], [3.0, -5.0, 1.0, 0.0])
        np.testing.assert_allclose(scores.mean(), [3, 0, 1, 0])

    def test_nothing_positive_is_uniform(self):
        scores = FrameScores()
        scores.add([0, 1], [-1.0, 0.0], probability=0.5)
        np.testing.assert_allclose(scores.mean(), [0.5, 0.5])

    def test_memory_is_a_sum_and_a_count_a_row(self):
        scores = FrameScores()
        for start in range(2000):
            scores.add(np.arange(start, start + 12), np.ones(12))
        assert scores._totals.size < 6 * 2012
        np.testing.assert_allclose(scores.mean(), np.ones(2011))

    @pytest.mark.parametrize(
        ("rows", "weights", "error", "message"),
        [
            ([0.5], [1], TypeError, "`rows` must be integers. Received: dtype=float64."),
            ([-1], [1], ValueError, "`rows` must be at least one row, from 0 on. Received: [-1]."),
            (
                np.zeros(0, int),
                [],
                ValueError,
                "`rows` must be at least one row, from 0 on. Received: [].",
            ),
            ([0], [np.nan], ValueError, "`weights` must be finite. Received: NaN or infinity."),
            (
                [0, 1],
                [1],
                ValueError,
                "`rows` must have the shape (T,) and `weights` (T,) or (N, T). "
                "Received: rows.shape=(2,), weights.shape=(1,).",
            ),
        ],
    )
    def test_errors(self, rows, weights, error, message):
        with pytest.raises(error, match=re.escape(message)):
            FrameScores().add(rows, weights)

    def test_no_chunk(self):
        message = "`FrameScores` has no chunk yet. Call `add` first."
        with pytest.raises(ValueError, match=re.escape(message)):
            FrameScores().mean()


class TestHighlightIntervals:
    def test_by_hand(self):
        scores = [0, 0, 4, 6, 0, 0, 0, 0, 0, 0]
        found = highlight_intervals(np.arange(10) / 2, scores, **AS_THEY_ARE)
        assert found == [Highlight(1.0, 2.0, 5.0)]

    @pytest.mark.parametrize(
        ("options", "spans"),
        [
            ({}, [(1, 2), (4, 5), (9, 10)]),
            ({"merge_seconds": 2}, [(1, 5), (9, 10)]),
            ({"merge_seconds": 2, "min_seconds": 2}, [(1, 5)]),
            ({"merge_seconds": 4}, [(1, 10)]),
            ({"min_seconds": 1.5}, []),
            ({"threshold": 3}, [(1, 2), (9, 10)]),
            ({"threshold": 0}, [(1, 2), (4, 5), (9, 10)]),
            ({"duration_seconds": 12}, [(1, 2), (9, 12)]),
        ],
    )
    def test_options(self, options, spans):
        scores = [0, 4, 0, 0, 2, 0, 0, 0, 0, 4]
        found = highlight_intervals(np.arange(10), scores, **{**AS_THEY_ARE, **options})
        assert [(h.start_seconds, h.end_seconds) for h in found] == spans

    def test_smoothing_takes_the_mean_around(self):
        scores = [0, 0, 0, 9, 0, 0, 0, 0, 0]
        options = {**AS_THEY_ARE, "smoothing_seconds": 2, "threshold": 3}
        assert highlight_intervals(np.arange(9), scores, **options) == [Highlight(2.0, 5.0, 3.0)]
        assert highlight_intervals(np.arange(9), scores, **{**options, "threshold": 3.1}) == []

    def test_rows_count_by_their_length(self):
        # 9 s at score 1 and 1 s at score 11: the mean is 2.
        found = highlight_intervals([0, 9], [1, 11], duration_seconds=10, **AS_THEY_ARE)
        assert found == [Highlight(9.0, 10.0, 5.5)]

    @given(st.floats(0, 100, allow_subnormal=False), st.integers(1, 30), st.floats(0, 3))
    def test_constant_scores_have_no_highlight(self, score, num_rows, smoothing_seconds):
        found = highlight_intervals(
            np.arange(num_rows) / 3,
            np.full(num_rows, score),
            threshold=1,
            smoothing_seconds=smoothing_seconds,
        )
        assert found == []

    @given(some_scores, st.floats(1.01, 3), st.floats(0, 3), st.floats(0, 3), st.floats(0, 3))
    def test_properties(self, scores, threshold, smoothing, merge, least):
        seconds = np.arange(len(scores)) * 0.5
        found = highlight_intervals(
            seconds,
            scores,
            threshold=threshold,
            smoothing_seconds=smoothing,
            merge_seconds=merge,
            min_seconds=least,
        )
        times = [time for h in found for time in (h.start_seconds, h.end_seconds)]
        assert times == sorted(times)
        assert all(0 <= time <= len(scores) * 0.5 for time in times)
        assert all(h.end_seconds - h.start_seconds >= least for h in found)
        gaps = zip(found[1:], found, strict=False)
        assert all(b.start_seconds - a.end_seconds > merge for b, a in gaps)

    @given(some_scores)
    def test_exactly_the_rows_above_the_threshold(self, scores):
        seconds = np.arange(len(scores)) * 0.5
        found = highlight_intervals(seconds, scores, **AS_THEY_ARE)
        inside = [any(h.start_seconds <= s < h.end_seconds for h in found) for s in seconds]
        mean = scores.mean()
        clear = np.abs(scores - 1.5 * mean) > 1e-6 * mean
        expected = (scores >= 1.5 * mean) & (mean > 0)
        np.testing.assert_array_equal(np.array(inside)[clear], expected[clear])
        assert all(h.score >= 1.5 - 1e-6 for h in found)

    @given(some_scores, st.floats(0.01, 100))
    def test_scale_does_not_matter(self, scores, scale):
        seconds = np.arange(len(scores)) * 0.5
        found = highlight_intervals(seconds, scores, smoothing_seconds=0, threshold=1.7321)
        scaled = highlight_intervals(seconds, scores * scale, smoothing_seconds=0, threshold=1.7321)
        np.testing.assert_allclose(np.array(found), np.array(scaled), rtol=1e-6)

    @pytest.mark.parametrize(
        ("seconds", "scores", "options", "message"),
        [
            ([], [], {}, "at least one row. Received: seconds.shape=(0,), scores.shape=(0,)."),
            ([0, 1], [1], {}, "Received: seconds.shape=(2,), scores.shape=(1,)."),
            ([0, 0], [1, 1], {}, "`seconds` must be finite and ascend from row to row."),
            ([0, 1], [1, -1], {}, "`scores` must be finite and not negative."),
            ([0, 1], [1, np.nan], {}, "`scores` must be finite and not negative."),
            (
                [0, 1],
                [1, 1],
                {"threshold": -1},
                "`threshold` must not be negative. Received: threshold=-1.",
            ),
            (
                [0, 1],
                [1, 1],
                {"duration_seconds": 1},
                "`duration_seconds` must lie behind the start of the last row, 1 s. "
                "Received: duration_seconds=1.",
            ),
        ],
    )
    def test_errors(self, seconds, scores, options, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            highlight_intervals(seconds, scores, **options)


class TestAttentionShare:
    def test_by_hand(self):
        share = attention_share([1, 3, 3, 1], [False, True, True, False])
        assert share == AttentionShare(inside=0.75, uniform=0.5, ratio=1.5)

    @given(st.integers(1, 40), st.integers(0, 2**32 - 1))
    def test_uniform_weights_have_ratio_one(self, num_frames, seed):
        inside = np.random.default_rng(seed).random(num_frames) < 0.5
        inside[0] = True
        assert attention_share(np.full(num_frames, 0.3), inside).ratio == pytest.approx(1)

    @given(arrays(float, 12, elements=st.floats(0.01, 1)), arrays(bool, 12))
    def test_shares_inside_and_outside_add_up(self, weights, inside):
        inside[0], inside[1] = True, False
        share, rest = attention_share(weights, inside), attention_share(weights, ~inside)
        assert share.inside + rest.inside == pytest.approx(1)
        assert share.uniform + rest.uniform == pytest.approx(1)

    @pytest.mark.parametrize(
        ("weights", "inside", "message"),
        [
            ([1, 1], [True], "Received: weights.shape=(2,), inside.shape=(1,)."),
            ([1, 1], [False, False], "`inside` must be true for at least one frame."),
            ([1, -1], [True, False], "`weights` must be finite, not negative and not all zero."),
            ([0, 0], [True, False], "`weights` must be finite, not negative and not all zero."),
        ],
    )
    def test_errors(self, weights, inside, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            attention_share(weights, inside)
