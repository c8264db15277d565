"""Which frames of a video make a clip: integer arithmetic, apart from any decoding."""

from __future__ import annotations

import numpy as np

END_POLICIES = ("drop", "shift", "repeat_last")


def uniform_indices(num_frames: int, num_samples: int = 25) -> np.ndarray:
    """Spreads samples over a video: the centre frames of equal pieces.

    Sample i of n is frame `(2 i + 1) num_frames // (2 n)`. A video with fewer frames than samples
    repeats each of its frames about equally often.

    Args:
        num_frames: frames of the video.
        num_samples: frames of the clip.

    Returns:
        int64 `(num_samples,)`, ascending.
    """
    _check_positive(num_frames=num_frames, num_samples=num_samples)
    return (2 * np.arange(num_samples, dtype=np.int64) + 1) * num_frames // (2 * num_samples)


def segment_indices(
    num_frames: int, num_samples: int = 25, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Draws one frame from each of equal segments (temporal segment networks, section 3.1).

    Segment i of n spans the frames from `i num_frames // n` up to, exclusively,
    `(i + 1) num_frames // n`, and at least one, so that a short video repeats its frames.

    Args:
        num_frames: frames of the video.
        num_samples: segments, and frames of the clip.
        rng: draws within each segment (training); None takes each segment's centre (test).

    Returns:
        int64 `(num_samples,)`, ascending.

    Reference:
        Wang et al., Temporal Segment Networks, ECCV 2016.
    """
    if rng is None:
        return uniform_indices(num_frames, num_samples)
    _check_positive(num_frames=num_frames, num_samples=num_samples)
    edges = np.arange(num_samples + 1, dtype=np.int64) * num_frames // num_samples
    return rng.integers(edges[:-1], np.maximum(edges[1:], edges[:-1] + 1))


def chunk_indices(
    num_frames: int, chunk_frames: int, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Cuts a chunk of consecutive frames out of a video.

    Args:
        num_frames: frames of the video.
        chunk_frames: frames of the chunk. A shorter video starts again from its first frame until
            the chunk is full.
        rng: draws the start (training); None takes the centre (test).

    Returns:
        int64 `(chunk_frames,)`.
    """
    _check_positive(num_frames=num_frames, chunk_frames=chunk_frames)
    num_spare = max(num_frames - chunk_frames, 0)
    start = num_spare // 2 if rng is None else rng.integers(num_spare + 1)
    return (start + np.arange(chunk_frames, dtype=np.int64)) % num_frames


def spread_clips(
    num_frames: int, num_samples: int = 25, num_clips: int = 1, consecutive: bool = False
) -> np.ndarray:
    """Spreads several clips over a video, whose scores are averaged at test time.

    Args:
        num_frames: frames of the video.
        num_samples: frames of a clip.
        num_clips: clips. One is `uniform_indices`, or the chunk of `chunk_indices`, without a draw.
        consecutive: each clip is a chunk of consecutive frames, as in `chunk_indices`, and the
            chunks' starts are spread over the video. Otherwise each clip spans the whole video and
            the clips take turns: clip k has the samples k, k + num_clips, ... of
            `uniform_indices(num_frames, num_samples * num_clips)`.

    Returns:
        int64 `(num_clips, num_samples)`.
    """
    if not consecutive:
        _check_positive(num_samples=num_samples, num_clips=num_clips)
        samples = uniform_indices(num_frames, num_samples * num_clips)
        return samples.reshape(num_samples, num_clips).T
    _check_positive(num_frames=num_frames, num_samples=num_samples, num_clips=num_clips)
    num_spare = max(num_frames - num_samples, 0)
    starts = (2 * np.arange(num_clips, dtype=np.int64) + 1) * num_spare // (2 * num_clips)
    return (starts[:, None] + np.arange(num_samples, dtype=np.int64)) % num_frames


def dense_windows(
    num_frames: int, window_size: int, stride: int | None = None, end_policy: str = "shift"
) -> np.ndarray:
    """Slides a window of consecutive frames over a video.

    Args:
        num_frames: frames of the video.
        window_size: frames of a window.
        stride: frames from one window's start to the next; by default `window_size`.
        end_policy: what happens when the last whole window does not end at the last frame. "drop"
            leaves the rest out; "shift" adds a window that ends at the last frame; "repeat_last"
            adds the next window, its frames beyond the end being the last one. A video shorter
            than a window gives no window with "drop" and one padded with its last frame otherwise.

    Returns:
        int64 `(num_windows, window_size)`.
    """
    stride = window_size if stride is None else stride
    _check_positive(num_frames=num_frames, window_size=window_size, stride=stride)
    if end_policy not in END_POLICIES:
        raise ValueError(
            f"`end_policy` must be one of {', '.join(END_POLICIES)}. Received: {end_policy!r}."
        )
    starts = np.arange(0, num_frames - window_size + 1, stride, dtype=np.int64)
    next_start = len(starts) * stride
    covered = starts[-1] + window_size if len(starts) else 0
    if end_policy == "shift" and covered < num_frames:
        starts = np.append(starts, max(num_frames - window_size, 0))
    elif end_policy == "repeat_last" and covered < num_frames and next_start < num_frames:
        starts = np.append(starts, next_start)
    windows = starts[:, None] + np.arange(window_size, dtype=np.int64)
    return np.minimum(windows, num_frames - 1)


def num_windows(num_frames: int, window_size: int, stride: int) -> int:
    """Counts the windows of `dense_windows` with `end_policy="repeat_last"`."""
    _check_positive(num_frames=num_frames, window_size=window_size, stride=stride)
    num_whole_strides = max(-(-(num_frames - window_size) // stride), 0)
    return min(-(-num_frames // stride), num_whole_strides + 1)


def nearest_windows(
    frames: np.ndarray, num_windows: int, stride: int, window_size: int = 1
) -> np.ndarray:
    """Finds the windows whose middle is nearest to given frames.

    Window r begins at frame `r stride`; its middle is the frame `window_size // 2` later. Of two
    windows as near as each other the earlier one is taken: the steps of a chunk, frames such as
    `uniform_indices(192, 12)`, then get the window at the start of their piece, be it one frame or
    the whole piece of 16.

    Args:
        frames: frame indices.
        num_windows: windows that there are.
        stride: frames from one window's start to the next.
        window_size: frames of a window.

    Returns:
        int64 of the shape of `frames`, from 0 to `num_windows - 1`.
    """
    _check_positive(num_windows=num_windows, stride=stride, window_size=window_size)
    starts = np.asarray(frames, dtype=np.int64) - window_size // 2
    return np.clip((2 * starts + stride - 1) // (2 * stride), 0, num_windows - 1)


def epoch_order(num_clips: int, seed_and_epoch: tuple[int, int] | None) -> np.ndarray:
    """The order in which an epoch visits the clips, int64 `(num_clips,)`.

    Args:
        num_clips: clips of a source.
        seed_and_epoch: what the shuffled order is drawn from; None keeps the clips in order.
    """
    order = np.arange(num_clips)
    if seed_and_epoch is None:
        return order
    # The third number keeps this stream apart from the clips', below 2**32 in theirs.
    return np.random.default_rng([*seed_and_epoch, 2**32]).permutation(order)


def _check_positive(**counts: int) -> None:
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value}.")
