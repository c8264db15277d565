"""k-means centres for the VLAD layer of a model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from sklearn.cluster import MiniBatchKMeans

from tfvlad import compat
from tfvlad.layers import NetVLAD


def initialize_clusters(
    model: keras.Model,
    dataset: Iterable[Any],
    *,
    num_descriptors: int = 50_000,
    seed: int = 0,
    from_maps: bool = False,
) -> None:
    """Set the centres of a model's VLAD layer by mini-batch k-means on what it encodes.

    The dataset is streamed once. Of every clip, an equal share of its local features, over all
    frames and positions, is drawn at random and L2-normalised (where the layer does so): memory
    stays at `num_descriptors * D` floats whatever the size of the dataset.

    Args:
        model: a model with a `NetVLAD` or `ActionVLAD` layer.
        dataset: batches of the model's input, or `(input, label)`; its length must be known.
        num_descriptors: local features that k-means sees.
        seed: of the draws and of k-means.
        from_maps: the dataset holds the maps that the layer encodes in the place of frames.

    Raises:
        ValueError: the model has no VLAD layer, or there are fewer features than clusters.

    Reference:
        Girdhar et al., "ActionVLAD" (k-means on features of random frames). Their code takes all
        positions of one frame a video; here positions are drawn over all frames.
    """
    layers = [layer for layer in model.layers if isinstance(layer, NetVLAD)]
    if not layers:
        raise ValueError(f"The model '{model.name}' has no VLAD layer whose centres could be set.")
    layer = layers[0]
    encoded = compat.first_input(layer)
    encoded = encoded[0] if isinstance(encoded, (list, tuple)) else encoded
    encoder = None if from_maps else keras.Model(model.inputs, encoded)
    generator = np.random.default_rng(seed)
    num_clips = _num_clips(dataset)
    drawn = []
    for batch in dataset:
        inputs = batch[0] if isinstance(batch, (list, tuple)) else batch
        maps = inputs if encoder is None else encoder(inputs, training=False)
        maps = np.asarray(maps, dtype="float32")
        for clip in maps.reshape(len(maps), -1, maps.shape[-1]):
            share = min(len(clip), -(-num_descriptors // num_clips))
            drawn.append(clip[generator.choice(len(clip), share, replace=False)])
    descriptors = np.concatenate(drawn)[:num_descriptors]
    if len(descriptors) < layer.num_clusters:
        raise ValueError(
            f"k-means needs at least as many features as clusters. Received: {len(descriptors)} "
            f"features, num_clusters={layer.num_clusters}. Give more clips or fewer clusters."
        )
    if layer.normalize_input:
        norms = np.linalg.norm(descriptors, axis=-1, keepdims=True)
        descriptors = descriptors / np.maximum(norms, 1e-12)
    kmeans = MiniBatchKMeans(layer.num_clusters, random_state=seed, batch_size=4096, n_init=3)
    kmeans.fit(descriptors)
    layer.set_centers(kmeans.cluster_centers_, descriptors)


def _num_clips(dataset: Any) -> int:
    """Clips of a dataset: exact for arrays, an estimate from the first batch for batches."""
    first = next(iter(dataset))
    inputs = first[0] if isinstance(first, (list, tuple)) else first
    return max(len(dataset) * len(inputs), 1)
