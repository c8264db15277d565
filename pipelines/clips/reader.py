"""One clip of a record: which frames or stacks of optical flow it has, and how they are cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pipelines.clips.augmentation import (
    FLOW_SCALES,
    RGB_SCALES,
    draw_color_matrix,
    draw_crop,
    fixed_crops,
)
from pipelines.clips.sampling import chunk_indices, segment_indices, spread_clips
from pipelines.lists.records import VideoRecord
from pipelines.video.codec.decoding import read_frames
from pipelines.video.crops import resized_size
from pipelines.video.frame_folders import STREAMS, read_flow
from pipelines.video.info import VideoInfo

SAMPLINGS = ("uniform", "segments", "chunk")
# Part of every fingerprint: a change of the pixels a clip is made of must change it.
_FORMAT_VERSION = 2


@dataclass(frozen=True)
class ClipReader:
    """Reads clips of frames, or of stacks of optical flow; the fields are `VideoClipSource`'s.

    Raises:
        ValueError: when an argument is out of range.
    """

    num_frames: int = 25
    sampling: str = "uniform"
    image_size: int = 224
    short_side: int = 256
    stream: str = "rgb"
    stack_frames: int = 10
    test_crops: int = 1
    test_clips: int = 1
    scales: Sequence[float] | None = None
    color_jitter: float = 0.0

    def __post_init__(self) -> None:
        for name in ("num_frames", "image_size", "short_side", "stack_frames", "test_clips"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value}.")
        for name, choices in (("sampling", SAMPLINGS), ("stream", STREAMS)):
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(
                    f"`{name}` must be one of {', '.join(choices)}. Received: {value!r}."
                )
        if self.test_crops not in (1, 5, 10):
            raise ValueError(
                f"`test_crops` must be 1, 5 or 10. Received: test_crops={self.test_crops}."
            )
        if not 0 <= self.color_jitter <= 1:
            raise ValueError(
                "`color_jitter` must lie between 0 and 1. "
                f"Received: color_jitter={self.color_jitter}."
            )
        if self.color_jitter and self.stream == "flow":
            raise ValueError(
                "Optical flow has no colours: `color_jitter` must be 0. "
                f"Received: color_jitter={self.color_jitter}, stream='flow'."
            )

    @property
    def num_views(self) -> int:
        return self.test_clips * self.test_crops

    @property
    def clip_shape(self) -> tuple[int, ...]:
        num_channels = 3 if self.stream == "rgb" else 2 * self.stack_frames
        shape = (self.num_frames, self.image_size, self.image_size, num_channels)
        return shape if self.num_views == 1 else (self.num_views, *shape)

    @property
    def jitter_scales(self) -> tuple[float, ...]:
        if self.scales is not None:
            return tuple(self.scales)
        return RGB_SCALES if self.stream == "rgb" else FLOW_SCALES

    def settings(self, augment: bool) -> list[Any]:
        """What a clip's pixels depend on besides its video and, when augmenting, the draws."""
        settings = [_FORMAT_VERSION, self.num_frames, self.sampling, self.image_size]
        settings += [self.short_side, self.test_crops, self.test_clips]
        if self.stream == "flow":
            settings += [self.stream, self.stack_frames]
        return [*settings, self.jitter_scales, self.color_jitter] if augment else settings

    def read(
        self, record: VideoRecord, info: VideoInfo, rng: np.random.Generator | None, out: np.ndarray
    ) -> None:
        """Reads a clip.

        Args:
            record: what to read.
            info: of the record's video.
            rng: draws frames, crop, flip and colours; None reads the views of a test.
            out: uint8 `clip_shape`, written.
        """
        segment = info.segment(record.start_seconds, record.end_seconds)
        frame_size = resized_size(info.width, info.height, self.short_side)
        frames = segment.start + self._frames(len(segment), rng)
        color_matrix = None
        if rng is None:
            crops = fixed_crops(*frame_size, self.image_size, self.test_crops)
        else:
            crops = (draw_crop(rng, *frame_size, self.image_size, self.jitter_scales),)
            if self.color_jitter:
                color_matrix = draw_color_matrix(rng, self.color_jitter)
        read = self._frame_reader(record.path, info, segment, color_matrix)
        # All clips of a video are read in one pass: frames that they share are decoded once.
        wanted = frames.reshape(-1)
        views = out.reshape(self.test_clips, self.test_crops, *self.clip_shape[-4:])
        if self.test_clips == 1 and (np.diff(wanted) >= 0).all():
            read(wanted, crops=crops, image_size=self.image_size, out=views[0])
            return
        order = np.argsort(wanted, kind="stable")  # a short video's chunk starts again
        images = read(wanted[order], crops=crops, image_size=self.image_size)
        images = images[:, np.argsort(order)].reshape(len(crops), *views[:, 0].shape)
        views[:] = images.swapaxes(0, 1)

    def _frame_reader(
        self, path: str, info: VideoInfo, segment: range, color_matrix: np.ndarray | None
    ) -> Callable[..., np.ndarray]:
        """What reads ascending frames as `read_frames` does: with `crops`, `image_size`, `out`."""
        if self.stream == "rgb":
            return partial(read_frames, path, color_matrix=color_matrix, info=info)
        return partial(read_flow, path, stack_frames=self.stack_frames, segment=segment)

    def _frames(self, num_frames: int, rng: np.random.Generator | None) -> np.ndarray:
        """Frames of the clips, from the segment's first one on: int64 `(clips, num_frames)`."""
        if rng is None:
            is_chunk = self.sampling == "chunk"
            return spread_clips(num_frames, self.num_frames, self.test_clips, is_chunk)
        if self.sampling == "segments":
            return segment_indices(num_frames, self.num_frames, rng)[None]
        if self.sampling == "chunk":
            return chunk_indices(num_frames, self.num_frames, rng)[None]
        return spread_clips(num_frames, self.num_frames)
