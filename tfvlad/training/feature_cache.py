"""Feature maps computed once and read again in every epoch."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipelines.progress import track
from pipelines.storage.files import write_aside
from pipelines.storage.process_lock import process_lock
from tfvlad.backbones import fingerprint
from tfvlad.training.clip_source import ClipSource


class ClipFeatures:
    """The feature maps of the clips of a source, read from disk one by one.

    `features[i]` is the array of clip i. What fits in memory stays there, in the page cache of the
    operating system.

    Attributes:
        shape: `(n, T, h, w, D)`, or `(n, crops, T, h, w, D)`.
        dtype: of the arrays.
    """

    def __init__(self, paths: Sequence[Path], shape: tuple[int, ...], dtype: str):
        self.paths = paths
        self.shape = (len(paths), *shape)
        self.dtype = np.dtype(dtype)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> np.ndarray:
        return np.load(self.paths[i])


class StreamFeatures:
    """The feature maps of the same clips in several streams: `features[i]` is a tuple.

    Attributes:
        streams: of each stream.
    """

    def __init__(self, streams: Sequence[ClipFeatures]):
        self.streams = tuple(streams)

    def __getitem__(self, i: int) -> tuple[np.ndarray, ...]:
        return tuple(features[i] for features in self.streams)


class FeatureCache:
    """A folder of feature maps, one file a clip.

    A file's name is a hash of everything its content depends on: the video and how it is sampled,
    cropped and augmented, the network's layers and weights, the data type. A changed setting
    therefore never meets a stale file, and runs, splits and models share a folder. An extraction
    that was killed goes on where it stopped; of several processes one extracts and the others wait.

    Args:
        folder: where the files are kept; made when missing.
        dtype: "float32" or "float16", which takes half the space.

    Attributes:
        extraction_seconds: spent in the networks so far, decoding included.
    """

    def __init__(self, folder: str | os.PathLike[str], dtype: str = "float32"):
        if dtype not in ("float32", "float16"):
            raise ValueError(f'`dtype` must be "float32" or "float16". Received: dtype={dtype!r}.')
        self.folder = Path(folder)
        self.dtype = dtype
        self.extraction_seconds = 0.0

    def features(
        self,
        network: keras.Model,
        source: ClipSource,
        *,
        augment: bool = False,
        variant: int = 0,
        through: tuple[keras.Model, keras.Model] | None = None,
    ) -> ClipFeatures:
        """The network's outputs on every frame of every clip.

        Args:
            network: from frames `(B, H, W, 3)` to maps `(B, h, w, D)`.
            source: the clips.
            augment: whether to crop and flip at random, as for training.
            variant: number of the random draw when augmenting.
            through: the network's first part and the rest of it: what is not there yet is computed
                from the outputs of the first part, which are cached too.

        Raises:
            OSError: when the disk has not enough room.
        """
        common = " ".join([fingerprint(network), str(variant if augment else 0), self.dtype])
        paths = [
            self.folder / f"{hashlib.sha256(f'{common} {clip}'.encode()).hexdigest()[:32]}.npy"
            for clip in source.fingerprints(augment)
        ]
        features = ClipFeatures(
            paths, (*source.clip_shape[:-3], *network.output_shape[1:]), self.dtype
        )
        if all(path.exists() for path in paths):
            return features
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = self.folder / f".{hashlib.sha256(common.encode()).hexdigest()[:32]}.lock"
        with process_lock(lock, f"the feature cache '{self.folder}'", timeout=-1):
            missing = [i for i, path in enumerate(paths) if not path.exists()]
            if not missing:  # another process has extracted them in the meantime
                return features
            wanted = source.subset(missing)
            if through is None:
                rest, clips = network, wanted.clips(augment, variant)
            else:
                first, rest = through
                maps = self.features(first, wanted, augment=augment, variant=variant)
                clips = iter(maps)
            self._extract(rest, clips, features, missing)
        return features

    def _extract(
        self,
        network: keras.Model,
        clips: Iterator[np.ndarray],
        features: ClipFeatures,
        missing: list[int],
    ) -> None:
        started = time.monotonic()
        clip_bytes = int(np.prod(features.shape[1:])) * features.dtype.itemsize
        _check_room(self.folder, len(missing) * clip_bytes)

        @tf.function(reduce_retracing=True, autograph=False)
        def extract(frames: tf.Tensor) -> tf.Tensor:
            return network(tf.cast(frames, tf.float32), training=False)

        shown = track(clips, "Features", len(missing), transient=True)
        for i, clip in zip(missing, shown, strict=True):
            # (..., T, H, W, 3) -> (frames, H, W, 3)
            maps = extract(clip.reshape(-1, *clip.shape[-3:])).numpy()
            save_array(features.paths[i], maps.reshape(features.shape[1:]).astype(self.dtype))
        self.extraction_seconds += time.monotonic() - started


class CachedClips:
    """Feature maps of labelled clips as datasets.

    Args:
        variants: features `(n, T, h, w, D)`, of one stream or several, of several random crops of
            the same clips.
        labels: `(n,)` or `(n, C)`.
    """

    def __init__(
        self, variants: Sequence[ClipFeatures | StreamFeatures | np.ndarray], labels: np.ndarray
    ):
        self.variants = variants
        self.labels = labels

    def dataset(
        self,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int = 0,
        epoch: Callable[[], int] | None = None,
    ) -> tf.data.Dataset:
        """Batches of (maps, labels), of several streams of ((maps, maps), labels).

        Args:
            batch_size: clips of a batch.
            shuffle: draw the order, and each clip's variant, anew for each epoch; otherwise the
                clips come in order with variant 0.
            seed: of the draws.
            epoch: asked for the epoch's number whenever the dataset is iterated; by default every
                iteration is the next epoch.
        """
        epoch = epoch or itertools.count().__next__
        count, features = len(self.labels), self.variants[0]

        def batches() -> Iterator[tuple[Any, np.ndarray]]:
            order, chosen = np.arange(count), np.zeros(count, dtype=int)
            if shuffle:
                generator = np.random.default_rng([seed, epoch()])
                order = generator.permutation(count)
                chosen = generator.integers(len(self.variants), size=count)
            for start in range(0, count, batch_size):
                batch = order[start : start + batch_size]
                clips = [self.variants[chosen[i]][i] for i in batch]
                yield (
                    tf.nest.map_structure(lambda *maps: np.stack(maps), *clips),
                    self.labels[batch],
                )

        maps: Any = (
            tuple(map(_spec, features.streams))
            if isinstance(features, StreamFeatures)
            else _spec(features)
        )
        signature = maps, _spec(self.labels)
        dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
        cardinality = tf.data.experimental.assert_cardinality(-(-count // batch_size))
        return dataset.apply(cardinality).prefetch(2)


def _spec(rows: ClipFeatures | np.ndarray) -> tf.TensorSpec:
    return tf.TensorSpec((None, *rows.shape[1:]), rows.dtype)


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"The feature cache needs {needed / 2**30:.1f} GiB and '{folder}' has "
            f"{free / 2**30:.1f} GiB free. Choose another folder, float16, fewer cached crops, or "
            "switch the cache off."
        )


def save_array(path: Path, array: np.ndarray) -> None:
    """Write a file that appears when it is whole: two runs may fill one folder."""
    with write_aside(path) as aside:
        np.save(aside, array)
