"""Training in stages on cached features, resumable at any epoch."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfvlad.backbones import Backbone
from tfvlad.models import parts_of
from tfvlad.training.clip_source import ClipSource
from tfvlad.training.clusters import initialize_clusters
from tfvlad.training.feature_cache import CachedClips, FeatureCache
from tfvlad.training.networks import frozen_features, trained_part
from tfvlad.training.stage_run import compile_network, fit_stage, hash_of, resume, save_stage
from tfvlad.training.stages import Stage, ta_vlad_stages
from tfvlad.training.streams import PairedStreams
from tfvlad.training.training_state import TrainingState


def fit_in_stages(
    model: keras.Model,
    training: ClipSource | PairedStreams,
    validation: ClipSource | PairedStreams,
    folder: str | os.PathLike[str],
    *,
    stages: Sequence[Stage] | None = None,
    batch_size: int = 16,
    seed: int = 0,
    cache: FeatureCache | None = None,
    num_cached_crops: int = 4,
    max_epochs: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> list[dict[str, float]]:
    """Train a clip model stage by stage and leave the best weights in it.

    The VLAD layers' centres are set by k-means first. After every epoch the state goes to the
    folder; the same call goes on from there. A stage ends with the weights of its own best epoch on
    the validation clips: the highest top-1 accuracy (area under the precision-recall curve for
    several labels), the lower loss among equals. The folder gets `state.npz`, `history.csv`,
    `stage<n>.keras` and TensorBoard's logs. The weights of the backbone that the model was built on
    are changed in place: build a new one for the next model.

    With a cache, what is frozen in a stage is computed once: the last feature map while the whole
    backbone is frozen, else the input of the freed block. Augmentation is then over
    `num_cached_crops` random crops of each clip, of which every epoch draws one.

    Args:
        model: made by `tfvlad.models` on one backbone or more, or loaded from its file.
        training: clips to learn from, augmented; with a stream for each backbone.
        validation: clips by which the best epoch is chosen, not augmented.
        folder: of the run.
        stages: TA-VLAD's two by default, freeing the backbone's last block.
        batch_size: clips of a batch.
        seed: of the order, of which cached crop an epoch draws, of dropout and of k-means. The
            crops come from the source's own seed, the model's first weights from its making: call
            `keras.utils.set_random_seed` before that.
        cache: None computes everything anew in each epoch.
        num_cached_crops: random crops of a training clip that are cached.
        max_epochs: pause when the run has had as many in all its stages; the same call with more
            goes on from there, to the same end.
        callbacks: called in each stage.

    Returns:
        A row for each epoch: stage, epoch, learning rate, losses, measures and seconds.

    Raises:
        ValueError: when the folder holds a run with other settings, a source is empty, or the model
            has no backbone, or none of the blocks that a stage frees.
        FloatingPointError: when the loss is not a number any more.
    """
    parts = parts_of(model)
    if not parts.backbones:
        raise ValueError(
            f"`model` must be built on a backbone. Received: '{model.name}', which has none of its "
            "own. Train the models of a fusion one by one, and a model of features by "
            "`fit_on_features`."
        )
    if stages is None:
        stages = ta_vlad_stages(_last_block(parts.backbones[0]))
    counts = {"batch_size": batch_size, "num_cached_crops": num_cached_crops}
    for name, count in {**counts, "max_epochs": max_epochs}.items():
        if count is not None and count < 1:
            raise ValueError(f"`{name}` must be a positive integer. Received: {name}={count}.")
    for name, source in (("training", training), ("validation", validation)):
        if not len(source):
            raise ValueError(f"`{name}` must hold at least one clip. Received: an empty source.")
    folder = Path(folder)
    clips = _Clips(training, validation, batch_size, seed, cache, num_cached_crops)
    state = resume(folder, _settings(model, clips, stages))
    if state.stage > 0:
        model.load_weights(folder / f"stage{state.stage}.keras")
    for number in range(state.stage, len(stages)):
        if number > state.stage:
            if max_epochs is not None and len(state.history) >= max_epochs:
                break
            state = TrainingState(state.settings, stage=number, history=state.history)
        _fit_stage(model, clips, stages[number:], state, folder, callbacks, max_epochs)
        if not state.is_finished:
            break
    return state.history


@dataclass(frozen=True, eq=False)
class _Clips:
    """The clips of a training, and how they are seen: see `fit_in_stages`."""

    training: ClipSource | PairedStreams
    validation: ClipSource | PairedStreams
    batch_size: int
    seed: int
    cache: FeatureCache | None
    num_cached_crops: int


def _settings(model: keras.Model, clips: _Clips, stages: Sequence[Stage]) -> dict[str, Any]:
    """What a run depends on."""
    parts, cache = parts_of(model), clips.cache
    head = [layer.get_config() for layer in parts.head_layers]
    return {
        "model": model.name,
        "head": hash_of([json.dumps(head, sort_keys=True, default=str)]),
        "backbone": " ".join(backbone.fingerprint() for backbone in parts.backbones),
        "stages": [asdict(stage) for stage in stages],
        "batch_size": clips.batch_size,
        "seed": clips.seed,
        "num_cached_crops": clips.num_cached_crops if cache else None,
        "cache_dtype": cache.dtype if cache else None,
        "training clips": hash_of(clips.training.fingerprints(True)),
        "validation clips": hash_of(clips.validation.fingerprints(False)),
        "labels": hash_of([str(s.labels.tolist()) for s in (clips.training, clips.validation)]),
    }


def _fit_stage(
    model: keras.Model,
    clips: _Clips,
    stages: Sequence[Stage],
    state: TrainingState,
    folder: Path,
    callbacks: Sequence[keras.callbacks.Callback],
    max_epochs: int | None,
) -> None:
    """Train the first of `stages` from the state on, and leave its best weights in the model."""
    stage = stages[0]
    if clips.cache is None:
        # Compiled in its place: a stage's file holds no optimizer, with a cache or without.
        network = keras.Model(model.input, model.output, name=model.name)
    else:
        network = trained_part(model, stage.freed_block)
    _set_trainable(model, stage)
    compile_network(network, stage, clips.training.labels)
    if state.weights:
        state.restore(network)
    if not state.is_finished:
        datasets = _datasets(model, clips, stages, state)
        if state.stage == 0 and not state.weights:
            _set_clusters(model, clips, stage, datasets[0])
        fit_stage(network, datasets, stage, state, folder, clips.seed, callbacks, max_epochs)
    network.set_weights(state.best_weights)
    save_stage(model, folder, state.stage + 1)


def _set_clusters(
    model: keras.Model, clips: _Clips, stage: Stage, dataset: tf.data.Dataset
) -> None:
    """Set the VLAD layers' centres by k-means on the training clips, if there are such layers."""
    if not parts_of(model).vlad_layers:
        return
    on_maps = clips.cache is not None and stage.freed_block is None
    initialize_clusters(
        model,
        dataset if on_maps else clips.training.dataset(clips.batch_size, True, True, 0),
        seed=clips.seed,
        from_maps=on_maps,
        folder=clips.cache.folder if clips.cache else None,
    )


def _last_block(backbone: Backbone) -> str:
    if not backbone.blocks:
        raise ValueError(
            f"The backbone '{backbone.name}' names no blocks, so that stage 2 cannot free its last "
            "one. Give `stages` that leave it frozen, or a backbone with `blocks`."
        )
    return list(backbone.blocks)[-1]


def _datasets(
    model: keras.Model, clips: _Clips, stages: Sequence[Stage], state: TrainingState
) -> tuple[tf.data.Dataset, tf.data.Dataset]:
    """Training and validation data of the first of `stages`."""
    training, validation = clips.training, clips.validation
    epoch = functools.partial(getattr, state, "epoch")
    if clips.cache is None:
        return (
            training.dataset(clips.batch_size, True, True, epoch),
            validation.dataset(clips.batch_size, False, False, 0),
        )
    later = next((stage.freed_block for stage in stages if stage.freed_block), None)
    cached = functools.partial(
        frozen_features,
        clips.cache,
        model,
        freed_block=stages[0].freed_block,
        later_freed_block=later,
    )
    variants = [
        cached(source=training, augment=True, variant=variant)
        for variant in range(clips.num_cached_crops)
    ]
    training_clips = CachedClips(variants, training.labels)
    validation_clips = CachedClips([cached(source=validation)], validation.labels)
    return (
        training_clips.dataset(clips.batch_size, shuffle=True, seed=clips.seed, epoch=epoch),
        validation_clips.dataset(clips.batch_size, shuffle=False),
    )


def _set_trainable(model: keras.Model, stage: Stage) -> None:
    parts = parts_of(model)
    for backbone in parts.backbones:
        backbone.set_trainable(stage.freed_block, batch_norm=stage.batch_norm)
    known = {layer.name for layer in parts.head_layers if layer.weights}
    # A stage's list serves every model: "shared_gru" is passed over where there is none.
    chosen = known if stage.trainable_layers is None else known & set(stage.trainable_layers)
    if not chosen:
        raise ValueError(
            f"`trainable_layers` must name layers of '{model.name}', which has {sorted(known)}. "
            f"Received: {stage.trainable_layers}."
        )
    attention = parts.joint.attention
    if attention is not None and any(backbone.has_frozen_copy for backbone in parts.backbones):
        chosen = chosen - {attention.name}
    for layer in parts.head_layers:
        layer.trainable = layer.name in chosen
