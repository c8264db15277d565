"""A clip model cut where its frozen part ends, and predictions through both parts."""

from __future__ import annotations

import keras
import numpy as np

from tfvlad.backbones import Backbone
from tfvlad.layers import FramewiseBackbone
from tfvlad.models import head_of
from tfvlad.training.clip_source import ClipSource
from tfvlad.training.feature_cache import CachedClips, ClipFeatures, FeatureCache


def split_networks(
    model: keras.Model, backbone: Backbone, freed_block: str | None
) -> tuple[keras.Model, keras.Model]:
    """Cut a clip model in front of the first block that is trained.

    Args:
        model: made by `tfvlad.models` on this backbone.
        backbone: of the model.
        freed_block: name of the block; None cuts behind the whole backbone.

    Returns:
        `(frozen, trained)`: from frames `(B, H, W, 3)` to maps, and from the maps of a clip's
        frames `(B, T, h, w, D)` to logits. Both share their layers with `model`.
    """
    head = head_of(model)
    if freed_block is None:
        return backbone.model, head
    frozen, freed = backbone.split_at(freed_block)
    maps = keras.Input((model.input_shape[1], *frozen.output_shape[1:]), name="maps")
    logits = head(FramewiseBackbone(freed, name="freed_blocks")(maps))
    return frozen, keras.Model(maps, logits, name=f"{model.name}_trained")


def frozen_features(
    cache: FeatureCache,
    backbone: Backbone,
    source: ClipSource,
    freed_block: str | None,
    *,
    later_freed_block: str | None = None,
    augment: bool = False,
    variant: int = 0,
) -> ClipFeatures:
    """Cached maps of a source where the frozen part of the backbone ends.

    Args:
        cache: the cache.
        backbone: whose blocks before `freed_block` have their first weights still.
        source: the clips.
        freed_block: first block that is trained; None for the whole backbone's output.
        later_freed_block: with `freed_block=None`, a block that a later stage frees: the maps in
            front of it are cached on the way, and that stage finds them.
        augment: whether to crop and flip at random.
        variant: number of the random draw when augmenting.
    """
    block = later_freed_block if freed_block is None else freed_block
    if block is None:
        return cache.features(backbone.model, source, augment=augment, variant=variant)
    frozen, freed = backbone.split_at(block)
    if freed_block is not None:
        return cache.features(frozen, source, augment=augment, variant=variant)
    return cache.features(freed, source, augment=augment, variant=variant, through=frozen)


def predict_logits(
    model: keras.Model,
    source: ClipSource,
    *,
    backbone: Backbone | None = None,
    freed_block: str | None = None,
    later_freed_block: str | None = None,
    cache: FeatureCache | None = None,
) -> np.ndarray:
    """Logits `(n, C)` of all clips of a source, averaged over its test crops.

    Args:
        model: the clip model.
        source: the clips.
        backbone: of the model; needed with a cache.
        freed_block: with a cache, the first block that training has changed: what lies before it
            is computed once for all models that share it.
        later_freed_block: see `frozen_features`.
        cache: of features; None runs the whole model on one clip after the other.
    """
    if cache is None or backbone is None:
        dataset = source.dataset(1, False, False, 0)
        return np.concatenate([_crop_mean(model, clips.numpy()) for clips, _ in dataset])
    _, trained = split_networks(model, backbone, freed_block)
    features = frozen_features(
        cache, backbone, source, freed_block, later_freed_block=later_freed_block
    )
    dataset = CachedClips([features], source.labels).dataset(16, shuffle=False)
    return np.concatenate([_crop_mean(trained, maps.numpy()) for maps, _ in dataset])


def _crop_mean(network: keras.Model, batch: np.ndarray) -> np.ndarray:
    """Logits of a batch `(B, T, ...)`, or the mean over the crops of `(B, crops, T, ...)`."""
    if batch.ndim == len(network.input_shape):
        return network.predict_on_batch(batch)
    crops = [network.predict_on_batch(batch[:, crop]) for crop in range(batch.shape[1])]
    return np.mean(crops, axis=0)
