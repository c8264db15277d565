"""k-means centres for the VLAD layers of a model."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from threadpoolctl import threadpool_limits

from tfvlad import compat
from tfvlad.layers import FramewiseBackbone, NetVLAD
from tfvlad.models import parts_of
from tfvlad.models.assembly import one_or_all
from tfvlad.training.feature_cache import save_array

# A backbone sees so many frames at a time. Of 224 pixels, VGG-16's largest map of them has 0.2 GB.
_NUM_FRAMES = 16


def initialize_clusters(
    model: keras.Model,
    dataset: Iterable[Any],
    *,
    num_descriptors: int = 50_000,
    seed: int = 0,
    from_maps: bool = False,
    folder: str | os.PathLike[str] | None = None,
) -> None:
    """Set the centres of a model's VLAD layers by mini-batch k-means on what each encodes.

    The dataset is streamed once. Of every clip, an equal share of its local features, over all
    frames and positions, is drawn at random and L2-normalised (where the layer does so). Memory
    stays at `num_descriptors * D` floats, the maps of a batch and what the backbone needs for a
    few frames, whatever the size of the dataset, the batches and the clips.

    Args:
        model: a model with a `NetVLAD` or `ActionVLAD` layer, or one for each of its streams.
        dataset: batches of the model's input, or `(input, label)`, with several streams
            `((frames, flow), label)`; its length must be known.
        num_descriptors: local features that k-means sees for each layer.
        seed: of the draws and of k-means.
        from_maps: the dataset holds the backbone's maps in the place of frames.
        folder: keeps the centres for the next model with as many clusters on the same features.

    Raises:
        ValueError: when the model has no VLAD layer, the clips do not have the shape that it takes,
            or there are fewer features than clusters.

    Reference:
        Girdhar et al., "ActionVLAD" (k-means on features of random frames). Their code takes all
        positions of one frame a video; here positions are drawn over all frames.
    """
    layers = parts_of(model).vlad_layers
    if not layers:
        raise ValueError(f"The model '{model.name}' has no VLAD layer whose centres could be set.")
    readers = _readers(model, from_maps)
    inputs = [entrance for entrance, _ in readers]
    # The maps themselves are no output of a model that begins with them: a copy is.
    encoded = [keras.layers.Activation("linear")(_encoded(layer)) for layer in layers]
    encoder = keras.Model(one_or_all(inputs), encoded)
    generator = np.random.default_rng(seed)
    num_clips = _num_clips(dataset)
    drawn: list[list[np.ndarray]] = [[] for _ in layers]
    for batch in dataset:
        streams = [read(stream) for (_, read), stream in zip(readers, _streams(batch), strict=True)]
        clips = tf.nest.flatten(encoder(one_or_all(streams), training=False))
        for found, maps in zip(drawn, clips, strict=True):
            for clip in np.asarray(maps, "float32").reshape(len(maps), -1, maps.shape[-1]):
                share = min(len(clip), -(-num_descriptors // num_clips))
                found.append(clip[generator.choice(len(clip), share, replace=False)])
    for layer, found in zip(layers, drawn, strict=True):
        _set_centers(layer, np.concatenate(found)[:num_descriptors], seed, folder)


def _readers(
    model: keras.Model, from_maps: bool
) -> list[tuple[Any, Callable[[tf.Tensor], tf.Tensor]]]:
    """Where each stream enters the encoder, a symbolic tensor, and what is done to it before."""
    backbones = parts_of(model).backbone_layers
    if from_maps:
        return [(compat.first_output(backbone), _as_float) for backbone in backbones]
    following = {id(compat.first_input(backbone)): backbone for backbone in backbones}
    readers: list[tuple[Any, Callable[[tf.Tensor], tf.Tensor]]] = []
    for entrance in model.inputs:
        backbone = following.get(id(entrance))
        if backbone is None:
            readers.append((entrance, _as_float))
        else:
            readers.append((compat.first_output(backbone), _maps_of(backbone, entrance.shape)))
    return readers


def _as_float(stream: tf.Tensor) -> tf.Tensor:
    return tf.cast(stream, tf.float32)


def _maps_of(backbone: FramewiseBackbone, shape: Any) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function from clips `(B, T, ...)` of the shape to their maps, a few frames at a time."""
    spec = tf.TensorSpec((1, None, *shape[2:]), tf.float32)
    few_maps = tf.function(lambda frames: backbone(frames, training=False), input_signature=[spec])

    def maps(clips: tf.Tensor) -> tf.Tensor:
        if not clips.shape.is_compatible_with(shape):
            raise ValueError(
                f"`dataset` must have clips of the shape {tuple(shape[1:])}, as the model takes "
                f"them. Received: shape {tuple(clips.shape[1:])}."
            )
        # (B, T, ...) -> (1, B*T, ...)
        frames = tf.reshape(clips, (1, -1, *clips.shape[2:]))
        parts = [
            few_maps(_as_float(frames[:, start : start + _NUM_FRAMES]))
            for start in range(0, frames.shape[1], _NUM_FRAMES)
        ]
        joined = tf.concat(parts, axis=1)
        return tf.reshape(joined, (*clips.shape[:2], *joined.shape[2:]))

    return maps


def _encoded(layer: NetVLAD) -> Any:
    """Symbolic features that the layer encodes."""
    inputs = compat.first_input(layer)
    return inputs[0] if isinstance(inputs, (list, tuple)) else inputs


def _set_centers(
    layer: NetVLAD, descriptors: np.ndarray, seed: int, folder: str | os.PathLike[str] | None
) -> None:
    if len(descriptors) < layer.num_clusters:
        raise ValueError(
            f"k-means needs at least as many features as clusters. Received: {len(descriptors)} "
            f"features, num_clusters={layer.num_clusters}. Give more clips or fewer clusters."
        )
    if layer.normalize_input:
        norms = np.linalg.norm(descriptors, axis=-1, keepdims=True)
        descriptors = descriptors / np.maximum(norms, 1e-12)
    layer.set_centers(_centers(descriptors, layer.num_clusters, seed, folder), descriptors)


def _centers(
    descriptors: np.ndarray, num_clusters: int, seed: int, folder: str | os.PathLike[str] | None
) -> np.ndarray:
    """k-means centres `(K, D)`, from the folder where they are known."""
    if folder is None:
        return _k_means(descriptors, num_clusters, seed)
    # A name from the features themselves: whatever changes them changes it.
    digest = hashlib.sha256(f"{num_clusters} {seed}".encode())
    digest.update(np.ascontiguousarray(descriptors).data)
    path = Path(folder) / f"centers-{digest.hexdigest()[:32]}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_array(path, _k_means(descriptors, num_clusters, seed))
    return np.load(path)


def _k_means(descriptors: np.ndarray, num_clusters: int, seed: int) -> np.ndarray:
    from sklearn.cluster import MiniBatchKMeans  # slow to import

    kmeans = MiniBatchKMeans(num_clusters, random_state=seed, batch_size=4096, n_init=3)
    # On a busy machine its threads wait for each other, spinning, longer than one computes.
    with threadpool_limits(1):
        return kmeans.fit(descriptors).cluster_centers_


def _streams(batch: Any) -> list[tf.Tensor]:
    """The model's inputs of a batch of them alone or of `(input, label)`."""
    inputs = batch[0] if isinstance(batch, (list, tuple)) else batch
    return [tf.convert_to_tensor(stream) for stream in tf.nest.flatten(inputs)]


def _num_clips(dataset: Any) -> int:
    """Clips of a dataset: exact for arrays, an estimate from the first batch for batches."""
    return max(len(dataset) * len(_streams(next(iter(dataset)))[0]), 1)
