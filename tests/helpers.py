"""What several test modules need."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Standard normal float32 numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def uniform(*shape: int, seed: int = 0) -> np.ndarray:
    """Uniform float32 numbers of [0.1, 1)."""
    return np.random.default_rng(seed).uniform(0.1, 1.0, shape).astype("float32")


def slow_except(values: Iterable[Any], *fast: Any) -> list[Any]:
    """The values of a parametrised test, of which all but `fast` are left to `make test-slow`."""
    values = list(values)
    assert set(fast) <= set(values)
    parameters = [value if isinstance(value, tuple) else (value,) for value in values]
    return [
        pytest.param(*parameter, marks=() if value in fast else pytest.mark.slow)
        for value, parameter in zip(values, parameters, strict=True)
    ]


def numeric_gradient(
    function: Callable[[np.ndarray], float], x: np.ndarray, step: float = 1e-6
) -> np.ndarray:
    """Central finite differences of a scalar function, in float64."""
    x = np.array(x, "float64")
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        value = x[index]
        x[index] = value + step
        above = function(x)
        x[index] = value - step
        below = function(x)
        x[index] = value
        gradient[index] = (above - below) / (2 * step)
    return gradient


def assert_close_to_scale(actual: np.ndarray, expected: np.ndarray, rtol: float) -> None:
    """Like `assert_allclose`, relative to the largest entry."""
    scale = np.max(np.abs(expected))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * scale)


def tiny_backbone(*, classifier: bool = True, seed: int = 0) -> Any:
    """Two convolutions with batch norms: images of 32 pixels to maps `(4, 4, 6)`, 5 objects."""
    import keras

    from tfvlad.backbones import from_model

    keras.utils.set_random_seed(seed)
    images = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(images)
    for block, (filters, strides) in enumerate(((4, 4), (6, 2)), 1):
        x = keras.layers.Conv2D(
            filters, 3, strides=strides, padding="same", use_bias=False, name=f"conv{block}"
        )(x)
        x = keras.layers.BatchNormalization(name=f"bn{block}")(x)
        x = keras.layers.ReLU(name=f"relu{block}")(x)
    model = keras.Model(images, x, name="tiny")
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([uniform(*w.shape, seed=n) for n, w in enumerate(layer.weights)])
    return from_model(
        model,
        classifier_kernel=normal(6, 5) if classifier else None,
        classifier_bias=normal(5) if classifier else None,
        blocks={"block1": ("conv1", "bn1", "relu1"), "block2": ("conv2", "bn2")},
    )


def small_resnet(
    *, weights: str | os.PathLike[str] | None = None, image_size: int | tuple[int, int] = 32
) -> Any:
    """In the place of ResNet-18 where its size does not matter: 8 channels, 1/8, 5 objects."""
    import keras

    from tfvlad.backbones import from_model
    from tfvlad.backbones.backbone import input_images

    assert weights is None
    images = input_images(image_size)
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(images)
    for block, strides in (("stem", 4), ("layer1", 2)):
        x = keras.layers.Conv2D(
            8, 3, strides=strides, padding="same", use_bias=False, name=f"{block}.conv"
        )(x)
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"{block}.bn")(x)
        x = keras.layers.ReLU(name=f"{block}.relu")(x)
    classifier = keras.layers.Dense(5)
    classifier.build((None, 8))
    kernel, bias = classifier.get_weights()
    return from_model(
        keras.Model(images, x, name="resnet18"),
        classifier_kernel=kernel,
        classifier_bias=bias,
        blocks={
            "stem": ("stem.conv", "stem.bn", "stem.relu"),
            "layer1": ("layer1.conv", "layer1.bn"),
        },
    )


class MemoryClips:
    """A `tfvlad.training.ClipSource` in memory: noise, tinted by the class.

    An augmented clip is rolled by a number of pixels drawn from the variant and the clip.

    Attributes:
        decoded: a list, shared with subsets, of the names of the clips that were read.
    """

    def __init__(
        self,
        frames: np.ndarray,
        labels: np.ndarray,
        class_names: Sequence[str] = ("red", "green", "blue"),
        names: Sequence[str] | None = None,
        decoded: list[str] | None = None,
    ):
        self.frames = frames
        self.labels = labels
        self.class_names = class_names
        self.names = names or [f"clip{i}" for i in range(len(frames))]
        self.decoded: list[str] = [] if decoded is None else decoded

    @classmethod
    def random(
        cls, count: int, *, num_frames: int = 3, crops: tuple = (), multi_label=False, seed: int = 0
    ) -> MemoryClips:
        generator = np.random.default_rng(seed)
        labels = (np.arange(count) % 3).astype("int32")
        frames = generator.integers(0, 200, (count, *crops, num_frames, 32, 32, 3))
        for clip, label in zip(frames, labels, strict=True):
            clip[..., label] += 55
        if multi_label:
            labels = np.eye(3, dtype="float32")[labels]
            labels[::2, 0] = 1
        return cls(frames.astype("uint8"), labels, names=[f"{seed}-{i}" for i in range(count)])

    @property
    def clip_shape(self) -> tuple[int, ...]:
        return self.frames.shape[1:]

    def __len__(self) -> int:
        return len(self.frames)

    def fingerprints(self, augment: bool) -> list[str]:
        return [f"{name} {self.clip_shape} {augment}" for name in self.names]

    def subset(self, indices: Sequence[int]) -> MemoryClips:
        chosen = list(indices)
        names = [self.names[i] for i in chosen]
        return MemoryClips(
            self.frames[chosen], self.labels[chosen], self.class_names, names, self.decoded
        )

    def with_num_frames(self, num_frames: int) -> MemoryClips:
        frames = self.frames[..., np.arange(num_frames) % self.clip_shape[-4], :, :, :]
        return MemoryClips(frames, self.labels, self.class_names, self.names, self.decoded)

    def clips(self, augment: bool, variant: int) -> Iterator[np.ndarray]:
        for name, clip in zip(self.names, self.frames, strict=True):
            self.decoded.append(name)
            yield self._rolled(name, clip, variant) if augment else clip

    def dataset(
        self, batch_size: int, shuffle: bool, augment: bool, epoch: int | Callable[[], int]
    ) -> Any:
        import tensorflow as tf

        def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            number = epoch() if callable(epoch) else epoch
            order = np.arange(len(self))
            if shuffle:
                order = np.random.default_rng(number).permutation(order)
            for start in range(0, len(self), batch_size):
                batch = order[start : start + batch_size]
                clips = list(self.subset(batch).clips(augment, number))
                yield np.stack(clips), self.labels[batch]

        signature = (
            tf.TensorSpec((None, *self.clip_shape), tf.uint8),
            tf.TensorSpec((None, *self.labels.shape[1:]), self.labels.dtype),
        )
        dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
        return dataset.apply(tf.data.experimental.assert_cardinality(-(-len(self) // batch_size)))

    @staticmethod
    def _rolled(name: str, clip: np.ndarray, variant: int) -> np.ndarray:
        pixels = np.random.default_rng([variant, *name.encode()]).integers(1, 32)
        return np.roll(clip, pixels, axis=-2)


class MemoryFeatures:
    """A `tfvlad.training.FeatureSource` in memory: noise, moved by the class."""

    class_names = ("one", "two", "three")

    def __init__(
        self,
        count: int,
        *,
        num_steps: Sequence[int] = (3, 4),
        num_channels: Sequence[int] = (5, 6),
        num_sets: int = 2,
        multi_label: bool = False,
        seed: int = 0,
    ):
        self.arguments = {"num_channels": num_channels, "num_sets": num_sets}
        self.arguments |= {"multi_label": multi_label, "seed": seed}
        labels = (np.arange(count) % 3).astype("int32")
        shapes = list(zip(num_steps, num_channels, strict=True))[:num_sets]
        self.sets = [
            normal(count, *shape, seed=seed + n) + labels[:, None, None]
            for n, shape in enumerate(shapes)
        ]
        self.labels = labels
        if multi_label:
            self.labels = np.eye(3, dtype="float32")[labels]
            self.labels[::2, 0] = 1
        self.seed = seed

    def __len__(self) -> int:
        return len(self.labels)

    def with_num_steps(self, num_steps: Sequence[int]) -> MemoryFeatures:
        return MemoryFeatures(len(self), num_steps=num_steps, **self.arguments)

    def fingerprints(self, augment: bool) -> list[str]:
        return [f"{self.seed} {i} {augment}" for i in range(len(self))]

    def dataset(self, batch_size: int, shuffle: bool, augment: bool, epoch: Any) -> Any:
        import tensorflow as tf

        def batches() -> Iterator[tuple[Any, np.ndarray]]:
            number = epoch() if callable(epoch) else epoch
            order = np.arange(len(self))
            if shuffle:
                order = np.random.default_rng(number).permutation(order)
            for start in range(0, len(self), batch_size):
                batch = order[start : start + batch_size]
                noise = 0.1 * normal(1, seed=number)[0] if augment else 0.0
                inputs = tuple(features[batch] + np.float32(noise) for features in self.sets)
                yield inputs if len(inputs) > 1 else inputs[0], self.labels[batch]

        specs = tuple(tf.TensorSpec((None, *x.shape[1:]), tf.float32) for x in self.sets)
        signature = (
            specs if len(specs) > 1 else specs[0],
            tf.TensorSpec((None, *self.labels.shape[1:]), self.labels.dtype),
        )
        dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
        return dataset.apply(tf.data.experimental.assert_cardinality(-(-len(self) // batch_size)))

    def test_chunks(self, num_chunks: int, flipped: bool) -> Iterator[tuple[np.ndarray, ...]]:
        for clip in zip(*self.sets, strict=True):
            yield tuple(
                np.stack([part + n for n in range(num_chunks * (1 + flipped))]) for part in clip
            )
