"""Training and prediction on extracted features, resumable at any epoch."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np

from pipelines.progress import track
from tfvlad.layers import MeanScore
from tfvlad.models import is_multi_label
from tfvlad.training.clip_source import FeatureSource
from tfvlad.training.stage_run import compile_network, fit_stage, hash_of, resume, save_stage
from tfvlad.training.stages import Stage, attention_lstm_stage


def fit_on_features(
    model: keras.Model,
    training: FeatureSource,
    validation: FeatureSource,
    folder: str | os.PathLike[str],
    *,
    stage: Stage | None = None,
    batch_size: int = 200,
    seed: int = 0,
    max_epochs: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> list[dict[str, float]]:
    """Train a model of extracted features and leave the best weights in it.

    Every epoch sees a random chunk of each clip. After every epoch the state goes to the folder;
    the same call goes on from there. The folder gets `state.npz`, `history.csv`, `stage1.keras` and
    TensorBoard's logs.

    Args:
        model: made by `tfvlad.models.attention_lstm`, `plain_lstm` or `feature_softmax`.
        training: clips to learn from, augmented.
        validation: clips by which the best epoch is chosen, not augmented.
        folder: of the run.
        stage: what is trained and how; the attention LSTM's by default.
        batch_size: clips of a batch.
        seed: of dropout. The order and the chunks come from the source's own seed, the model's
            first weights from its making: call `keras.utils.set_random_seed` before that.
        max_epochs: pause when the run has had as many; the same call with more goes on from there,
            to the same end.
        callbacks: called in the training.

    Returns:
        A row for each epoch: stage, epoch, learning rate, losses, measures and seconds.

    Raises:
        ValueError: when the folder holds a run with other settings, a source is empty, or the
            labels do not fit the model's head.
        FloatingPointError: when the loss is not a number any more.
    """
    for name, count in (("batch_size", batch_size), ("max_epochs", max_epochs)):
        if count is not None and count < 1:
            raise ValueError(f"`{name}` must be a positive integer. Received: {name}={count}.")
    for name, source in (("training", training), ("validation", validation)):
        if not len(source):
            raise ValueError(f"`{name}` must hold at least one clip. Received: an empty source.")
    stage = stage or attention_lstm_stage(-(-len(training) // batch_size))
    for layer in model.layers:
        chosen = stage.trainable_layers
        layer.trainable = chosen is None or layer.name in chosen
    compile_network(model, stage, training.labels)
    folder = Path(folder)
    layers = [layer.get_config() for layer in model.layers]
    state = resume(
        folder,
        {
            "model": model.name,
            "layers": hash_of([json.dumps(layers, sort_keys=True, default=str)]),
            "stage": asdict(stage),
            "batch_size": batch_size,
            "seed": seed,
            "training clips": hash_of(training.fingerprints(True)),
            "validation clips": hash_of(validation.fingerprints(False)),
            "labels": hash_of([str(s.labels.tolist()) for s in (training, validation)]),
        },
    )
    if state.weights:
        state.restore(model)
    if not state.is_finished:
        datasets = (
            training.dataset(batch_size, True, True, functools.partial(getattr, state, "epoch")),
            validation.dataset(batch_size, False, False, 0),
        )
        fit_stage(model, datasets, stage, state, folder, seed, callbacks, max_epochs)
    model.set_weights(state.best_weights)
    # The file holds no optimizer.
    save_stage(keras.Model(model.inputs, model.output, name=model.name), folder, 1)
    return state.history


def predict_on_features(
    model: keras.Model, source: FeatureSource, *, num_chunks: int = 40, flipped: bool = True
) -> np.ndarray:
    """Scores `(n, C)` of all clips: the class probabilities of random chunks, averaged.

    Args:
        model: returns log-probabilities, or logits of several labels.
        source: the clips.
        num_chunks: random chunks of each clip, drawn from the source's seed and the clip alone.
        flipped: as many chunks of the mirrored frames too.

    Returns:
        float32, the log of the mean probability; for a multi-label model its logit. Its softmax, or
        sigmoid, is the mean probability.

    Reference:
        Torabi and Sigal, section 4.1: 40 random chunks and 40 mirrored ones.
    """
    mean = MeanScore(multi_label=bool(is_multi_label(model)))
    scores = []
    chunks = source.test_chunks(num_chunks, flipped)
    for clip in track(chunks, "Test", len(source), transient=True):
        inputs = list(clip) if len(clip) > 1 else clip[0]
        scores.append(mean(model.predict_on_batch(inputs)[np.newaxis])[0].numpy())
    return np.array(scores)
