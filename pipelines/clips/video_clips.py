"""Records -> batches of decoded, cropped clips as a `tf.data.Dataset`."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import itertools
import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines.clips.reader import ClipReader
from pipelines.clips.sampling import epoch_order
from pipelines.lists.broken import drop_broken
from pipelines.lists.records import Annotations, VideoRecord, label_array, record_number
from pipelines.video.index import BrokenVideo, file_stamp, index_videos
from pipelines.video.info import VideoInfo

_logger = logging.getLogger(__name__)


class VideoClipSource:
    """Labelled clips that are decoded on demand, by a pool of threads.

    Clip i holds `num_frames` RGB frames of record i, or as many stacks of optical flow around these
    frames (`read_flow`). Augmented, its frames (unless `sampling="uniform"`), its crop, flip and
    colours are drawn from the seed, the variant and the record alone: the same whatever the number
    of threads and the other records, and the same for frames and flow where the scales are. Not
    augmented, it is the centre crop, or all views of a test.

    Args:
        records: clips; each has one label unless `multi_label`. A video is a file or a frame
            folder.
        class_names: names of the classes.
        index: what `index_videos` returned for the stream; by default the videos are checked here.
        num_frames: frames, or stacks, of a clip.
        sampling: "uniform" (`uniform_indices`), "segments" (`segment_indices`) or "chunk"
            (`chunk_indices`: `num_frames` consecutive ones).
        image_size: side of a clip's frames, pixels.
        short_side: shorter side of the frame that crops are taken from, pixels.
        stream: "rgb", or "flow" for the optical flow in frame folders.
        stack_frames: flow frames of a stack, which has twice as many channels: x, y, x, y, ...
        test_crops: 1, 5 or 10 crops.
        test_clips: clips spread over each video, see `spread_clips`. With more than one clip or
            crop, clips have the shape `(test_clips * test_crops, *shape of one)`, the crops of the
            first clip first, and are not augmented.
        scales: scales of the jittered crops; by default `RGB_SCALES` or `FLOW_SCALES`.
        color_jitter: strength of the colour jitter, 0 to 1; see `draw_color_matrix`.
        multi_label: labels are multi-hot.
        seed: non-negative seed of shuffling and augmentation.
        num_workers: clips decoded at a time; by default one a processor.

    Raises:
        ValueError: when an argument is out of range, a record does not have exactly one label in a
            single-label task, or a record's video is broken (leave these out with `drop_broken`).
    """

    def __init__(
        self,
        records: Sequence[VideoRecord],
        class_names: Sequence[str],
        *,
        index: Mapping[str, VideoInfo | BrokenVideo] | None = None,
        num_frames: int = 25,
        sampling: str = "uniform",
        image_size: int = 224,
        short_side: int = 256,
        stream: str = "rgb",
        stack_frames: int = 10,
        test_crops: int = 1,
        test_clips: int = 1,
        scales: Sequence[float] | None = None,
        color_jitter: float = 0.0,
        multi_label: bool = False,
        seed: int = 0,
        num_workers: int | None = None,
    ):
        self.reader = ClipReader(
            num_frames=num_frames,
            sampling=sampling,
            image_size=image_size,
            short_side=short_side,
            stream=stream,
            stack_frames=stack_frames,
            test_crops=test_crops,
            test_clips=test_clips,
            scales=scales,
            color_jitter=color_jitter,
        )
        if not records:
            raise ValueError("`records` is empty: there is nothing to decode.")
        if index is None:
            index = index_videos((r.path for r in records), stream=stream)
        self.class_names = tuple(class_names)
        self.index = index
        self.multi_label = multi_label
        self.seed = seed
        self.num_workers = num_workers or os.cpu_count() or 1
        self._choose(tuple(records))
        _, broken = drop_broken(self.records, self.index, max_broken=len(self.records))
        if broken:
            raise ValueError(
                f"{len(broken)} records are broken, first: {broken[0].path} ({broken[0].reason}). "
                "Leave them out with `drop_broken(records, index)`."
            )

    def _choose(self, records: tuple[VideoRecord, ...]) -> None:
        self.records = records
        self.labels = label_array(records, len(self.class_names), self.multi_label)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def clip_shape(self) -> tuple[int, ...]:
        return self.reader.clip_shape

    def subset(self, indices: Iterable[int]) -> VideoClipSource:
        """Returns a source of the chosen records with the same settings."""
        source = copy.copy(self)
        source._choose(tuple(self.records[i] for i in indices))
        return source

    def with_num_frames(self, num_frames: int) -> VideoClipSource:
        """Returns a source of the same records with clips of another length."""
        source = copy.copy(self)
        source.reader = dataclasses.replace(self.reader, num_frames=num_frames)
        return source

    def fingerprints(self, augment: bool = False) -> list[str]:
        """Returns, for each clip, a hash of everything that its pixels depend on (not its labels).

        A clip keeps its fingerprint in every list of records: features computed for one split
        serve the others.
        """
        settings = [*self.reader.settings(augment), self.seed if augment else None]
        return [
            hashlib.sha256(
                json.dumps(
                    [
                        settings,
                        os.path.abspath(r.path),
                        file_stamp(r.path),
                        r.start_seconds,
                        r.end_seconds,
                    ]
                ).encode()
            ).hexdigest()
            for r in self.records
        ]

    def clips(
        self,
        augment: bool = False,
        variant: int = 0,
        start: int = 0,
        shuffle_seed: int | None = None,
    ) -> Iterator[np.ndarray]:
        """Decodes the clips one by one, a few ahead in parallel.

        Args:
            augment: draw frames, crop, flip and colours.
            variant: which of the augmented versions of each clip.
            start: position in the order to begin at.
            shuffle_seed: seed of a permutation of the records; None keeps their order.

        Yields:
            uint8 `clip_shape`.
        """
        order = np.arange(len(self))
        if shuffle_seed is not None:
            order = np.random.default_rng(shuffle_seed).permutation(order)
        # Blocks of clips: large allocations get huge pages, which spares a page fault every 4 KiB.
        for clips in self._decode(order[start:], 4, augment, variant):
            yield from clips

    def dataset(
        self,
        batch_size: int = 16,
        shuffle: bool = False,
        augment: bool = False,
        epoch: int | Callable[[], int] = 0,
    ) -> tf.data.Dataset:
        """Returns the clips and labels in batches.

        Every iteration over the dataset is the next epoch: its order depends on `(seed, epoch)`,
        the draws of a clip on `(seed, epoch)` and its record.

        Args:
            batch_size: clips of a batch; the last one may be smaller.
            shuffle: draw a new order each epoch.
            augment: draw frames, crop, flip and colours.
            epoch: number of the first iteration, or a function that is asked for the number at
                each iteration.

        Returns:
            A dataset of (uint8 `(B, *clip_shape)`, int32 `(B,)` or float32 multi-hot `(B, C)`).
        """
        if batch_size < 1:
            raise ValueError(
                f"`batch_size` must be a positive integer. Received: batch_size={batch_size}."
            )
        next_epoch = epoch if callable(epoch) else itertools.count(epoch).__next__

        def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            number = next_epoch()
            order = epoch_order(len(self), (self.seed, number) if shuffle else None)
            begin = 0
            for clips in self._decode(order, batch_size, augment, number):
                yield clips, self.labels[order[begin : begin + len(clips)]]
                begin += len(clips)

        signature = (
            tf.TensorSpec((None, *self.clip_shape), tf.uint8),
            tf.TensorSpec((None, *self.labels.shape[1:]), self.labels.dtype),
        )
        num_batches = -(-len(self) // batch_size)
        dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
        return dataset.apply(tf.data.experimental.assert_cardinality(num_batches)).prefetch(1)

    def _decode(
        self, order: np.ndarray, batch_size: int, augment: bool, variant: int
    ) -> Iterator[np.ndarray]:
        """Yields batches in order while the pool fills the next ones."""
        if augment and self.reader.num_views > 1:
            raise ValueError(
                "Augmented clips have one clip and one crop a video. Received: "
                f"test_clips={self.reader.test_clips}, test_crops={self.reader.test_crops}, "
                "augment=True."
            )
        # Enough clips in flight that no worker waits for the slowest one.
        num_ahead = 1 + -(-2 * self.num_workers // batch_size)
        pending: deque[tuple[np.ndarray, list[Future]]] = deque()
        pool = ThreadPoolExecutor(self.num_workers, thread_name_prefix="decode")
        try:
            for begin in range(0, len(order), batch_size):
                chosen = order[begin : begin + batch_size].tolist()
                clips = _aligned_empty((len(chosen), *self.clip_shape))
                jobs = [
                    pool.submit(self._decode_clip, i, augment, variant, clip)
                    for i, clip in zip(chosen, clips, strict=True)
                ]
                pending.append((clips, jobs))
                if len(pending) > num_ahead:
                    yield _finished(*pending.popleft())
            while pending:
                yield _finished(*pending.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _decode_clip(self, i: int, augment: bool, variant: int, out: np.ndarray) -> None:
        record = self.records[i]
        info = self.index[record.path]
        if isinstance(info, BrokenVideo):  # __init__ refuses these
            raise ValueError(f"{info.path}: {info.reason}")
        rng = None
        if augment:
            rng = np.random.default_rng([self.seed, variant, record_number(record)])
        self.reader.read(record, info, rng, out)


def clip_dataset(
    annotations: Annotations,
    batch_size: int = 16,
    shuffle: bool = False,
    augment: bool = False,
    max_broken: int | None = None,
    cache_path: str | os.PathLike[str] | None = None,
    stream: str = "rgb",
    **source_options: Any,
) -> tf.data.Dataset:
    """Checks the videos of an annotation and returns their clips in batches.

    Args:
        annotations: records and class names, for example from `read_folder`.
        batch_size: clips of a batch.
        shuffle: draw a new order each epoch.
        augment: draw frames, crop, flip and colours.
        max_broken: most broken videos to leave out, with a warning; see `drop_broken`.
        cache_path: where to keep what the check found; see `index_videos`.
        stream: "rgb" or "flow"; see `VideoClipSource`.
        **source_options: further arguments of `VideoClipSource`, such as `num_frames`.

    Returns:
        See `VideoClipSource.dataset`.
    """
    paths = (r.path for r in annotations.records)
    index = index_videos(paths, cache_path=cache_path, stream=stream)
    records, broken = drop_broken(annotations.records, index, max_broken)
    if broken:
        names = "".join(f"\n  {b.path}: {b.reason}" for b in broken)
        _logger.warning("%d broken videos are left out:%s", len(broken), names)
    source = VideoClipSource(
        records, annotations.class_names, index=index, stream=stream, **source_options
    )
    return source.dataset(batch_size, shuffle, augment)


def _aligned_empty(shape: tuple[int, ...]) -> np.ndarray:
    # TensorFlow takes a 64-byte aligned array over without copying it.
    num_bytes = int(np.prod(shape))
    buffer = np.empty(num_bytes + 64, np.uint8)
    offset = -buffer.ctypes.data % 64
    return buffer[offset : offset + num_bytes].reshape(shape)


def _finished(clips: np.ndarray, jobs: list[Future]) -> np.ndarray:
    for job in jobs:
        job.result()
    return clips
