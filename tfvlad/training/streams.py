"""The streams of a clip: frames and optical flow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from tfvlad.training.clip_source import ClipSource


class PairedStreams:
    """Sources of the same clips in several streams, as a two-stream model takes them.

    The sources must draw alike (the same records, seed and scales of the crops, see
    `pipelines.VideoClipSource`), so that the streams of an augmented clip show the same place.

    Args:
        streams: a source for each of the model's inputs, frames first.

    Raises:
        ValueError: when the sources differ in their classes or labels.
    """

    def __init__(self, streams: Sequence[ClipSource]):
        first, *others = streams
        for other in others:
            same_classes = list(other.class_names) == list(first.class_names)
            if not same_classes or not np.array_equal(other.labels, first.labels):
                raise ValueError(
                    "`streams` must be sources of the same clips. "
                    f"Received: {len(first)} and {len(other)} clips, whose labels or classes "
                    "differ."
                )
        self.streams = tuple(streams)
        self.labels = first.labels

    @property
    def class_names(self) -> Sequence[str]:
        return self.streams[0].class_names

    @property
    def clip_shape(self) -> tuple[int, ...]:
        """Of the first stream."""
        return self.streams[0].clip_shape

    def __len__(self) -> int:
        return len(self.labels)

    def fingerprints(self, augment: bool) -> list[str]:
        each = [stream.fingerprints(augment) for stream in self.streams]
        return [" ".join(parts) for parts in zip(*each, strict=True)]

    def subset(self, indices: Sequence[int]) -> PairedStreams:
        return PairedStreams([stream.subset(indices) for stream in self.streams])

    def with_num_frames(self, num_frames: int) -> PairedStreams:
        return PairedStreams([stream.with_num_frames(num_frames) for stream in self.streams])

    def clips(self, augment: bool, variant: int) -> Iterator[tuple[np.ndarray, ...]]:
        return zip(*(stream.clips(augment, variant) for stream in self.streams), strict=True)

    def dataset(
        self, batch_size: int, shuffle: bool, augment: bool, epoch: int | Callable[[], int]
    ) -> tf.data.Dataset:
        """Batches of ((uint8 clips, uint8 clips), labels), reproducible for an epoch's number."""
        each = tuple(stream.dataset(batch_size, shuffle, augment, epoch) for stream in self.streams)
        return tf.data.Dataset.zip(each).map(
            lambda *batches: (tuple(batch[0] for batch in batches), batches[0][1])
        )


def streams_of(source: ClipSource | PairedStreams) -> tuple[ClipSource, ...]:
    """The streams of a source; most have one."""
    return source.streams if isinstance(source, PairedStreams) else (source,)
