"""Hyper-model of the attention LSTM on extracted features."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras
import keras_tuner

from tfvlad import models
from tfvlad.training import FeatureSource, Stage, fit_on_features
from tuning.hyper_models.measures import validation_measures
from tuning.hyper_models.spaces import attention_lstm_space
from tuning.hyper_models.values import Space, chosen_values, parameters_of

# The values that concern the training; the others are arguments of the model.
_TRAINING = {"optimizer", "learning_rate"}


class AttentionLSTMHyperModel(keras_tuner.HyperModel):
    """The attention LSTM for KerasTuner. `build(hp)` is pure, as `TAVLADHyperModel`'s.

    Args:
        num_classes: number of action classes C.
        input_channels: Dv of the input-data.
        attended_channels: Da of the attended-data.
        multi_label: whether a clip may have several classes.
        space: from KerasTuner's `HyperParameters` to the values of a trial by name: arguments of
            `tfvlad.models.attention_lstm`, `optimizer` and `learning_rate`.
        fixed: values that are not searched for, whether the space has them or not.
        stage: whose learning rate and optimizer the values replace; by default SGD or Adam for 60
            epochs, ended after 10 without a lower validation loss.
        batch_size: clips of a batch.
        seed: of everything that is drawn.

    Reference:
        Torabi and Sigal, "Action Classification and Highlighting in Videos", section 4.1.
    """

    def __init__(
        self,
        num_classes: int,
        input_channels: int,
        attended_channels: int,
        *,
        multi_label: bool = False,
        space: Space = attention_lstm_space,
        fixed: Mapping[str, Any] | None = None,
        stage: Stage | None = None,
        batch_size: int = 200,
        seed: int = 0,
    ):
        super().__init__()
        self.num_classes = num_classes
        self.input_channels = input_channels
        self.attended_channels = attended_channels
        self.multi_label = multi_label
        self.space = space
        self.fixed = dict(fixed or {})
        self.stage = stage or Stage(
            epochs=60,
            learning_rate=1e-2,
            decay_factor=0.8,
            constant_epochs=30,
            optimizer="sgd",
            patience=10,
            best_by="loss",
        )
        self.batch_size = batch_size
        self.seed = seed

    @property
    def settings(self) -> dict[str, Any]:
        """What a search depends on besides the space and the clips."""
        return {
            "model": type(self).__name__,
            "num_classes": self.num_classes,
            "channels": [self.input_channels, self.attended_channels],
            "multi_label": self.multi_label,
            "stage": asdict(self.stage),
            "batch_size": self.batch_size,
            "seed": self.seed,
        }

    @property
    def max_epochs(self) -> int:
        """The most that Hyperband gives a trial."""
        return self.stage.epochs

    def values(self, hp: keras_tuner.HyperParameters) -> dict[str, Any]:
        """The values of a trial: what the space chooses and what is fixed.

        Raises:
            ValueError: when one is none of the model's or of its training's.
        """
        known = (parameters_of(models.attention_lstm) - {"multi_label"}) | _TRAINING
        return chosen_values(hp, self.space, self.fixed, known)

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """The untrained model of a trial; the same values give the same first weights.

        Raises:
            ValueError: when a value is none of the model's or of its training's.
        """
        keras.utils.set_random_seed(self.seed)
        options = {k: value for k, value in self.values(hp).items() if k not in _TRAINING}
        return models.attention_lstm(
            self.num_classes,
            self.input_channels,
            self.attended_channels,
            multi_label=self.multi_label,
            **options,
        )

    def fit(
        self,
        hp: keras_tuner.HyperParameters,
        model: keras.Model,
        training: FeatureSource,
        validation: FeatureSource,
        *,
        folder: str | Path | None = None,
        epochs: int | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> dict[str, float]:
        """Train a model that `build` has made, and measure it on the validation clips.

        Args:
            hp: of the trial.
            model: from `build(hp)`.
            training: clips to learn from.
            validation: clips by which the best epoch and the best trial are chosen.
            folder: of the trial, see `tfvlad.training.fit_on_features`; a temporary one by default.
            epochs: pause after so many: the budget of Hyperband.
            callbacks: called after every epoch.

        Returns:
            `val_top1` and `val_mean_class_accuracy` (of clips with one label), `val_mAP`, and how
            many `epochs` and `stages` it had.
        """
        values = self.values(hp)
        num_steps = [x.shape[1] for x in model.inputs]
        if None not in num_steps:
            training = training.with_num_steps(num_steps)
            validation = validation.with_num_steps(num_steps)
        changes = {name: values[name] for name in _TRAINING & set(values)}
        stage = replace(self.stage, **changes)
        with tempfile.TemporaryDirectory() as temporary:
            history = fit_on_features(
                model,
                training,
                validation,
                folder or temporary,
                stage=stage,
                batch_size=self.batch_size,
                seed=self.seed,
                max_epochs=epochs,
                callbacks=callbacks,
            )
        scores = model.predict(validation.dataset(self.batch_size, False, False, 0), verbose=0)
        return {
            **validation_measures(scores, validation.labels, validation.class_names),
            "epochs": len(history),
            "stages": 1,
        }
