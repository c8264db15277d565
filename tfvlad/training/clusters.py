"""k-means centres for the VLAD layers of a model."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from tfvlad import compat
from tfvlad.layers import FramewiseBackbone, NetVLAD
from tfvlad.training.feature_cache import save_array


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
    frames and positions, is drawn at random and L2-normalised (where the layer does so): memory
    stays at `num_descriptors * D` floats whatever the size of the dataset.

    Args:
        model: a model with a `NetVLAD` or `ActionVLAD` layer, or one for each of its streams.
        dataset: batches of the model's input, or `(input, label)`, with several streams
            `((frames, flow), label)`; its length must be known.
        num_descriptors: local features that k-means sees for each layer.
        seed: of the draws and of k-means.
        from_maps: the dataset holds the backbone's maps in the place of frames.
        folder: keeps the centres for the next model with as many clusters on the same features.

    Raises:
        ValueError: the model has no VLAD layer, or there are fewer features than clusters.

    Reference:
        Girdhar et al., "ActionVLAD" (k-means on features of random frames). Their code takes all
        positions of one frame a video; here positions are drawn over all frames.
    """
    layers = [layer for layer in model.layers if isinstance(layer, NetVLAD)]
    if not layers:
        raise ValueError(f"The model '{model.name}' has no VLAD layer whose centres could be set.")
    backbones = [layer for layer in model.layers if isinstance(layer, FramewiseBackbone)]
    inputs = [compat.first_output(layer) for layer in backbones] if from_maps else model.inputs
    # The maps themselves are no output of a model that begins with them: a copy is.
    encoded = [keras.layers.Activation("linear")(_encoded(layer)) for layer in layers]
    encoder = keras.Model(inputs[0] if len(inputs) == 1 else inputs, encoded)
    generator = np.random.default_rng(seed)
    num_clips = _num_clips(dataset)
    drawn: list[list[np.ndarray]] = [[] for _ in layers]
    for batch in dataset:
        clips = tf.nest.flatten(encoder(_inputs(batch), training=False))
        for found, maps in zip(drawn, clips, strict=True):
            for clip in np.asarray(maps, "float32").reshape(len(maps), -1, maps.shape[-1]):
                share = min(len(clip), -(-num_descriptors // num_clips))
                found.append(clip[generator.choice(len(clip), share, replace=False)])
    for layer, found in zip(layers, drawn, strict=True):
        _set_centers(layer, np.concatenate(found)[:num_descriptors], seed, folder)


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
    kmeans = MiniBatchKMeans(num_clusters, random_state=seed, batch_size=4096, n_init=3)
    # On a busy machine its threads wait for each other, spinning, longer than one computes.
    with threadpool_limits(1):
        return kmeans.fit(descriptors).cluster_centers_


def _inputs(batch: Any) -> Any:
    """The model's input of a batch of it alone or of `(input, label)`, float32."""
    inputs = batch[0] if isinstance(batch, (list, tuple)) else batch
    return tf.nest.map_structure(lambda x: tf.cast(x, tf.float32), inputs)


def _num_clips(dataset: Any) -> int:
    """Clips of a dataset: exact for arrays, an estimate from the first batch for batches."""
    return max(len(dataset) * len(tf.nest.flatten(_inputs(next(iter(dataset))))[0]), 1)
