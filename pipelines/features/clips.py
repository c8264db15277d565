"""Records of feature files -> batches of chunks as a `tf.data.Dataset`."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines.clips.sampling import chunk_indices, epoch_order, nearest_windows, uniform_indices
from pipelines.features.feature_index import files_of
from pipelines.features.feature_set import FeatureFileInfo, FeatureSet, no_flipped_features
from pipelines.features.files import read_features, read_info
from pipelines.lists.records import VideoRecord, label_array, record_number
from pipelines.video.index import file_stamp

# Part of every fingerprint: a change of the rows a clip is made of must change it.
_FORMAT_VERSION = 1


class FeatureClipSource:
    """Labelled chunks of extracted features, read row by row on demand.

    A clip has N steps of the first feature set (input-data) and, with a second set, T steps of that
    (attended-data). They are the centre frames of N, or T, equal pieces of one chunk of the video,
    and each step takes the row whose window is nearest (`nearest_windows`). Augmented, the chunk's
    start and, where all sets have flipped features, one flip are drawn from the seed, the epoch and
    the record alone; not augmented, it is the centre chunk. A video shorter than a chunk starts
    again from its first frame.

    Args:
        records: clips; each has one label unless `multi_label`. The path is the file of the first
            set; the second's is at the same place in its folder.
        class_names: names of the classes.
        folders: one or two feature sets. They may have other steps, formats and networks.
        num_steps: N and T.
        chunk_frames: frames of a chunk; None takes the whole clip.
        multi_label: labels are multi-hot.
        seed: non-negative seed of shuffling and augmentation.

    Raises:
        ValueError: when an argument is out of range, a file is missing or does not fit its set, the
            sets describe other videos, a set has too few rows for the steps of a chunk, a segment
            holds no frame, or a record does not have exactly one label in a single-label task.

    Reference:
        Torabi and Sigal, Action Classification and Highlighting in Videos, sections 3.2 and 4.2: F
        = 192 frames, N = 12, T = 12 or 24.
    """

    def __init__(
        self,
        records: Sequence[VideoRecord],
        class_names: Sequence[str],
        folders: Sequence[str | os.PathLike[str]],
        *,
        num_steps: Sequence[int] = (12, 12),
        chunk_frames: int | None = 192,
        multi_label: bool = False,
        seed: int = 0,
    ):
        if len(folders) not in (1, 2):
            raise ValueError(f"`folders` must be one or two. Received: {len(folders)}.")
        if len(num_steps) < len(folders) or min(num_steps) < 1:
            raise ValueError(
                "`num_steps` must be a positive integer for each of `folders`. "
                f"Received: num_steps={tuple(num_steps)}."
            )
        if chunk_frames is not None and chunk_frames < 1:
            raise ValueError(
                f"`chunk_frames` must be a positive integer. Received: chunk_frames={chunk_frames}."
            )
        self.class_names = tuple(class_names)
        self.folders = tuple(os.fspath(folder) for folder in folders)
        self.num_steps = tuple(num_steps[: len(folders)])
        self.chunk_frames = chunk_frames
        self.multi_label = multi_label
        self.seed = seed
        self.feature_sets = tuple(FeatureSet.load(folder) for folder in folders)
        self._check_steps()
        self._choose(tuple(records))
        self._infos: dict[str, FeatureFileInfo] = {}
        self._check_files()
        self._segments = {record: self._segment(record) for record in self.records}

    def __len__(self) -> int:
        return len(self.records)

    @property
    def clip_shapes(self) -> tuple[tuple[int, int], ...]:
        """`(N, Dv)` and, with two sets, `(T, Da)`."""
        return tuple(
            (num_steps, feature_set.num_channels)
            for num_steps, feature_set in zip(self.num_steps, self.feature_sets, strict=True)
        )

    @property
    def has_flipped(self) -> bool:
        """All sets have features of the mirrored frames."""
        return all(feature_set.flipped for feature_set in self.feature_sets)

    def clip_frames(self) -> list[int]:
        """Frames of each clip, its segment alone where it has one."""
        return [len(self._segments[record]) for record in self.records]

    def subset(self, indices: Iterable[int]) -> FeatureClipSource:
        """Returns a source of the chosen records with the same settings."""
        source = copy.copy(self)
        source._choose(tuple(self.records[i] for i in indices))
        return source

    def with_num_steps(self, num_steps: Sequence[int]) -> FeatureClipSource:
        """Returns a source of the same records with other numbers of steps, N and T."""
        return FeatureClipSource(
            self.records,
            self.class_names,
            self.folders,
            num_steps=num_steps,
            chunk_frames=self.chunk_frames,
            multi_label=self.multi_label,
            seed=self.seed,
        )

    def fingerprints(self, augment: bool = False) -> list[str]:
        """Returns, for each clip, a hash of everything that its features depend on."""
        settings: list = [_FORMAT_VERSION, self.num_steps, self.chunk_frames]
        settings += [feature_set.fingerprint for feature_set in self.feature_sets]
        if augment:
            settings += [self.seed, self.has_flipped]
        return [
            hashlib.sha256(
                json.dumps(
                    [
                        settings,
                        [[os.path.abspath(path), file_stamp(path)] for path in self._paths(r)],
                        r.start_seconds,
                        r.end_seconds,
                    ]
                ).encode()
            ).hexdigest()
            for r in self.records
        ]

    def dataset(
        self,
        batch_size: int = 16,
        shuffle: bool = False,
        augment: bool = False,
        epoch: int | Callable[[], int] = 0,
    ) -> tf.data.Dataset:
        """Returns the clips and labels in batches.

        Every iteration over the dataset is the next epoch, as in `VideoClipSource.dataset`.

        Args:
            batch_size: clips of a batch; the last one may be smaller.
            shuffle: draw a new order each epoch.
            augment: draw chunks and flips.
            epoch: number of the first iteration, or a function that is asked for the number at
                each iteration.

        Returns:
            A dataset of (float32 `(B, N, Dv)`, labels), or ((`(B, N, Dv)`, `(B, T, Da)`), labels)
            with two sets; labels are int32 `(B,)` or float32 multi-hot `(B, C)`.
        """
        if batch_size < 1:
            raise ValueError(
                f"`batch_size` must be a positive integer. Received: batch_size={batch_size}."
            )
        next_epoch = epoch if callable(epoch) else itertools.count(epoch).__next__

        def batches() -> Iterator[tuple[Any, np.ndarray]]:
            number = next_epoch()
            order = epoch_order(len(self), (self.seed, number) if shuffle else None)
            for begin in range(0, len(order), batch_size):
                chosen = order[begin : begin + batch_size]
                clips = [self._clip(i, number if augment else None) for i in chosen]
                inputs = tuple(np.stack(steps) for steps in zip(*clips, strict=True))
                yield inputs if len(inputs) > 1 else inputs[0], self.labels[chosen]

        specs = tuple(tf.TensorSpec((None, *shape), tf.float32) for shape in self.clip_shapes)
        signature = (
            specs if len(specs) > 1 else specs[0],
            tf.TensorSpec((None, *self.labels.shape[1:]), self.labels.dtype),
        )
        num_batches = -(-len(self) // batch_size)
        dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
        return dataset.apply(tf.data.experimental.assert_cardinality(num_batches)).prefetch(2)

    def test_chunks(
        self, num_chunks: int = 40, flipped: bool = True
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """Reads the chunks whose scores are averaged at test time, one video after the other.

        Args:
            num_chunks: chunks of each video, drawn from the seed and the record alone. A whole clip
                (`chunk_frames=None`) is one chunk, and so is one that is not longer than a chunk.
            flipped: add the mirror images of the same chunks.

        Returns:
            An iterator over float32 `(num, N, Dv)` and, with two sets, `(num, T, Da)`, as a tuple;
            `num` is `num_chunks`, or 1 as said above, or twice as many with `flipped`.

        Raises:
            ValueError: when `num_chunks` is not positive, or a set has no flipped features.
        """
        if num_chunks < 1:
            raise ValueError(
                f"`num_chunks` must be a positive integer. Received: num_chunks={num_chunks}."
            )
        for folder, feature_set in zip(self.folders, self.feature_sets, strict=True):
            if flipped and not feature_set.flipped:
                raise no_flipped_features(folder)
        flips = (False, True) if flipped else (False,)

        def chunks() -> Iterator[tuple[np.ndarray, ...]]:
            for record in self.records:
                # Four numbers: apart from the streams of training, which have three.
                rng = np.random.default_rng([self.seed, 0, record_number(record), 1])
                is_one = len(self._segments[record]) <= (self.chunk_frames or sys.maxsize)
                frames = [self._chunk(record, rng) for _ in range(1 if is_one else num_chunks)]
                yield self._read(record, np.stack(frames), flips)

        return chunks()

    def _clip(self, i: int, epoch: int | None) -> tuple[np.ndarray, ...]:
        record = self.records[i]
        rng, flip = None, False
        if epoch is not None:
            rng = np.random.default_rng([self.seed, epoch, record_number(record)])
            flip = self.has_flipped and bool(rng.random() < 0.5)
        frames = self._chunk(record, rng)
        return tuple(steps[0] for steps in self._read(record, frames[None], (flip,)))

    def _chunk(self, record: VideoRecord, rng: np.random.Generator | None) -> np.ndarray:
        segment = self._segments[record]
        if self.chunk_frames is None:
            return np.arange(segment.start, segment.stop)
        return segment.start + chunk_indices(len(segment), self.chunk_frames, rng)

    def _read(
        self, record: VideoRecord, chunks: np.ndarray, flips: Sequence[bool]
    ) -> tuple[np.ndarray, ...]:
        """Reads the steps of chunks of frames `(num, F)`, once for each of `flips`."""
        clips = []
        for path, feature_set, num_steps in zip(
            self._paths(record), self.feature_sets, self.num_steps, strict=True
        ):
            frames = chunks[:, uniform_indices(chunks.shape[1], num_steps)]
            rows = nearest_windows(
                frames,
                self._infos[path].num_rows,
                feature_set.frame_step,
                feature_set.window_frames,
            )
            found = [read_features(path, rows.ravel(), flip) for flip in flips]
            steps = np.concatenate(found).reshape(-1, num_steps, feature_set.num_channels)
            clips.append(steps.astype(np.float32, copy=False))
        return tuple(clips)

    def _choose(self, records: tuple[VideoRecord, ...]) -> None:
        if not records:
            raise ValueError("`records` is empty: there is nothing to read.")
        self.records = records
        self.labels = label_array(records, len(self.class_names), self.multi_label)

    def _paths(self, record: VideoRecord) -> tuple[str, ...]:
        return files_of(record, self.folders, self.feature_sets)

    def _segment(self, record: VideoRecord) -> range:
        info, frame_step = self._infos[record.path], self.feature_sets[0].frame_step
        try:
            return info.segment(record.start_seconds, record.end_seconds, frame_step)
        except ValueError as error:
            raise ValueError(f"{record.path}: {error}") from None

    def _check_steps(self) -> None:
        for folder, feature_set, num_steps in zip(
            self.folders, self.feature_sets, self.num_steps, strict=True
        ):
            step = feature_set.frame_step
            if self.chunk_frames is not None and num_steps * step > self.chunk_frames:
                raise ValueError(
                    f"{num_steps} steps of a chunk of {self.chunk_frames} frames need a row every "
                    f"{self.chunk_frames // num_steps} frames. Received: {folder} with "
                    f"frame_step={step}. Extract with a shorter `frame_step`, or take fewer steps."
                )

    def _check_files(self) -> None:
        for number, (folder, feature_set) in enumerate(
            zip(self.folders, self.feature_sets, strict=True)
        ):
            paths = list(dict.fromkeys(self._paths(record)[number] for record in self.records))
            missing = [path for path in paths if not os.path.isfile(path)]
            if missing:
                raise ValueError(
                    f"{len(missing)} of {len(paths)} videos have no features in {folder}, first: "
                    f"{missing[0]} is missing."
                )
            for path in paths:
                if path not in self._infos:
                    self._infos[path] = read_info(path)
                    self._infos[path].check(path, feature_set)
        for record in self.records:
            counts = [self._infos[path].num_frames for path in self._paths(record)]
            if len(set(counts)) > 1:
                raise ValueError(
                    f"{' and '.join(self._paths(record))} describe different videos, of "
                    f"{' and '.join(map(str, counts))} frames. Extract both from the same videos."
                )
