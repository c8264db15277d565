"""KerasTuner's tuner of clip models: trials that resume, are measured, and may be refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from pipelines.storage.files import write_text
from tuning.running.progress import SearchProgress
from tuning.running.trial_folder import (
    CountStarts,
    last_model,
    read_metrics,
    take_over,
    write_metrics,
)


class ClipTuner(keras_tuner.Tuner):
    """Runs the trials of an oracle, each in a folder that a killed search goes on from.

    Args:
        oracle: of `keras_tuner.oracles`.
        hypermodel: a hyper-model of this package.
        measures: from a name to a function of the untrained model, such as a latency; the number of
            parameters is always measured, as `parameters`.
        limits: the most that a measure may be. A model over a limit is not trained.
        measure: what is maximised among the models within the limits, such as `val_top1`; with
            limits the oracle's objective is `<measure>_within_limits`.
        progress: is told of the trials.
        **arguments: of `keras_tuner.Tuner`.
    """

    def __init__(
        self,
        oracle: keras_tuner.Oracle,
        hypermodel: keras_tuner.HyperModel,
        *,
        measures: Mapping[str, Callable[[keras.Model], float]],
        limits: Mapping[str, float],
        measure: str,
        progress: SearchProgress,
        **arguments: Any,
    ):
        self.measures = {"parameters": keras.Model.count_params, **measures}
        self.limits = limits
        self.measure = measure
        self.progress = progress
        super().__init__(oracle, hypermodel, **arguments)

    def on_trial_begin(self, trial: Any) -> None:
        super().on_trial_begin(trial)
        self.progress.begin_trial(trial)

    def on_trial_end(self, trial: Any) -> None:
        super().on_trial_end(trial)
        self.progress.end_trial(trial.trial_id)
        if self.progress.is_hopeless():
            begin_no_more(self.oracle)

    def run_trial(self, trial: Any, training: Any, validation: Any) -> dict[str, float]:
        """Build, measure, train and validate the model of a trial; returns what was measured."""
        started = time.monotonic()
        folder = Path(self.get_trial_dir(trial.trial_id))
        folder.mkdir(parents=True, exist_ok=True)
        finished = read_metrics(folder)
        if finished:
            return finished
        keras.backend.clear_session()  # the memory of the models before
        hp = trial.hyperparameters
        if hp.values.get("tuner/trial_id"):  # that Hyperband promotes
            take_over(Path(self.get_trial_dir(hp.values["tuner/trial_id"])), folder)
        starts = CountStarts(folder)
        try:
            metrics = self._metrics(hp, training, validation, folder, starts)
        except Exception as error:
            # KerasTuner's service does not send the message to the chief.
            write_text(folder / "error.txt", f"{type(error).__name__}: {error}")
            raise
        finally:
            starts.forget()
        metrics["seconds"] = round(time.monotonic() - started, 2)
        _write_hparams(folder, hp.values, metrics)
        write_metrics(folder, metrics)
        return metrics

    def _metrics(
        self,
        hp: keras_tuner.HyperParameters,
        training: Any,
        validation: Any,
        folder: Path,
        starts: keras.callbacks.Callback,
    ) -> dict[str, float]:
        model = self.hypermodel.build(hp)
        metrics = {name: float(measure(model)) for name, measure in self.measures.items()}
        within = f"{self.measure}_within_limits"
        excess = max((metrics[name] / limit for name, limit in self.limits.items()), default=0.0)
        if excess > 1:
            # Below every model within the limits, and the lower the farther it is from them.
            return {**metrics, within: 1 / excess - 1}
        cache = getattr(self.hypermodel, "cache", None)
        before = cache.extraction_seconds if cache else 0.0
        metrics |= self.hypermodel.fit(
            hp,
            model,
            training,
            validation,
            folder=folder,
            epochs=hp.values.get("tuner/epochs"),
            callbacks=[starts],
        )
        if cache:
            metrics["extraction_seconds"] = round(cache.extraction_seconds - before, 2)
        if self.limits:
            metrics[within] = metrics[self.measure]
        return metrics

    def load_model(self, trial: Any) -> keras.Model:
        """The trained model of a trial.

        Raises:
            FileNotFoundError: when it is not one of the best, whose models are kept.
        """
        path = last_model(Path(self.get_trial_dir(trial.trial_id)))
        if path is None:
            raise FileNotFoundError(
                f"The model of trial {trial.trial_id} is not kept. Build and train it with the "
                "trial's values."
            )
        return keras.models.load_model(path)


def begin_no_more(oracle: keras_tuner.Oracle) -> None:
    """Let a search end with the trials that are running."""
    oracle.max_trials = max(1, len(oracle.trials))


def _write_hparams(folder: Path, values: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    """What TensorBoard's HParams shows of a trial."""
    own = {name: value for name, value in values.items() if not name.startswith("tuner/")}
    with tf.summary.create_file_writer(str(folder / "tensorboard")).as_default():
        hparams.hparams(own, trial_id=folder.name)
        for name, value in metrics.items():
            tf.summary.scalar(name, value, step=0)
