"""What training asks of a source of clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf


class ClipSource(Protocol):
    """Labelled clips that can be read again and again; `pipelines.VideoClipSource` is one.

    Attributes:
        class_names: of the C classes.
        labels: int32 `(n,)`, or float32 multi-hot `(n, C)` when a clip may have several labels.
        clip_shape: `(T, H, W, 3)`, or `(crops, T, H, W, 3)` for several test crops.
    """

    @property
    def class_names(self) -> Sequence[str]: ...

    labels: np.ndarray

    @property
    def clip_shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int:
        """The number of clips n."""

    def fingerprints(self, augment: bool) -> list[str]:
        """For each clip, a text that changes whenever its frames would: keys of feature caches."""

    def subset(self, indices: Sequence[int]) -> ClipSource:
        """The chosen clips with the same settings."""

    def with_num_frames(self, num_frames: int) -> ClipSource:
        """The same clips with another number of frames T: what a search over it asks for."""

    def clips(self, augment: bool, variant: int) -> Iterator[np.ndarray]:
        """uint8 clips of shape `clip_shape` in order.

        When augmenting, the random draws of a clip depend on the variant and the clip alone, not
        on the others.
        """

    def dataset(
        self, batch_size: int, shuffle: bool, augment: bool, epoch: int | Callable[[], int]
    ) -> tf.data.Dataset:
        """Batches of (uint8 clips, labels), reproducible for an epoch's number."""


class FeatureSource(Protocol):
    """Labelled clips of extracted features; `pipelines.FeatureClipSource` is one.

    Attributes:
        class_names: of the C classes.
        labels: int32 `(n,)`, or float32 multi-hot `(n, C)` when a clip may have several labels.
    """

    @property
    def class_names(self) -> Sequence[str]: ...

    labels: np.ndarray

    def __len__(self) -> int:
        """The number of clips n."""

    def fingerprints(self, augment: bool) -> list[str]:
        """For each clip, a text that changes whenever its features would."""

    def with_num_steps(self, num_steps: Sequence[int]) -> FeatureSource:
        """The same clips with other numbers of steps: what a search over them asks for."""

    def dataset(
        self, batch_size: int, shuffle: bool, augment: bool, epoch: int | Callable[[], int]
    ) -> tf.data.Dataset:
        """Batches of (features of one or two sets, labels), reproducible for an epoch's number."""

    def test_chunks(self, num_chunks: int, flipped: bool) -> Iterator[tuple[np.ndarray, ...]]:
        """Chunks of one clip after the other: `(num, N, Dv)`, and `(num, T, Da)` of a second set.

        With `flipped`, as many more of the mirrored frames.
        """
