"""Which frames of a video make a clip: integer arithmetic, apart from any decoding."""

from __future__ import annotations

import numpy as np

END_POLICIES = ("drop", "shift", "repeat_last")


def uniform_indices(num_frames: int, num_samples: int = 25) -> np.ndarray:
    """Spreads samples over a video: the centre frames of equal pieces.

    Sample i of n is frame `(2 i + 1) num_frames // (2 n)`. A video with fewer frames than samples
    repeats each of its frames about equally often.

    Args:
        num_frames: Frames of the video.
        num_samples: Frames of the clip.

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
        num_frames: Frames of the video.
        num_samples: Segments, and frames of the clip.
        rng: Draws within each segment (training); None takes each segment's centre (test).

    Returns:
        int64 `(num_samples,)`, ascending.

    Reference: Wang et al., Temporal Segment Networks, ECCV 2016.
    """
    if rng is None:
        return uniform_indices(num_frames, num_samples)
    _check_positive(num_frames=num_frames, num_samples=num_samples)
    edges = np.arange(num_samples + 1, dtype=np.int64) * num_frames // num_samples
    return rng.integers(edges[:-1], np.maximum(edges[1:], edges[:-1] + 1))


def dense_windows(
    num_frames: int, window_size: int, stride: int | None = None, end_policy: str = "shift"
) -> np.ndarray:
    """Slides a window of consecutive frames over a video.

    Args:
        num_frames: Frames of the video.
        window_size: Frames of a window.
        stride: Frames from one window's start to the next; by default `window_size`.
        end_policy: What happens when the last whole window does not end at the last frame. "drop"
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


def _check_positive(**counts: int) -> None:
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value}.")
