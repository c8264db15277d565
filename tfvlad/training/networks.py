"""A clip model cut where its frozen part ends, and predictions through both parts."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfvlad.backbones import Backbone
from tfvlad.layers import FramewiseBackbone
from tfvlad.models import head_of, parts_of, with_num_frames
from tfvlad.models.assembly import one_or_all
from tfvlad.training.clip_source import ClipSource
from tfvlad.training.feature_cache import CachedClips, ClipFeatures, FeatureCache, StreamFeatures
from tfvlad.training.streams import PairedStreams, streams_of


def frozen_part(backbone: Backbone, freed_block: str | None) -> keras.Model:
    """What lies before the first block that is trained: from `(B, H, W, 3)` to maps.

    Args:
        backbone: of a stream.
        freed_block: name of the block; None for the whole backbone.
    """
    return backbone.model if freed_block is None else backbone.split_at(freed_block)[0]


def trained_part(model: keras.Model, freed_block: str | None) -> keras.Model:
    """What follows on the frozen parts: from the maps of clips `(B, T, h, w, D)` to logits.

    The layers are shared with `model`. A model of several streams takes the maps of each.

    Args:
        model: made by `tfvlad.models` on one backbone or more.
        freed_block: name of the first block that is trained, the same in all streams; None cuts
            behind the whole backbones.

    Raises:
        ValueError: when the model has no backbone, or its backbone no such block.
    """
    head = head_of(model)
    if freed_block is None:
        return head
    inputs, maps = [], []
    backbones = parts_of(model).backbones
    for number, (backbone, frames) in enumerate(zip(backbones, model.inputs, strict=True), 1):
        frozen, freed = backbone.split_at(freed_block)
        shape = (frames.shape[1], *frozen.output_shape[1:])
        inputs.append(keras.Input(shape, name=f"maps_{number}"))
        maps.append(FramewiseBackbone(freed, name=f"freed_blocks_{number}")(inputs[-1]))
    logits = head(one_or_all(maps))
    return keras.Model(one_or_all(inputs), logits, name=f"{model.name}_trained")


def frozen_features(
    cache: FeatureCache,
    model: keras.Model,
    source: ClipSource | PairedStreams,
    freed_block: str | None,
    *,
    later_freed_block: str | None = None,
    augment: bool = False,
    variant: int = 0,
) -> ClipFeatures | StreamFeatures:
    """Cached maps of a source where the frozen part of the backbone ends.

    Args:
        cache: the cache.
        model: whose backbones have their first weights still in the blocks before `freed_block`.
        source: the clips, with a stream for each backbone.
        freed_block: first block that is trained; None for the whole backbone's output.
        later_freed_block: with `freed_block=None`, a block that a later stage frees: the maps in
            front of it are cached on the way, and that stage finds them.
        augment: whether to crop and flip at random.
        variant: number of the random draw when augmenting.
    """
    features = []
    backbones = parts_of(model).backbones
    for backbone, clips in zip(backbones, streams_of(source), strict=True):
        network, through = frozen_part(backbone, freed_block), None
        if freed_block is None and later_freed_block is not None:
            through = backbone.split_at(later_freed_block)
        features.append(
            cache.features(network, clips, augment=augment, variant=variant, through=through)
        )
    return features[0] if len(features) == 1 else StreamFeatures(features)


def predict_logits(
    model: keras.Model,
    source: ClipSource | PairedStreams,
    *,
    freed_block: str | None = None,
    later_freed_block: str | None = None,
    cache: FeatureCache | None = None,
    one_bag: bool = False,
) -> np.ndarray:
    """Logits `(n, C)` of all clips of a source, averaged over its test crops and test clips.

    Args:
        model: the clip model.
        source: the clips, with a stream for each input of the model.
        freed_block: with a cache, the first block that training has changed: what lies before it
            is computed once for all models that share it.
        later_freed_block: see `frozen_features`.
        cache: of features; None runs the whole model on one clip after the other.
        one_bag: instead of averaging logits, pool the frames of all crops as those of one clip, as
            in ActionVLAD's released code.

    Raises:
        ValueError: when one bag is asked of a model that reads frames in their order.
    """
    if one_bag:
        model = as_one_bag(model, source)
    if cache is None:
        network, dataset = model, source.dataset(1, False, False, 0)
    else:
        network = trained_part(model, freed_block)
        features = frozen_features(
            cache, model, source, freed_block, later_freed_block=later_freed_block
        )
        dataset = CachedClips([features], source.labels).dataset(16, shuffle=False)
    return np.concatenate([view_mean(network, clips) for clips, _ in dataset])


def as_one_bag(model: keras.Model, source: ClipSource | PairedStreams) -> keras.Model:
    """The same layers on the frames of all views of a clip, as those of one clip.

    Raises:
        ValueError: when the model reads frames in their order.
    """
    check_one_bag(model)
    clip_shape = streams_of(source)[0].clip_shape
    return with_num_frames(model, int(np.prod(clip_shape[:-3])))


def check_one_bag(model: keras.Model) -> None:
    """Refuse one bag over all crops for a model that reads frames in their order.

    Raises:
        ValueError: when it does.
    """
    joint = parts_of(model).joint
    temporal = joint.temporal or joint.segments
    if temporal is not None:
        raise ValueError(
            f"One bag over all crops is for models that sum over time; '{model.name}' reads the "
            f"frames in their order ({temporal.name}). Average the crops' logits instead."
        )


def view_mean(network: keras.Model, clips: Any) -> np.ndarray:
    """Logits of a batch `(B, T, ...)`, or the mean over the views of `(B, views, T, ...)`.

    A network that takes as many frames as there are in all views gets them as one clip.
    """
    streams = [np.asarray(array) for array in tf.nest.flatten(clips)]
    batch, *shape = streams[0].shape
    rank = len(network.inputs[0].shape)
    if streams[0].ndim == rank:
        views = [streams]
    elif network.inputs[0].shape[1] == shape[0] * shape[1]:
        views = [[s.reshape(batch, -1, *s.shape[3:]) for s in streams]]
    else:
        views = [[s[:, view] for s in streams] for view in range(shape[0])]
    logits = [network.predict_on_batch(one_or_all(v)) for v in views]
    return np.mean(logits, axis=0)
