import re
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import KERAS_MAJOR
from tests.helpers import MemoryFeatures
from tfvlad.models import attention_lstm, feature_softmax, plain_lstm
from tfvlad.training import Stage, fit_on_features, predict_on_features

pytestmark = pytest.mark.usefixtures("eagerly")

NUM_STEPS, NUM_ATTENDED, INPUT_CHANNELS, ATTENDED_CHANNELS = 3, 4, 5, 6
STAGE = Stage(
    epochs=4, learning_rate=0.05, constant_epochs=2, decay_epochs=1, optimizer="sgd", best_by="loss"
)
# One epoch.
ONE = replace(STAGE, epochs=1)


TRAINING, VALIDATION = MemoryFeatures(9), MemoryFeatures(5, seed=10)


# Keras 2.15 keeps dropout's random stream out of reach: a resumed run draws other numbers.
DROPOUT = 0.5 if KERAS_MAJOR >= 3 else 0.0


def make_model(**options):
    keras.utils.set_random_seed(0)
    return attention_lstm(
        3,
        INPUT_CHANNELS,
        ATTENDED_CHANNELS,
        **{
            "num_steps": NUM_STEPS,
            "num_attended": NUM_ATTENDED,
            "units": 4,
            "matching_units": 4,
            "dropout": DROPOUT,
            **options,
        },
    )


def fit(folder, *, stage=STAGE, model=None, training=TRAINING, validation=VALIDATION, **options):
    model = model or make_model()
    options = {"stage": stage, "batch_size": 4, **options}
    return model, fit_on_features(model, training, validation, folder, **options)


class StopAt(keras.callbacks.Callback):
    """Ends the run in the middle of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.now == self.epoch and batch == 1:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, *fit(folder)


class TestFit:
    def test_learns_with_the_stage_s_schedule(self, run):
        history = run[2]
        assert [row["epoch"] for row in history] == [1, 2, 3, 4]
        rates = [row["learning_rate"] for row in history]
        assert rates == pytest.approx([0.05, 0.05, 0.025, 0.0125])

    def test_ends_with_the_epoch_of_the_lowest_loss(self, run):
        _, model, history = run
        loss, *_ = model.evaluate(VALIDATION.dataset(4, False, False, 0), verbose=0)
        assert loss == pytest.approx(min(row["val_loss"] for row in history), rel=1e-4)

    def test_saved_model(self, run):
        folder, model, _ = run
        loaded = keras.models.load_model(folder / "stage1.keras")
        np.testing.assert_allclose(
            loaded.predict(TRAINING.sets, verbose=0), model.predict(TRAINING.sets, verbose=0), 1e-5
        )

    @pytest.mark.parametrize("epoch", [0, 2])
    def test_goes_on_where_it_was_stopped(self, run, tmp_path, epoch):
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path, callbacks=[StopAt(epoch)])
        model, history = fit(tmp_path)
        for resumed, expected in zip(model.get_weights(), run[1].get_weights(), strict=True):
            np.testing.assert_array_equal(resumed, expected)
        assert [row["loss"] for row in history] == [row["loss"] for row in run[2]]

    def test_goes_on_in_a_graph(self, tmp_path, traced):
        training, validation = (MemoryFeatures(n, num_sets=1, seed=n) for n in (9, 5))

        def fit_softmax(name, callbacks=()):
            keras.utils.set_random_seed(0)
            model = feature_softmax(3, INPUT_CHANNELS, num_steps=NUM_STEPS, dropout=DROPOUT)
            options = {"training": training, "validation": validation, "callbacks": callbacks}
            return fit(tmp_path / name, model=model, **options)

        whole, expected = fit_softmax("whole")
        with pytest.raises(KeyboardInterrupt):
            fit_softmax("stopped", [StopAt(2)])
        resumed, history = fit_softmax("stopped")
        np.testing.assert_array_equal(resumed.get_weights()[0], whole.get_weights()[0])
        assert [row["loss"] for row in history] == [row["loss"] for row in expected]

    def test_finished_run_only_loads(self, run, tmp_path):
        folder = shutil.copytree(run[0], tmp_path / "copy")
        model, history = fit(folder, callbacks=[StopAt(0)])
        assert history == run[2]
        for found, expected in zip(model.get_weights(), run[1].get_weights(), strict=True):
            np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize("stopped", [False, True])
    def test_patience(self, tmp_path, stopped):
        # The loss explodes: the first epoch stays the best one.
        stage = replace(STAGE, epochs=9, learning_rate=5.0, clip_norm=None, patience=2)
        validation = MemoryFeatures(5, seed=77)
        if stopped:
            with pytest.raises(KeyboardInterrupt):
                fit(tmp_path, stage=stage, validation=validation, callbacks=[StopAt(1)])
        _, history = fit(tmp_path, stage=stage, validation=validation)
        losses = [row["val_loss"] for row in history]
        best = int(np.argmin(losses))
        assert len(losses) == best + 1 + 2 < 9
        # A stage that its patience has ended stays ended.
        assert fit(tmp_path, stage=stage, validation=validation)[1] == history

    def test_several_labels(self, tmp_path):
        parts = [MemoryFeatures(n, multi_label=True, seed=n) for n in (6, 5)]
        model = make_model(multi_label=True)
        _, history = fit(tmp_path, model=model, stage=ONE, training=parts[0], validation=parts[1])
        assert "val_auc" in history[0]

    @pytest.mark.parametrize("builder", [plain_lstm, feature_softmax])
    def test_one_set(self, tmp_path, builder):
        parts = [MemoryFeatures(n, num_sets=1, seed=n) for n in (6, 5)]
        model = builder(3, INPUT_CHANNELS, num_steps=NUM_STEPS)
        _, history = fit(tmp_path, model=model, stage=ONE, training=parts[0], validation=parts[1])
        assert len(history) == 1

    def test_only_chosen_layers(self, tmp_path):
        model = make_model()
        before = {x.name: x.get_weights() for x in model.layers if x.weights}
        fit(tmp_path, model=model, stage=replace(ONE, trainable_layers=("logits",)))
        changed = {
            name
            for name, weights in before.items()
            if any(
                np.any(a != b)
                for a, b in zip(weights, model.get_layer(name).get_weights(), strict=True)
            )
        }
        assert changed == {"logits"}


class TestErrors:
    def test_other_settings(self, run):
        message = r"other settings and is left as it is \(batch_size: 4 there, 5 here\)"
        with pytest.raises(ValueError, match=message):
            fit(run[0], batch_size=5)

    @pytest.mark.parametrize("multi_label", [False, True])
    def test_head_of_another_kind(self, tmp_path, multi_label):
        sources = [MemoryFeatures(n, multi_label=not multi_label) for n in (6, 5)]
        kinds = "one class a clip", "several classes a clip (multi-hot)"
        message = (
            f"'attention_lstm' was built for {kinds[multi_label]}, and the labels name "
            f"{kinds[not multi_label]}. Received: labels of shape {sources[0].labels.shape}. "
            f"Build the model with multi_label={not multi_label}."
        )
        with pytest.raises(ValueError, match=re.escape(message)):
            fit(
                tmp_path,
                model=make_model(multi_label=multi_label),
                training=sources[0],
                validation=sources[1],
            )

    def test_batch_size(self, tmp_path):
        with pytest.raises(ValueError, match=r"`batch_size` must be .* Received: batch_size=0\."):
            fit(tmp_path, batch_size=0)

    @pytest.mark.parametrize("name", ["training", "validation"])
    def test_empty_source(self, tmp_path, name):
        with pytest.raises(ValueError, match=f"`{name}` must hold at least one clip"):
            fit(tmp_path, **{name: MemoryFeatures(0)})


class TestPredict:
    @pytest.mark.parametrize("multi_label", [False, True])
    def test_mean_probability_of_the_chunks(self, multi_label):
        model = make_model(multi_label=multi_label)
        scores = predict_on_features(model, VALIDATION, num_chunks=2, flipped=True)
        probability = tf.sigmoid if multi_label else tf.nn.softmax
        chunks = [[features + n for features in VALIDATION.sets] for n in range(4)]
        expected = np.mean([probability(model(chunk)) for chunk in chunks], axis=0)
        np.testing.assert_allclose(probability(scores), expected, rtol=1e-5)
