"""Training in stages on cached features, resumable at any epoch."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfvlad.backbones import Backbone
from tfvlad.layers import NetVLAD
from tfvlad.training.callbacks import EpochSettings, ProgressBar, SaveState
from tfvlad.training.clip_source import ClipSource
from tfvlad.training.clusters import initialize_clusters
from tfvlad.training.feature_cache import CachedClips, FeatureCache
from tfvlad.training.networks import frozen_features, split_networks
from tfvlad.training.stages import Stage, ta_vlad_stages
from tfvlad.training.training_state import TrainingState


def fit_in_stages(
    model: keras.Model,
    backbone: Backbone,
    training: ClipSource,
    validation: ClipSource,
    folder: str | os.PathLike[str],
    *,
    stages: Sequence[Stage] | None = None,
    batch_size: int = 16,
    seed: int = 0,
    cache: FeatureCache | None = None,
    num_cached_crops: int = 4,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> list[dict[str, float]]:
    """Train a clip model stage by stage and leave the best weights in it.

    The VLAD layer's centres are set by k-means first. After every epoch the state goes to the
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
        backbone: whose blocks are freed.
        training: clips to learn from, augmented.
        validation: clips by which the best epoch is chosen, not augmented.
        folder: of the run.
        stages: TA-VLAD's two by default, freeing the backbone's last block.
        batch_size: clips of a batch.
        seed: of the order, of which cached crop an epoch draws, of dropout and of k-means. The
            crops come from the source's own seed, the model's first weights from its making: call
            `keras.utils.set_random_seed` before that.
        cache: None computes everything anew in each epoch.
        num_cached_crops: random crops of a training clip that are cached.
        callbacks: called in each stage.

    Returns:
        A row for each epoch: stage, epoch, learning rate, losses, measures and seconds.

    Raises:
        ValueError: the folder holds a run with other settings, or a source is empty.
        FloatingPointError: the loss is not a number any more.
    """
    if stages is None:
        if not backbone.blocks:
            raise ValueError(
                f"The backbone '{backbone.name}' names no blocks, so that stage 2 cannot free its "
                "last one. Give `stages` that leave it frozen, or a backbone with `blocks`."
            )
        stages = ta_vlad_stages(list(backbone.blocks)[-1])
    for name, count in (("batch_size", batch_size), ("num_cached_crops", num_cached_crops)):
        if count < 1:
            raise ValueError(f"`{name}` must be a positive integer. Received: {name}={count}.")
    for name, source in (("training", training), ("validation", validation)):
        if not len(source):
            raise ValueError(f"`{name}` must hold at least one clip. Received: an empty source.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    head = [layer.get_config() for layer in model.layers if layer.name != "backbone"]
    settings = {
        "model": model.name,
        "head": _fingerprint([json.dumps(head, sort_keys=True, default=str)]),
        "backbone": backbone.fingerprint(),
        "stages": [asdict(stage) for stage in stages],
        "batch_size": batch_size,
        "seed": seed,
        "num_cached_crops": num_cached_crops if cache else None,
        "cache_dtype": cache.dtype if cache else None,
        "training clips": _fingerprint(training.fingerprints(True)),
        "validation clips": _fingerprint(validation.fingerprints(False)),
        "labels": _fingerprint([str(s.labels.tolist()) for s in (training, validation)]),
    }
    # As they come back from the file: lists for tuples.
    settings = json.loads(json.dumps(settings))
    state = _resume(folder / "state.npz", settings)
    if state.stage > 0:
        model.load_weights(folder / f"stage{state.stage}.keras")
    for number in range(state.stage, len(stages)):
        stage = stages[number]
        if number > state.stage:
            state = TrainingState(settings, stage=number, history=state.history)
        if cache is None:
            # Compiled in its place: a stage's file holds no optimizer, with a cache or without.
            network = keras.Model(model.input, model.output, name=model.name)
        else:
            _, network = split_networks(model, backbone, stage.freed_block)
        _set_trainable(model, backbone, stage)
        _compile(network, stage, training.labels)
        if state.weights:
            state.restore(network)
        if not state.is_finished:
            datasets = _datasets(
                backbone,
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
                initialize_clusters(model, clips, seed=seed, from_maps=on_maps)
            _fit(network, datasets, stage, state, folder, seed, callbacks)
        network.set_weights(state.best_weights)
        unfinished = folder / "unfinished.keras"
        model.save(unfinished)
        unfinished.replace(folder / f"stage{number + 1}.keras")
    return state.history


def _datasets(
    backbone: Backbone,
    training: ClipSource,
    validation: ClipSource,
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
        backbone,
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


def _fingerprint(clips: list[str]) -> str:
    return hashlib.sha256(" ".join(clips).encode()).hexdigest()


def _resume(path: Path, settings: dict[str, Any]) -> TrainingState:
    if not path.exists():
        return TrainingState(settings)
    state = TrainingState.load(path)
    changed = []
    for name, here in settings.items():
        there = state.settings.get(name)
        if there != here:
            is_short = len(repr(there)) + len(repr(here)) < 40
            changed.append(f"{name}: {there!r} there, {here!r} here" if is_short else name)
    if changed:
        raise ValueError(
            f"'{path.parent}' holds a run with other settings and is left as it is "
            f"({'; '.join(changed)}). Choose another folder, or start it with the same settings "
            "and data to go on."
        )
    return state


def _set_trainable(model: keras.Model, backbone: Backbone, stage: Stage) -> None:
    backbone.set_trainable(stage.freed_block, batch_norm=stage.batch_norm)
    head = [layer for layer in model.layers if layer.name != "backbone"]
    known = {layer.name for layer in head if layer.weights}
    # A stage's list serves every model: "shared_gru" is passed over where there is none.
    chosen = known if stage.trainable_layers is None else known & set(stage.trainable_layers)
    if not chosen:
        raise ValueError(
            f"`trainable_layers` must name layers of '{model.name}', which has {sorted(known)}. "
            f"Received: {stage.trainable_layers}."
        )
    for layer in head:
        layer.trainable = layer.name in chosen


def _compile(network: keras.Model, stage: Stage, labels: np.ndarray) -> None:
    if labels.ndim == 1:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        measure = keras.metrics.SparseCategoricalAccuracy(name="top1")
    else:
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        measure = keras.metrics.AUC(
            curve="PR", multi_label=True, num_labels=labels.shape[-1], from_logits=True, name="auc"
        )
    optimizer = keras.optimizers.Adam(
        stage.learning_rate,
        epsilon=stage.epsilon,
        clipnorm=stage.clip_norm,
        weight_decay=stage.weight_decay,
    )
    # XLA takes longer to compile the freed convolutions on a CPU than a short stage to run.
    network.compile(optimizer, loss, metrics=[measure], jit_compile=False)


def _fit(
    network: keras.Model,
    datasets: tuple[tf.data.Dataset, tf.data.Dataset],
    stage: Stage,
    state: TrainingState,
    folder: Path,
    seed: int,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    name = f"stage{state.stage + 1}"
    progress_bar = ProgressBar(f"Stage {state.stage + 1}", stage.epochs, state.epoch)
    with progress_bar.bar:
        network.fit(
            datasets[0],
            validation_data=datasets[1],
            initial_epoch=state.epoch,
            epochs=stage.epochs,
            verbose=0,
            shuffle=False,
            callbacks=[
                EpochSettings(stage, seed + 1009 * state.stage),
                keras.callbacks.TensorBoard(str(folder / "tensorboard" / name), write_graph=False),
                *callbacks,
                SaveState(state, folder),
                progress_bar,
            ],
        )
    # Also where a callback has stopped it early.
    state.is_finished = True
    state.save(folder / "state.npz")
