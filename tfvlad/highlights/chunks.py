"""What a model makes of every chunk of a video, read in one pass and in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np

from pipelines.clips.sampling import (
    chunk_indices,
    dense_windows,
    nearest_windows,
    num_windows,
    uniform_indices,
)
from pipelines.features.arrays import check_channels, read_array
from pipelines.video.codec.decoding import check_first_frame
from pipelines.video.codec.streaming import WindowStream
from pipelines.video.index import BrokenVideo, index_videos
from pipelines.video.info import BrokenVideoError, VideoInfo
from tfvlad.evaluation import class_probabilities


class ChunkPredictions(NamedTuple):
    """What a model makes of the chunks of a video.

    Args:
        frames: the frames that weights were given to, int64 `(num_chunks, T)`; of a window of
            frames, the one in the middle.
        weights: `(num_chunks, T, C)`, positive where a frame speaks for the class; `(..., 1)` where
            the model looks at the same frames whatever the class.
        probabilities: of the classes, `(num_chunks, C)`.
    """

    frames: np.ndarray
    weights: np.ndarray
    probabilities: np.ndarray


class _Steps:
    """Steps that are spread over a chunk."""

    num_steps: int
    frame_step: int
    window_frames: int

    def rows(self, chunks: np.ndarray, num_frames: int) -> np.ndarray:
        """The rows of the steps, `(num_chunks, num_steps)`, as `FeatureClipSource` takes them.

        Args:
            chunks: frames of the chunks, `(num_chunks, chunk_frames)`.
            num_frames: of the video.
        """
        frames = chunks[:, uniform_indices(chunks.shape[1], self.num_steps)]
        count = num_windows(num_frames, self.window_frames, self.frame_step)
        return nearest_windows(frames, count, self.frame_step, self.window_frames)


@dataclass(frozen=True, eq=False)
class ChunkInput(_Steps):
    """One input of a model: steps spread over a chunk, and the network that describes each.

    Args:
        network: from windows of frames, uint8 `(b, H, W, 3)` or `(b, window_frames, H, W, 3)`, to
            their features `(b, ...)`.
        num_steps: of a chunk.
        frame_step: frames from one window's start to the next.
        window_frames: frames of a window.
        image_size: (height, width) of the frames in pixels.
        short_side: shorter side of the frame that they are cropped from.
    """

    network: Callable[[np.ndarray], np.ndarray]
    num_steps: int
    frame_step: int
    window_frames: int
    image_size: tuple[int, int]
    short_side: int

    @property
    def source(self) -> object:
        """What inputs of the same features have in common."""
        return self.network

    def check(self, path: str | os.PathLike[str]) -> None:
        """See that a file can be opened, before long work.

        Raises:
            BrokenVideoError: when it cannot; the message may name it.
        """
        check_first_frame(os.fspath(path))

    def info(self, path: str | os.PathLike[str]) -> VideoInfo:
        """What is known of a video, which is decoded for it.

        Raises:
            BrokenVideoError: when it cannot be decoded; the message names it.
        """
        (info,) = index_videos([os.fspath(path)]).values()
        if isinstance(info, BrokenVideo):
            raise BrokenVideoError(f"{info.path}: {info.reason}")
        return info

    def read(self, path: str | os.PathLike[str], rows: np.ndarray) -> Iterator[np.ndarray]:
        """The features of each chunk's windows, `(num_rows, ...)`, chunk by chunk.

        Only these windows are converted and computed, once each; those that a later chunk may need
        are kept.

        Args:
            path: video file.
            rows: windows of the chunks, `(num_chunks, num_rows)`; no chunk begins before the last.
        """
        stream = WindowStream(
            os.fspath(path),
            frame_step=self.frame_step,
            window_frames=self.window_frames,
            image_size=self.image_size,
            short_side=self.short_side,
            window_numbers=np.unique(rows),
        )
        recent: dict[int, np.ndarray] = {}
        for chunk in rows.tolist():
            recent = {row: features for row, features in recent.items() if row >= min(chunk)}
            while max(chunk) not in recent:
                batch = next(stream)
                windows = batch.windows if self.window_frames > 1 else batch.windows[:, 0]
                numbers = (batch.first_frames // self.frame_step).tolist()
                recent.update(zip(numbers, self.network(windows), strict=True))
            yield np.stack([recent[row] for row in chunk])


@dataclass(frozen=True, eq=False)
class ArrayInput(_Steps):
    """One input of a model: steps spread over a chunk of an array of features.

    Args:
        num_steps: of a chunk.
        num_channels: of a row.
        frame_step: frames of the video from one row to the next.
        window_frames: frames that a row describes.
        frames_per_second: of the video; None where it is not known.
        key: name of the array in its file; None for the only one.
    """

    num_steps: int
    num_channels: int
    frame_step: int
    window_frames: int
    frames_per_second: float | None = None
    key: str | None = None

    @property
    def source(self) -> object:
        """What inputs of the same features have in common."""
        return self.key

    def check(self, path: str | os.PathLike[str]) -> None:
        """See that a file can be read, before long work.

        Raises:
            BrokenVideoError: when it cannot; the message names it.
        """
        self._array(path)

    def info(self, path: str | os.PathLike[str]) -> VideoInfo:
        """What is known of the video behind an array; without a frame rate, of a row a second.

        Raises:
            BrokenVideoError: when the array cannot be used; the message names it.
        """
        num_frames = len(self._array(path)) * self.frame_step
        return VideoInfo(num_frames, self.frames_per_second or self.frame_step, 0, 0)

    def read(self, path: str | os.PathLike[str], rows: np.ndarray) -> Iterator[np.ndarray]:
        """The features of each chunk's steps, `(num_rows, D)`, chunk by chunk.

        Args:
            path: file of the array.
            rows: of the chunks, `(num_chunks, num_rows)`.
        """
        array = self._array(path).astype(np.float32, copy=False)
        for chunk in rows:
            yield array[chunk]

    def _array(self, path: str | os.PathLike[str]) -> np.ndarray:
        try:
            array = read_array(path, self.key)
            check_channels(array, self.num_channels)
        except BrokenVideoError as error:
            raise BrokenVideoError(f"{os.fspath(path)}: {error}") from None
        return array


@dataclass(frozen=True, eq=False)
class ChunkModel:
    """A model on chunks of videos of any length.

    `clip_chunk_model` and `attention_chunk_model` make it from a Keras model.

    Args:
        class_names: of the C classes.
        multi_label: whether a clip may have several classes.
        chunk_frames: frames of a chunk.
        repeats: a video that is shorter than a chunk starts again from its first frame, as in
            training on chunks; otherwise the steps spread over what there is.
        inputs: of the model, all of videos or all of arrays; the weights are those of the last
            one's steps.
        predict: from a batch of each input to weights `(b, T, C)` or `(b, T, 1)` and scores
            `(b, C)`.
        batch_size: chunks predicted at a time.
    """

    class_names: tuple[str, ...]
    multi_label: bool
    chunk_frames: int
    repeats: bool
    inputs: Sequence[ChunkInput | ArrayInput]
    predict: Callable[[Sequence[np.ndarray]], tuple[np.ndarray, ...]]
    batch_size: int

    @property
    def reads_arrays(self) -> bool:
        """Whether it is a model of arrays, not of videos."""
        return isinstance(self.inputs[0], ArrayInput)

    @property
    def tells_seconds(self) -> bool:
        """Whether times are seconds; otherwise they are positions in an array."""
        first = self.inputs[0]
        return not isinstance(first, ArrayInput) or first.frames_per_second is not None

    def chunks(self, num_frames: int) -> np.ndarray:
        """Frames of the chunks of a video, `(num_chunks, chunk_frames)`.

        A chunk begins at the middle of the one before it; the last one ends with the video. A video
        that is shorter than a chunk is one chunk, see `repeats`.
        """
        if self.repeats and num_frames < self.chunk_frames:
            return chunk_indices(num_frames, self.chunk_frames)[np.newaxis]
        length = min(self.chunk_frames, num_frames)
        return dense_windows(num_frames, length, max(length // 2, 1), "shift")

    def predictions(
        self,
        path: str | os.PathLike[str],
        num_frames: int,
        advance: Callable[[int], object] = lambda count: None,
    ) -> ChunkPredictions:
        """Predict every chunk of a video.

        Args:
            path: video file.
            num_frames: that it has.
            advance: called with a number of chunks that are done.
        """
        chunks = self.chunks(num_frames)
        rows = [one.rows(chunks, num_frames) for one in self.inputs]
        steps = self._steps(path, rows)
        found = []
        while batch := list(islice(steps, self.batch_size)):
            found.append(self.predict([np.stack(one) for one in zip(*batch, strict=True)]))
            advance(len(batch))
        weights, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        last = self.inputs[-1]
        frames = rows[-1] * last.frame_step + last.window_frames // 2
        return ChunkPredictions(
            np.minimum(frames, num_frames - 1),
            weights,
            class_probabilities(scores, multi_label=self.multi_label),
        )

    def _steps(
        self, path: str | os.PathLike[str], rows: Sequence[np.ndarray]
    ) -> Iterator[Sequence[np.ndarray]]:
        """The steps of every input, chunk by chunk."""
        if len({one.source for one in self.inputs}) > 1:
            pairs = zip(self.inputs, rows, strict=True)
            yield from zip(*(one.read(path, numbers) for one, numbers in pairs), strict=True)
            return
        # The same features for all inputs: one pass.
        bounds = np.cumsum([one.num_steps for one in self.inputs])[:-1]
        for steps in self.inputs[0].read(path, np.concatenate(rows, axis=1)):
            yield np.split(steps, bounds)
