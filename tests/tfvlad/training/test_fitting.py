import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import keras
import numpy as np
import pytest

from tests.conftest import KERAS_MAJOR, PROJECT
from tests.helpers import MemoryClips, tiny_backbone
from tfvlad.models import action_vlad, average_pooling, ta_vlad
from tfvlad.training import FeatureCache, Stage, fit_in_stages, predict_logits

pytestmark = pytest.mark.usefixtures("eagerly")

TRAINING = MemoryClips.random(8, num_frames=2)
VALIDATION = MemoryClips.random(5, num_frames=2, seed=1)
STAGES = (
    Stage(epochs=3, learning_rate=0.05, decay_epochs=2, trainable_layers=("logits",)),
    Stage(epochs=2, learning_rate=0.01, freed_block="block2", clip_norm=1.0, weight_decay=1e-3),
)


def make_model():
    # Keras 2.15 keeps dropout's random stream out of reach: a resumed run draws other numbers.
    backbone = tiny_backbone()
    dropout = 0.5 if KERAS_MAJOR >= 3 else 0.0
    model = action_vlad(
        backbone, 3, num_frames=2, num_clusters=4, alpha=5.0, attention=True, dropout=dropout
    )
    return backbone, model


def fit(folder, *, stages=STAGES, **options):
    backbone, model = make_model()
    cache = FeatureCache(folder / "features")
    history = fit_in_stages(
        model,
        TRAINING,
        VALIDATION,
        folder,
        **{"stages": stages, "batch_size": 3, "cache": cache, "num_cached_crops": 2, **options},
    )
    return backbone, model, history


def weights_by_layer(backbone, model):
    layers = [*backbone.model.layers, *(x for x in model.layers if x.name != "backbone")]
    return {layer.name: layer.get_weights() for layer in layers if layer.weights}


def changed(before, after):
    return {
        (name, i)
        for name in before
        for i, (old, new) in enumerate(zip(before[name], after[name], strict=True))
        if np.any(old != new)
    }


class Recorder(keras.callbacks.Callback):
    """Keeps the weights that every epoch ends with."""

    def __init__(self):
        super().__init__()
        self.weights, self.epochs, self.learning_rates = [], [], []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(self.model.get_weights())
        self.epochs.append(epoch)
        self.learning_rates.append(float(self.model.optimizer.learning_rate))


class StopAt(keras.callbacks.Callback):
    """Ends the run in the middle of a stage's epoch."""

    def __init__(self, stage, epoch):
        super().__init__()
        self.stage, self.epoch, self.seen = stage, epoch, 0

    def on_train_begin(self, logs=None):
        self.seen += 1

    def on_train_batch_end(self, batch, logs=None):
        if self.seen == self.stage and self.now == self.epoch and batch == 1:
            raise KeyboardInterrupt

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that nothing interrupts."""
    folder, recorder = tmp_path_factory.mktemp("run"), Recorder()
    backbone, model, history = fit(folder, callbacks=[recorder])
    return folder, backbone, model, history, recorder


def rows_without_time(history):
    return [{name: float(row[name]) for name in row if name != "seconds"} for row in history]


class TestRun:
    def test_history(self, run):
        folder, _, _, history, recorder = run
        assert [(row["stage"], row["epoch"]) for row in history] == [
            (1, 1),
            (1, 2),
            (1, 3),
            (2, 1),
            (2, 2),
        ]
        rates = [0.05, 0.05, 0.025, 0.01, 0.01]
        assert [row["learning_rate"] for row in history] == pytest.approx(rates)
        assert recorder.learning_rates == pytest.approx(rates)
        assert recorder.epochs == [0, 1, 2, 0, 1]
        columns = {"stage", "epoch", "learning_rate", "seconds"}
        assert set(history[0]) == {*columns, "loss", "top1", "val_loss", "val_top1"}
        with open(folder / "history.csv", newline="") as file:
            assert rows_without_time(csv.DictReader(file)) == rows_without_time(history)

    def test_files(self, run):
        folder = run[0]
        names = {path.name for path in folder.iterdir()}
        assert names == {
            "features",
            "history.csv",
            "stage1.keras",
            "stage2.keras",
            "state.npz",
            "tensorboard",
        }
        logs = [path.parent.parent.name for path in folder.glob("tensorboard/*/*/events*")]
        assert set(logs) == {"stage1", "stage2"}

    def test_ends_with_the_best_epoch_on_the_validation_clips(self, run):
        folder, _, model, history, recorder = run
        for stage in (1, 2):
            model.load_weights(folder / f"stage{stage}.keras")
            rows = [row for row in history if row["stage"] == stage]
            best = max(rows, key=lambda row: (row["val_top1"], -row["val_loss"]))
            logits = predict_logits(model, VALIDATION)
            top1 = np.mean(np.argmax(logits, axis=-1) == VALIDATION.labels)
            assert top1 == pytest.approx(best["val_top1"])
            powers = np.exp(logits)
            likelihood = powers[np.arange(5), VALIDATION.labels] / powers.sum(axis=-1)
            assert -np.mean(np.log(likelihood)) == pytest.approx(best["val_loss"], rel=1e-3)
            kept = recorder.weights[history.index(best)]
            # The logits' bias is the only vector of three.
            bias = next(weight for weight in kept if weight.shape == (3,))
            np.testing.assert_array_equal(model.get_layer("logits").get_weights()[1], bias)
        cached = predict_logits(
            model,
            VALIDATION,
            freed_block="block2",
            cache=FeatureCache(folder / "features"),
        )
        np.testing.assert_allclose(cached, logits, atol=1e-4)

    @pytest.mark.parametrize(
        ("stage", "epoch"), [(1, 1), pytest.param(2, 0, marks=pytest.mark.slow), (2, 1)]
    )
    def test_interrupted_run_ends_the_same(self, run, tmp_path, stage, epoch):
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path, callbacks=[StopAt(stage, epoch)])
        before = (tmp_path / "history.csv").read_text()
        os.link(tmp_path / "history.csv", tmp_path / "before.csv")
        recorder = Recorder()
        backbone, model, history = fit(tmp_path, callbacks=[recorder])
        # It goes on from the last finished epoch.
        assert len(recorder.epochs) == len(history) - (epoch if stage == 1 else 3 + epoch)
        assert rows_without_time(history) == rows_without_time(run[3])
        with open(tmp_path / "history.csv", newline="") as file:
            assert rows_without_time(csv.DictReader(file)) == rows_without_time(history)
        # The file was replaced, not written anew in its place: a kill leaves no half of it.
        assert (tmp_path / "before.csv").read_text() == before
        run[2].load_weights(run[0] / "stage2.keras")
        expected = weights_by_layer(run[1], run[2])
        assert changed(expected, weights_by_layer(backbone, model)) == set()

    def test_finished_run_is_read_back(self, run):
        folder, backbone, model, history, _ = run
        model.load_weights(folder / "stage2.keras")
        decoded, recorder = len(TRAINING.decoded), Recorder()
        again_backbone, again, again_history = fit(folder, callbacks=[recorder])
        assert again_history == history
        assert recorder.epochs == []
        assert len(TRAINING.decoded) == decoded
        expected = weights_by_layer(backbone, model)
        assert changed(expected, weights_by_layer(again_backbone, again)) == set()

    @pytest.mark.parametrize(
        ("options", "names"),
        [
            ({"seed": 1}, "seed: 0 there, 1 here"),
            ({"batch_size": 4}, "batch_size: 3 there, 4 here"),
            ({"num_cached_crops": 3}, "num_cached_crops: 2 there, 3 here"),
            ({"cache": None}, "cache_dtype: 'float32' there, None here"),
            (
                {"stages": (replace(STAGES[0], epochs=4), STAGES[1])},
                "stages.1.epochs: 3 there, 4 here",
            ),
        ],
    )
    def test_other_settings(self, run, options, names):
        folder = run[0]
        state = (folder / "state.npz").read_bytes()
        message = f"'{folder}' holds a run with other settings and is left as it is ("
        with pytest.raises(ValueError, match=re.escape(message)) as error:
            fit(folder, **options)
        assert names in str(error.value)
        assert str(error.value).endswith("or the same settings to go on.")
        assert (folder / "state.npz").read_bytes() == state

    def test_finished_run_needs_no_features(self, run, tmp_path):
        shutil.copytree(run[0], tmp_path / "run", ignore=shutil.ignore_patterns("features"))
        fit(tmp_path / "run")
        assert not (tmp_path / "run" / "features").exists()

    def test_changed_labels_and_backbone(self, run):
        backbone, model = make_model()
        cache = FeatureCache(run[0] / "features")
        options = {"stages": STAGES, "batch_size": 3, "cache": cache, "num_cached_crops": 2}
        relabeled = MemoryClips(TRAINING.frames, TRAINING.labels[::-1], names=TRAINING.names)
        with pytest.raises(ValueError, match=r"left as it is \(labels: "):
            fit_in_stages(model, relabeled, VALIDATION, run[0], **options)
        backbone.model.set_weights([weight + 1 for weight in backbone.model.get_weights()])
        with pytest.raises(ValueError, match=r"left as it is \(backbone: "):
            fit_in_stages(model, TRAINING, VALIDATION, run[0], **options)


def test_run_stopped_by_a_callback_is_finished(tmp_path):
    class StopFirst(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    _, _, history = fit(tmp_path, stages=STAGES[:1], callbacks=[StopFirst()])
    assert len(history) == 1
    recorder = Recorder()
    assert fit(tmp_path, stages=STAGES[:1], callbacks=[recorder])[2] == history
    assert recorder.epochs == []


def test_what_is_trained_in_each_stage(tmp_path):
    backbone = tiny_backbone()
    model = ta_vlad(backbone, 3, num_frames=2, num_clusters=4, units=3, alpha=5.0)
    weights = []

    class Snapshots(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            weights.append(weights_by_layer(backbone, model))

        def on_train_end(self, logs=None):
            weights.append(weights_by_layer(backbone, model))

    first, second = (Stage(epochs=1, learning_rate=0.01), Stage(epochs=1, learning_rate=0.01))
    stages = (
        replace(first, trainable_layers=("shared_gru", "logits")),
        replace(second, freed_block="block2"),
    )
    fit_in_stages(
        model,
        TRAINING,
        VALIDATION,
        tmp_path,
        stages=stages,
        batch_size=3,
        cache=FeatureCache(tmp_path, "float16"),
        num_cached_crops=1,
        callbacks=[Snapshots()],
    )
    head = {("shared_gru", i) for i in range(3)} | {("logits", 0), ("logits", 1)}
    assert changed(*weights[:2]) == head
    # The class activation map's bias takes part in an argmax alone; batch norms stay as they are.
    freed = {("conv2", 0), ("attention", 0), ("vlad", 0), ("vlad", 1), ("vlad", 2)}
    assert changed(*weights[2:]) == head | freed


def test_centers_are_set_before_the_first_epoch(run, tmp_path):
    _, model = make_model()
    start = model.get_layer("vlad").get_weights()
    run[2].load_weights(run[0] / "stage1.keras")
    kernel, bias, centers = run[2].get_layer("vlad").get_weights()
    assert np.any(centers != start[2])
    np.testing.assert_allclose(kernel, 10 * centers.T, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(bias, -5 * np.sum(centers**2, axis=-1), rtol=1e-4)


def test_several_labels_without_a_cache(tmp_path):
    training = MemoryClips.random(6, num_frames=2, multi_label=True)
    validation = MemoryClips.random(6, num_frames=2, multi_label=True, seed=1)
    backbone = tiny_backbone()
    model = average_pooling(backbone, 3, num_frames=2, dropout=0.0)
    stages = [Stage(epochs=2, learning_rate=0.1, freed_block="block2")]
    before = weights_by_layer(backbone, model)
    history = fit_in_stages(model, training, validation, tmp_path, stages=stages, batch_size=3)
    assert {"loss", "auc", "val_loss", "val_auc"} <= set(history[0])
    assert changed(before, weights_by_layer(backbone, model)) == {
        ("conv2", 0),
        ("logits", 0),
        ("logits", 1),
    }
    logits = predict_logits(model, validation)
    best = max(history, key=lambda row: (row["val_auc"], -row["val_loss"]))
    losses = np.logaddexp(0, logits) - validation.labels * logits
    assert losses.mean() == pytest.approx(best["val_loss"], rel=1e-3)
    # Each epoch reads every clip anew.
    assert training.decoded.count("0-0") == 2


class TestErrors:
    def fit(self, folder, training=TRAINING, validation=VALIDATION, **stage):
        backbone = tiny_backbone()
        model = average_pooling(backbone, 3, num_frames=2)
        kernel, bias = model.get_layer("logits").get_weights()
        model.get_layer("logits").set_weights([kernel * stage.pop("factor", 1), bias])
        stages = [Stage(**{"epochs": 2, "learning_rate": 0.1, **stage})]
        cache = FeatureCache(folder / "features")
        return fit_in_stages(model, training, validation, folder, stages=stages, cache=cache)

    @pytest.mark.parametrize("name", ["training", "validation"])
    def test_empty_source(self, tmp_path, name):
        message = f"`{name}` must hold at least one clip. Received: an empty source."
        with pytest.raises(ValueError, match=re.escape(message)):
            self.fit(tmp_path, **{name: TRAINING.subset([])})

    def test_loss_is_not_a_number(self, tmp_path):
        message = (
            "The loss became nan (validation: nan) in epoch 1 of stage 1. Lower the learning rate, "
            "or clip the gradients with `clip_norm`."
        )
        with pytest.raises(FloatingPointError, match=re.escape(message)):
            self.fit(tmp_path, factor=np.nan)
        assert not (tmp_path / "state.npz").exists()

    def test_counts(self, tmp_path):
        for name in ("batch_size", "num_cached_crops"):
            message = f"`{name}` must be a positive integer. Received: {name}=0."
            with pytest.raises(ValueError, match=re.escape(message)):
                fit(tmp_path, **{name: 0})

    def test_backbone_without_blocks(self, tmp_path):
        model = average_pooling(replace(tiny_backbone(), blocks={}), 3, num_frames=2)
        with pytest.raises(ValueError, match="'tiny' names no blocks"):
            fit_in_stages(model, TRAINING, VALIDATION, tmp_path)

    def test_unknown_layers(self, tmp_path):
        message = "`trainable_layers` must name layers of 'average_pooling', which has ['logits']."
        with pytest.raises(ValueError, match=re.escape(message)):
            self.fit(tmp_path, trainable_layers=("shared_gru",))

    def test_unknown_block(self, tmp_path):
        with pytest.raises(ValueError, match=r"`block` must be one of \['block1', 'block2'\]"):
            self.fit(tmp_path, freed_block="block3")


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "epoch"), [(1, 2), (2, 1)])
def test_killed_run_ends_the_same(tmp_path, traced, stage, epoch):
    whole_backbone, whole, expected = fit(tmp_path / "whole")
    code = f"""
    import os, signal, sys
    from pathlib import Path
    from tests.tfvlad.training import test_fitting

    class Kill(test_fitting.StopAt):
        def on_train_batch_end(self, batch, logs=None):
            try:
                super().on_train_batch_end(batch, logs)
            except KeyboardInterrupt:
                os.kill(os.getpid(), signal.SIGKILL)

    test_fitting.fit(Path(sys.argv[1]), callbacks=[Kill({stage}, {epoch})])
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "run")],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        check=False,
    )
    assert result.returncode == -signal.SIGKILL, result.stderr[-3000:]
    backbone, model, history = fit(tmp_path / "run")
    assert rows_without_time(history) == rows_without_time(expected)
    before = weights_by_layer(whole_backbone, whole)
    assert changed(before, weights_by_layer(backbone, model)) == set()
