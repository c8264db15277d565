"""Hyper-models of the clip models: from the values of a trial to a trained model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras
import keras_tuner

from tfvlad.backbones import Backbone
from tfvlad.models import action_vlad, parts_of, ta_vlad, two_stream
from tfvlad.training import (
    ClipSource,
    FeatureCache,
    PairedStreams,
    Stage,
    action_vlad_stages,
    fit_in_stages,
    predict_logits,
    ta_vlad_stages,
)
from tuning.hyper_models.measures import validation_measures
from tuning.hyper_models.spaces import action_vlad_space, ta_vlad_space
from tuning.hyper_models.values import Space, chosen_values, defaults_of, parameters_of

# The values that concern the training; the others are arguments of the model.
_TRAINING = {"optimizer", "stage1_learning_rate", "stage2_learning_rate", "num_freed_blocks"}


class _ClipHyperModel(keras_tuner.HyperModel):
    """What the hyper-models of clips share: see `TAVLADHyperModel`."""

    # Of a model with one stream, with two and so on.
    _builders: tuple[Callable[..., keras.Model], ...]
    _default_space: Space
    _default_stages: tuple[Stage, ...]

    def __init__(
        self,
        build_backbone: Callable[[], Backbone | Sequence[Backbone]],
        num_classes: int,
        *,
        space: Space | None = None,
        fixed: Mapping[str, Any] | None = None,
        stages: Sequence[Stage] | None = None,
        batch_size: int = 16,
        cache: FeatureCache | None = None,
        num_cached_crops: int = 4,
        seed: int = 0,
    ):
        super().__init__()
        stages = self._default_stages if stages is None else tuple(stages)
        if len(stages) not in (1, 2):
            raise ValueError(f"`stages` must be one or two. Received: {len(stages)}.")
        self.build_backbone = build_backbone
        self.num_classes = num_classes
        self.space = space or self._default_space
        self.fixed = {**(fixed or {}), **({"num_freed_blocks": 0} if len(stages) == 1 else {})}
        self.stages = stages
        self.batch_size = batch_size
        self.cache = cache
        self.num_cached_crops = num_cached_crops
        self.seed = seed

    @property
    def settings(self) -> dict[str, Any]:
        """What a search depends on besides the space and the clips."""
        backbones = self._new_backbones()
        return {
            "model": type(self).__name__,
            "num_classes": self.num_classes,
            "backbone": [backbone.fingerprint() for backbone in backbones],
            "cache_dtype": self.cache.dtype if self.cache else None,
            "stages": [asdict(stage) for stage in self.stages],
            "defaults": defaults_of(self._builders[len(backbones) - 1]),
            "batch_size": self.batch_size,
            "num_cached_crops": self.num_cached_crops if self.cache else None,
            "seed": self.seed,
        }

    @property
    def max_epochs(self) -> int:
        """Epochs of all stages: the most that Hyperband gives a trial."""
        return sum(stage.epochs for stage in self.stages)

    def values(self, hp: keras_tuner.HyperParameters) -> dict[str, Any]:
        """The values of a trial: what the space chooses and what is fixed.

        Raises:
            ValueError: when one is none of the model's or of its training's.
        """
        known = set().union(*(parameters_of(builder) for builder in self._builders))
        return chosen_values(hp, self.space, self.fixed, known | _TRAINING)

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """The untrained clip model of a trial; the same values give the same first weights.

        Raises:
            ValueError: when a value is none of the model's or of its training's.
        """
        backbones = self._new_backbones()
        builder = self._builders[len(backbones) - 1]
        known = parameters_of(builder) | _TRAINING
        values = chosen_values(hp, self.space, self.fixed, known)
        options = {name: value for name, value in values.items() if name not in _TRAINING}
        return builder(*backbones, self.num_classes, **options)

    def fit(
        self,
        hp: keras_tuner.HyperParameters,
        model: keras.Model,
        training: ClipSource | PairedStreams,
        validation: ClipSource | PairedStreams,
        *,
        folder: str | Path | None = None,
        epochs: int | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> dict[str, float]:
        """Train a model that `build` has made, and measure it on the validation clips.

        The VLAD layers' centres are those of k-means on the training clips' features, kept in the
        cache for every trial with as many clusters. The model is left with its best weights.

        Args:
            hp: of the trial.
            model: from `build(hp)`.
            training: clips to learn from.
            validation: clips by which the best epoch and the best trial are chosen.
            folder: of the trial, see `tfvlad.training.fit_in_stages`: a training that was killed,
                or paused after `epochs`, goes on from there. A temporary one by default.
            epochs: pause after so many in all stages: the budget of Hyperband.
            callbacks: see the clip model, and are called after every epoch.

        Returns:
            `val_top1` and `val_mean_class_accuracy` (of clips with one label), `val_mAP`, and how
            many `epochs` and `stages` it had.
        """
        values = self.values(hp)
        stages = self._stages(values, parts_of(model).backbones[0])
        num_frames = model.inputs[0].shape[1]
        if num_frames not in (None, training.clip_shape[-4]):
            training = training.with_num_frames(num_frames)
            validation = validation.with_num_frames(num_frames)
        seen = _SeeClipModel(model, callbacks)
        with tempfile.TemporaryDirectory() as temporary:
            history = fit_in_stages(
                model,
                training,
                validation,
                folder or temporary,
                stages=stages,
                batch_size=self.batch_size,
                seed=self.seed,
                cache=self.cache,
                num_cached_crops=self.num_cached_crops,
                max_epochs=epochs,
                callbacks=[seen, *callbacks, seen],
            )
        number = int(history[-1]["stage"])
        logits = predict_logits(
            model,
            validation,
            freed_block=stages[number - 1].freed_block,
            later_freed_block=stages[-1].freed_block,
            cache=self.cache,
        )
        return {
            **validation_measures(logits, validation.labels, validation.class_names),
            "epochs": len(history),
            "stages": number,
        }

    def _new_backbones(self) -> tuple[Backbone, ...]:
        keras.utils.set_random_seed(self.seed)
        backbones = self.build_backbone()
        return (backbones,) if isinstance(backbones, Backbone) else tuple(backbones)

    def _stages(self, values: Mapping[str, Any], backbone: Backbone) -> list[Stage]:
        """The recipe's stages with the trial's learning rates, optimizer and freed blocks."""
        num_freed = values.get("num_freed_blocks", 1)
        blocks = list(backbone.blocks)
        if num_freed > len(blocks):
            raise ValueError(
                f"`num_freed_blocks` must be at most {len(blocks)}, the blocks of "
                f"'{backbone.name}'. Received: num_freed_blocks={num_freed}."
            )
        stages = []
        for number, stage in enumerate(self.stages if num_freed else self.stages[:1], 1):
            rate = values.get(f"stage{number}_learning_rate", stage.learning_rate)
            stages.append(
                replace(
                    stage,
                    learning_rate=rate,
                    optimizer=values.get("optimizer", stage.optimizer),
                    freed_block=blocks[-num_freed] if number == 2 else None,
                )
            )
        return stages


class TAVLADHyperModel(_ClipHyperModel):
    """TA-VLAD for KerasTuner.

    `build(hp)` is pure: the same values give the same model, its first weights included. Everything
    that costs time is kept in the cache for all trials: the backbone's features, of each number of
    frames and in front of each freed block, and k-means' centres, of each number of clusters.

    Args:
        build_backbone: makes a new backbone with its first weights; stage 2 changes them in place.
        num_classes: number of action classes C.
        space: from KerasTuner's `HyperParameters` to the values of a trial by name: arguments of
            `tfvlad.models.ta_vlad`, `optimizer`, `stage1_learning_rate`, `stage2_learning_rate` and
            `num_freed_blocks` (of the backbone, in stage 2; 0 leaves stage 2 out). Replace
            `ta_vlad_space`, the default, by a function of your own, or `paper_space`.
        fixed: values that are not searched for, whether the space has them or not.
        stages: one or two, whose learning rates, optimizer and freed block the values replace; the
            paper's by default, ended after 5 epochs without a better one.
        batch_size: clips of a batch.
        cache: of features and centres, for the whole search; None computes them in every trial.
        num_cached_crops: random crops of a training clip that are cached.
        seed: of everything that is drawn.

    Reference:
        Sudhakaran and Lanz, "Top-down Attention Recurrent VLAD Encoding for Action Recognition in
        Videos", section 4.
    """

    _builders = (ta_vlad,)
    _default_space = staticmethod(ta_vlad_space)
    _default_stages = tuple(replace(stage, patience=5) for stage in ta_vlad_stages(""))


class ActionVLADHyperModel(_ClipHyperModel):
    """ActionVLAD for KerasTuner, on one stream or on two.

    Args:
        build_backbone: makes a new backbone, or those of frames and of flow, with their first
            weights.
        num_classes: number of action classes C.
        space: see `TAVLADHyperModel`; the arguments are those of `tfvlad.models.action_vlad`, of
            two streams those of `tfvlad.models.two_stream`, for which there is `two_stream_space`;
            by default `action_vlad_space`.
        fixed: values that are not searched for, whether the space has them or not.
        stages: one or two, whose learning rates, optimizer and freed block the values replace; by
            default 30 epochs each of the paper's, ended after 5 without a better one.
        batch_size: clips of a batch.
        cache: of features and centres, for the whole search; None computes them in every trial.
        num_cached_crops: random crops of a training clip that are cached.
        seed: of everything that is drawn.

    Reference:
        Girdhar et al., "ActionVLAD: Learning spatio-temporal aggregation for action
        classification", section 4.
    """

    _builders = (action_vlad, two_stream)
    _default_space = staticmethod(action_vlad_space)
    _default_stages = tuple(
        replace(stage, epochs=30, patience=5) for stage in action_vlad_stages("", 1000)
    )


class _SeeClipModel(keras.callbacks.Callback):
    """Shows callbacks the clip model in the place of the part of it that a stage trains.

    It stands before them, to change their model, and behind them, to hear that they stop it.
    """

    def __init__(self, model: keras.Model, callbacks: Sequence[keras.callbacks.Callback]):
        super().__init__()
        self.clip_model = model
        self.callbacks = callbacks

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.clip_model.stop_training = False
        for callback in self.callbacks:
            callback.set_model(self.clip_model)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self.clip_model.stop_training:
            self.model.stop_training = True
