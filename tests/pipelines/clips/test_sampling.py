import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.clips.sampling import (
    chunk_indices,
    dense_windows,
    epoch_order,
    nearest_windows,
    num_windows,
    segment_indices,
    spread_clips,
    uniform_indices,
)

counts = st.integers(1, 400)


@given(counts, st.integers(1, 60))
def test_uniform_indices_are_the_centres_of_equal_pieces(num_frames, num_samples):
    indices = uniform_indices(num_frames, num_samples)
    expected = [int((i + 0.5) * num_frames / num_samples + 1e-9) for i in range(num_samples)]
    assert indices.tolist() == expected
    repeats = np.bincount(indices, minlength=num_frames)
    if num_frames <= num_samples:
        assert repeats.max() - repeats.min() <= 1
    else:
        assert repeats.max() == 1


@given(counts, st.integers(1, 60), st.integers(0, 9))
def test_segment_indices_stay_in_their_segments(num_frames, num_samples, seed):
    indices = segment_indices(num_frames, num_samples, np.random.default_rng(seed))
    for i, index in enumerate(indices):
        first = i * num_frames // num_samples
        assert first <= index < max((i + 1) * num_frames // num_samples, first + 1)
    again = segment_indices(num_frames, num_samples, np.random.default_rng(seed))
    np.testing.assert_array_equal(indices, again)
    centres = segment_indices(num_frames, num_samples)
    np.testing.assert_array_equal(centres, uniform_indices(num_frames, num_samples))


def test_segment_indices_reach_every_frame():
    rng = np.random.default_rng(0)
    seen = {i for _ in range(200) for i in segment_indices(10, 3, rng).tolist()}
    assert seen == set(range(10))


@pytest.mark.parametrize(
    ("num_frames", "stride", "end_policy", "expected"),
    [
        (7, 3, "drop", [[0, 1, 2], [3, 4, 5]]),
        (7, 3, "shift", [[0, 1, 2], [3, 4, 5], [4, 5, 6]]),
        (7, 3, "repeat_last", [[0, 1, 2], [3, 4, 5], [6, 6, 6]]),
        (7, 2, "shift", [[0, 1, 2], [2, 3, 4], [4, 5, 6]]),
        (6, None, "repeat_last", [[0, 1, 2], [3, 4, 5]]),
        (2, 1, "shift", [[0, 1, 1]]),
        (2, 1, "repeat_last", [[0, 1, 1]]),
    ],
)
def test_dense_windows(num_frames, stride, end_policy, expected):
    assert dense_windows(num_frames, 3, stride, end_policy).tolist() == expected


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 6))
def test_clips_in_turns_share_the_samples_of_one(num_frames, num_samples, num_clips):
    clips = spread_clips(num_frames, num_samples, num_clips)
    assert clips.shape == (num_clips, num_samples)
    expected = uniform_indices(num_frames, num_samples * num_clips)
    np.testing.assert_array_equal(clips.T.reshape(-1), expected)


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 6))
def test_chunks_are_spread_evenly(num_frames, chunk_frames, num_clips):
    chunks = spread_clips(num_frames, chunk_frames, num_clips, consecutive=True)
    assert ((np.diff(chunks) == 1) | (chunks[:, 1:] == 0)).all()
    starts = chunks[:, 0]
    assert starts.min() >= 0
    assert starts.max() <= max(num_frames - chunk_frames, 0)
    if num_clips > 1:
        assert np.ptp(np.diff(starts)) <= 1
    # As far from the start as from the end.
    assert abs(starts[0] + starts[-1] - max(num_frames - chunk_frames, 0)) <= 1


@given(st.integers(1, 60), st.integers(1, 9))
def test_one_clip_is_the_middle_one(num_frames, num_samples):
    uniform, chunk = (spread_clips(num_frames, num_samples, 1, c) for c in (False, True))
    np.testing.assert_array_equal(uniform, uniform_indices(num_frames, num_samples)[None])
    np.testing.assert_array_equal(chunk, chunk_indices(num_frames, num_samples)[None])


def test_dense_windows_of_a_short_video_may_be_none():
    assert dense_windows(2, 3, 1, "drop").shape == (0, 3)


@given(counts, st.integers(1, 40), st.integers(1, 40))
def test_dense_windows_cover_the_end(num_frames, window_size, stride):
    windows = {p: dense_windows(num_frames, window_size, stride, p) for p in ("shift", "drop")}
    assert windows["shift"][-1, -1] == num_frames - 1
    for rows in windows.values():
        assert ((rows >= 0) & (rows < num_frames)).all()
        assert (np.diff(rows[:, 0]) <= stride).all()
    padded = dense_windows(num_frames, window_size, stride, "repeat_last")
    assert (padded[:, 0] % stride == 0).all()
    if stride <= window_size:
        assert set(padded.ravel().tolist()) == set(range(num_frames))


@given(counts, st.integers(1, 300), st.integers(0, 9))
def test_chunk_indices_are_consecutive(num_frames, chunk_frames, seed):
    centre = chunk_indices(num_frames, chunk_frames)
    drawn = chunk_indices(num_frames, chunk_frames, np.random.default_rng(seed))
    for indices in (centre, drawn):
        assert indices.shape == (chunk_frames,)
        assert ((indices >= 0) & (indices < num_frames)).all()
        assert set(np.diff(indices).tolist()) <= {1, 1 - num_frames}
    if num_frames >= chunk_frames:
        assert 0 <= (num_frames - 1 - centre[-1]) - centre[0] <= 1
        assert (np.diff(drawn) == 1).all()
    else:
        assert centre[0] == drawn[0] == 0
        np.testing.assert_array_equal(drawn, np.arange(chunk_frames) % num_frames)


def test_chunk_indices_reach_every_start():
    rng = np.random.default_rng(0)
    assert {int(chunk_indices(9, 6, rng)[0]) for _ in range(100)} == {0, 1, 2, 3}


@given(counts, st.integers(1, 40), st.integers(1, 40))
def test_num_windows_counts_the_windows(num_frames, window_size, stride):
    windows = dense_windows(num_frames, window_size, stride, "repeat_last")
    assert num_windows(num_frames, window_size, stride) == len(windows)


@given(st.integers(0, 500), st.integers(1, 60), st.integers(1, 30), st.integers(1, 30))
def test_nearest_windows_are_nearest(frame, num_windows, stride, window_size):
    found = nearest_windows(np.array([frame]), num_windows, stride, window_size)[0]
    distances = [abs(r * stride + window_size // 2 - frame) for r in range(num_windows)]
    assert found == int(np.argmin(distances))  # the earlier of two


@pytest.mark.parametrize(
    ("num_steps", "stride", "window_size"), [(12, 16, 16), (12, 16, 1), (24, 8, 1), (192, 1, 1)]
)
def test_steps_of_a_chunk_get_their_own_windows(num_steps, stride, window_size):
    steps = uniform_indices(192, num_steps)
    rows = nearest_windows(steps, num_steps, stride, window_size)
    np.testing.assert_array_equal(rows, np.arange(num_steps))


@pytest.mark.parametrize("value", [0, -1, 2.5, True])
def test_counts_are_checked(value):
    with pytest.raises(ValueError, match=f"`num_samples` must be a positive integer. .*={value}"):
        uniform_indices(5, value)
    with pytest.raises(ValueError, match=f"`num_frames` must be a positive integer. .*={value}"):
        segment_indices(value, 5, np.random.default_rng(0))
    with pytest.raises(ValueError, match=f"`chunk_frames` must be a positive .*={value}"):
        chunk_indices(5, value)
    with pytest.raises(ValueError, match=f"`stride` must be a positive integer. .*={value}"):
        nearest_windows(np.arange(3), 5, value)
    with pytest.raises(ValueError, match="`end_policy` must be one of drop, shift, repeat_last"):
        dense_windows(5, 2, end_policy="wrap")


def test_epoch_order():
    assert epoch_order(5, None).tolist() == [0, 1, 2, 3, 4]
    first, again, later = (epoch_order(20, (3, epoch)).tolist() for epoch in (0, 0, 1))
    assert first == again != later
    assert sorted(first) == sorted(later) == list(range(20))
