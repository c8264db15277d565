"""What a run's model makes of every chunk of a video, read in one pass and in bounded memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from pipelines.clip_sampling import (
    chunk_indices,
    dense_windows,
    nearest_windows,
    num_windows,
    uniform_indices,
)
from pipelines.decoding import VideoInfo
from pipelines.progress import progress_bar
from pipelines.streaming import WindowStream
from tfvlad.cli.extraction import compiled, rebuild
from tfvlad.cli.run_folder import FeatureRunConfig, RunConfig, load_config, load_model
from tfvlad.evaluation import class_probabilities
from tfvlad.models import frame_attributions, head_of, intermediate_outputs


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


@dataclass(frozen=True, eq=False)
class ChunkInput:
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

    def rows(self, chunks: np.ndarray, num_frames: int) -> np.ndarray:
        """The windows of the steps, `(num_chunks, num_steps)`, as `FeatureClipSource` takes them.

        Args:
            chunks: frames of the chunks, `(num_chunks, chunk_frames)`.
            num_frames: of the video.
        """
        frames = chunks[:, uniform_indices(chunks.shape[1], self.num_steps)]
        count = num_windows(num_frames, self.window_frames, self.frame_step)
        return nearest_windows(frames, count, self.frame_step, self.window_frames)

    def read(self, path: str, rows: np.ndarray) -> Iterator[np.ndarray]:
        """The features of each chunk's windows, `(num_rows, ...)`, chunk by chunk.

        Only these windows are converted and computed, once each; those that a later chunk may need
        are kept.

        Args:
            path: video file.
            rows: windows of the chunks, `(num_chunks, num_rows)`; no chunk begins before the last.
        """
        stream = WindowStream(
            path,
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
class ChunkModel:
    """A run's model on chunks of videos of any length.

    Args:
        class_names: of the classes.
        multi_label: whether a clip may have several classes.
        chunk_frames: frames of a chunk.
        repeats: a video that is shorter than a chunk starts again from its first frame, as in
            training on chunks; otherwise the steps spread over what there is.
        inputs: of the model; the weights are those of the last one's steps.
        predict: from a batch of each input to weights `(b, T, C)` or `(b, T, 1)` and scores
            `(b, C)`.
        batch_size: chunks predicted at a time.
    """

    class_names: list[str]
    multi_label: bool
    chunk_frames: int
    repeats: bool
    inputs: Sequence[ChunkInput]
    predict: Callable[[Sequence[np.ndarray]], tuple[np.ndarray, ...]]
    batch_size: int

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
        self, path: str, num_frames: int, advance: Callable[[int], object] = lambda count: None
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

    def _steps(self, path: str, rows: Sequence[np.ndarray]) -> Iterator[Sequence[np.ndarray]]:
        """The steps of every input, chunk by chunk."""
        if len({one.network for one in self.inputs}) > 1:
            pairs = zip(self.inputs, rows, strict=True)
            yield from zip(*(one.read(path, numbers) for one, numbers in pairs), strict=True)
            return
        # The same features for all inputs: one pass.
        bounds = np.cumsum([one.num_steps for one in self.inputs])[:-1]
        for steps in self.inputs[0].read(path, np.concatenate(rows, axis=1)):
            yield np.split(steps, bounds)


def load_chunk_model(folder: Path) -> ChunkModel:
    """The model of a run, and what it reads.

    Raises:
        ValueError: it is no run folder, or its model gives no weights to frames.
    """
    config = load_config(folder)
    if isinstance(config, RunConfig):
        return _clip_chunk_model(folder, config)
    if config.model != "attention-lstm":
        raise ValueError(
            f"'{folder}' is a run of {config.model}, which gives no weights to frames. Highlight "
            "with a run of attention-lstm, or of a model of videos."
        )
    return _feature_chunk_model(folder, config)


def _feature_chunk_model(folder: Path, config: FeatureRunConfig) -> ChunkModel:
    described = config.feature_sets
    networks = [_network(described[0])]
    networks.append(networks[0] if described[1] == described[0] else _network(described[1]))
    inputs = [
        ChunkInput(
            network,
            num_steps,
            one["frame_step"],
            one["window_frames"],
            tuple(one["image_size"]),
            one["short_side"],
        )
        for network, num_steps, one in zip(networks, config.num_steps, described, strict=True)
    ]
    chunk_frames = config.chunk_frames or _clip_frames(folder)
    model = attending(load_model(folder))
    return ChunkModel(
        config.class_names,
        config.multi_label,
        chunk_frames,
        config.chunk_frames is not None,
        inputs,
        model,
        batch_size=32,
    )


def attending(
    model: keras.Model,
) -> Callable[[Sequence[np.ndarray]], tuple[np.ndarray, ...]]:
    """An attention LSTM as a `ChunkModel` predicts with it."""
    network = intermediate_outputs(model, ["attention", "logits"])

    @tf.function(reduce_retracing=True, autograph=False)
    def predict(steps: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        outputs = network(list(steps), training=False)
        # (b, N, T) -> (b, T, 1)
        return tf.reduce_mean(outputs["attention"], axis=1)[..., tf.newaxis], outputs["logits"]

    return lambda steps: _arrays(predict([tf.constant(one) for one in steps]))


def _clip_chunk_model(folder: Path, config: RunConfig) -> ChunkModel:
    model = load_model(folder)
    backbone, head = model.get_layer("backbone"), head_of(model)

    @tf.function(reduce_retracing=True, autograph=False)
    def maps(frames: tf.Tensor) -> tf.Tensor:
        # (b, H, W, 3) -> (b, 1, H, W, 3) -> (b, h, w, D)
        return backbone(frames[:, tf.newaxis], training=False)[:, 0]

    @tf.function(reduce_retracing=True, autograph=False)
    def predict(steps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return frame_attributions(head, steps, "all")

    frames = ChunkInput(
        lambda windows: maps(tf.constant(windows)).numpy(),
        config.num_frames,
        frame_step=1,
        window_frames=1,
        image_size=(config.image_size, config.image_size),
        short_side=config.short_side,
    )
    return ChunkModel(
        config.class_names,
        config.multi_label,
        config.num_frames if config.sampling == "chunk" else _clip_frames(folder),
        config.sampling == "chunk",
        [frames],
        lambda steps: _arrays(predict(tf.constant(steps[0]))),
        batch_size=4,
    )


def _arrays(tensors: Sequence[tf.Tensor]) -> tuple[np.ndarray, ...]:
    return tuple(tensor.numpy() for tensor in tensors)


def _network(description: dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    """The extractor of a feature set; its features as they are read from the set's files."""
    network, dtype = compiled(rebuild(description)), description["dtype"]
    return lambda frames: network(frames).astype(dtype).astype("float32")


def _clip_frames(folder: Path) -> int:
    """The median length of the clips that a run was trained on, in frames."""
    path = folder / "result.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    if "clip_frames" not in result:
        raise ValueError(
            f"'{folder}' does not say how long its training clips are ('{path.name}' of this "
            "version does). Run the same `tfvlad train` command again in a new folder."
        )
    return result["clip_frames"]


def predict_video(model: ChunkModel, path: str, info: VideoInfo) -> ChunkPredictions:
    """Predict every chunk of a video behind a progress bar."""
    with progress_bar(transient=True) as bar:
        task = bar.add_task(
            f"Chunks of {Path(path).name}", total=len(model.chunks(info.num_frames))
        )
        return model.predictions(path, info.num_frames, lambda count: bar.advance(task, count))
