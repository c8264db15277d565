"""Training in stages on cached features, resumable at any epoch."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import keras
import tensorflow as tf

from tfvlad.backbones import Backbone
from tfvlad.layers import FramewiseBackbone, NetVLAD
from tfvlad.training.clip_source import ClipSource
from tfvlad.training.clusters import initialize_clusters
from tfvlad.training.feature_cache import CachedClips, FeatureCache
from tfvlad.training.networks import backbones_of, frozen_features, trained_part
from tfvlad.training.stage_run import compile_network, fit_stage, hash_of, resume, save_stage
from tfvlad.training.stages import Stage, ta_vlad_stages
from tfvlad.training.streams import PairedStreams
from tfvlad.training.training_state import TrainingState


def fit_in_stages(
    model: keras.Model,
    backbone: Backbone | Sequence[Backbone],
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
    `stage<n>.keras` and TensorBoard's logs. The backbone's weights are changed in place: build a
    new backbone for the next model.

    With a cache, what is frozen in a stage is computed once: the last feature map while the whole
    backbone is frozen, else the input of the freed block. Augmentation is then over
    `num_cached_crops` random crops of each clip, of which every epoch draws one.

    Args:
        model: made by `tfvlad.models` on this backbone.
        backbone: of the model, or of each of its streams, whose blocks are freed.
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
        ValueError: the folder holds a run with other settings, or a source is empty.
        FloatingPointError: the loss is not a number any more.
    """
    backbones = backbones_of(backbone)
    if stages is None:
        if not backbones[0].blocks:
            raise ValueError(
                f"The backbone '{backbones[0].name}' names no blocks, so that stage 2 cannot free "
                "its last one. Give `stages` that leave it frozen, or a backbone with `blocks`."
            )
        stages = ta_vlad_stages(list(backbones[0].blocks)[-1])
    counts = {"batch_size": batch_size, "num_cached_crops": num_cached_crops}
    for name, count in {**counts, "max_epochs": max_epochs}.items():
        if count is not None and count < 1:
            raise ValueError(f"`{name}` must be a positive integer. Received: {name}={count}.")
    for name, source in (("training", training), ("validation", validation)):
        if not len(source):
            raise ValueError(f"`{name}` must hold at least one clip. Received: an empty source.")
    folder = Path(folder)
    head = [layer.get_config() for layer in _head_layers(model)]
    settings = {
        "model": model.name,
        "head": hash_of([json.dumps(head, sort_keys=True, default=str)]),
        "backbone": " ".join(stream.fingerprint() for stream in backbones),
        "stages": [asdict(stage) for stage in stages],
        "batch_size": batch_size,
        "seed": seed,
        "num_cached_crops": num_cached_crops if cache else None,
        "cache_dtype": cache.dtype if cache else None,
        "training clips": hash_of(training.fingerprints(True)),
        "validation clips": hash_of(validation.fingerprints(False)),
        "labels": hash_of([str(s.labels.tolist()) for s in (training, validation)]),
    }
    state = resume(folder, settings)
    if state.stage > 0:
        model.load_weights(folder / f"stage{state.stage}.keras")
    for number in range(state.stage, len(stages)):
        stage = stages[number]
        if number > state.stage:
            if max_epochs is not None and len(state.history) >= max_epochs:
                break
            state = TrainingState(state.settings, stage=number, history=state.history)
        if cache is None:
            # Compiled in its place: a stage's file holds no optimizer, with a cache or without.
            network = keras.Model(model.input, model.output, name=model.name)
        else:
            network = trained_part(model, backbones, stage.freed_block)
        _set_trainable(model, backbones, stage)
        compile_network(network, stage, training.labels)
        if state.weights:
            state.restore(network)
        if not state.is_finished:
            datasets = _datasets(
                backbones,
                training,
                validation,
                stages[number:],
                state,
                batch_size,
                seed,
                cache,
                num_cached_crops,
            )
            has_clusters = any(isinstance(layer, NetVLAD) for layer in model.layers)
            if has_clusters and number == 0 and not state.weights:
                on_maps = cache is not None and stage.freed_block is None
                clips = datasets[0] if on_maps else training.dataset(batch_size, True, True, 0)
                initialize_clusters(
                    model,
                    clips,
                    seed=seed,
                    from_maps=on_maps,
                    folder=cache.folder if cache else None,
                )
            fit_stage(network, datasets, stage, state, folder, seed, callbacks, max_epochs)
        network.set_weights(state.best_weights)
        save_stage(model, folder, number + 1)
        if not state.is_finished:
            break
    return state.history


def _datasets(
    backbones: Sequence[Backbone],
    training: ClipSource | PairedStreams,
    validation: ClipSource | PairedStreams,
    stages: Sequence[Stage],
    state: TrainingState,
    batch_size: int,
    seed: int,
    cache: FeatureCache | None,
    num_cached_crops: int,
) -> tuple[tf.data.Dataset, tf.data.Dataset]:
    """Training and validation data of the first of `stages`."""
    epoch = functools.partial(getattr, state, "epoch")
    if cache is None:
        return (
            training.dataset(batch_size, True, True, epoch),
            validation.dataset(batch_size, False, False, 0),
        )
    later = next((stage.freed_block for stage in stages if stage.freed_block), None)
    cached = functools.partial(
        frozen_features,
        cache,
        backbones,
        freed_block=stages[0].freed_block,
        later_freed_block=later,
    )
    variants = [
        cached(source=training, augment=True, variant=variant)
        for variant in range(num_cached_crops)
    ]
    training_clips = CachedClips(variants, training.labels)
    validation_clips = CachedClips([cached(source=validation)], validation.labels)
    return (
        training_clips.dataset(batch_size, shuffle=True, seed=seed, epoch=epoch),
        validation_clips.dataset(batch_size, shuffle=False),
    )


def _head_layers(model: keras.Model) -> list[keras.layers.Layer]:
    return [layer for layer in model.layers if not isinstance(layer, FramewiseBackbone)]


def _set_trainable(model: keras.Model, backbones: Sequence[Backbone], stage: Stage) -> None:
    for backbone in backbones:
        backbone.set_trainable(stage.freed_block, batch_norm=stage.batch_norm)
    head = _head_layers(model)
    known = {layer.name for layer in head if layer.weights}
    # A stage's list serves every model: "shared_gru" is passed over where there is none.
    chosen = known if stage.trainable_layers is None else known & set(stage.trainable_layers)
    if not chosen:
        raise ValueError(
            f"`trainable_layers` must name layers of '{model.name}', which has {sorted(known)}. "
            f"Received: {stage.trainable_layers}."
        )
    if any(backbone.has_frozen_copy for backbone in backbones):
        chosen = chosen - {"attention"}
    for layer in head:
        layer.trainable = layer.name in chosen
