import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import normal, tiny_backbone
from tfvlad.models import (
    attention_lstm,
    average_pooling,
    ensemble,
    feature_softmax,
    intermediate_outputs,
    is_multi_label,
    plain_lstm,
)

B, C, DV = 4, 3, 3
OBJECTS, SCENES = 6, 5
DATA = [normal(B, 2, size, seed=size) for size in (DV, OBJECTS, DV, SCENES)]


def build_all(multi_label=False):
    """Three models of the same name but other attended data, and a baseline."""
    arguments = {"num_steps": 2, "units": 4, "multi_label": multi_label}
    models = [
        attention_lstm(C, DV, size, num_attended=2, matching_units=4, **arguments)
        for size in (OBJECTS, SCENES)
    ]
    return [*models, plain_lstm(C, DV, **arguments)]


@pytest.mark.parametrize("multi_label", [False, True])
def test_averages_the_probabilities(multi_label, tmp_path):
    models = build_all(multi_label)
    inputs = [*DATA, normal(B, 2, DV, seed=9)]
    together = ensemble(models)
    scores = together.predict(inputs, verbose=0)
    activation = tf.sigmoid if multi_label else tf.nn.softmax
    parts = (inputs[:2], inputs[2:4], inputs[4])
    alone = [activation(model(x)) for model, x in zip(models, parts, strict=True)]
    np.testing.assert_allclose(activation(scores), np.mean(alone, axis=0), rtol=1e-5)
    together.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(inputs, verbose=0), scores, atol=1e-6)
    assert is_multi_label(loaded) is multi_label


def test_shares_the_weights():
    models = build_all()
    together = ensemble(models)
    before = together(inputs := [*DATA, DATA[0]])
    models[2].set_weights([w + 1 for w in models[2].get_weights()])
    assert np.max(np.abs(together(inputs) - before)) > 1e-3
    # Models in an ensemble keep their own intermediate tensors.
    attention = intermediate_outputs(models[1], ["attention"]).predict(DATA[2:], verbose=0)
    assert attention["attention"].shape == (B, 2, 2)
    assert list(intermediate_outputs(together).output) == ["logits"]


def test_plain_logits_join():
    backbone = tiny_backbone()
    clips = normal(B, 2, 32, 32, 3)
    models = [average_pooling(backbone, C, num_frames=2), build_all(multi_label=True)[2]]
    together = ensemble(models)
    assert is_multi_label(together) is True
    expected = np.mean([tf.sigmoid(models[0](clips)), tf.sigmoid(models[1](DATA[0]))], axis=0)
    np.testing.assert_allclose(tf.sigmoid(together([clips, DATA[0]])), expected, rtol=1e-4)


@pytest.mark.parametrize("multi_label", [False, True])
def test_plain_logits_alone(multi_label):
    backbone = tiny_backbone()
    clips = normal(B, 2, 32, 32, 3)
    models = [average_pooling(backbone, C, num_frames=2) for _ in range(2)]
    together = ensemble(models, multi_label=multi_label)
    assert is_multi_label(together) is multi_label
    activation = tf.sigmoid if multi_label else tf.nn.softmax
    expected = np.mean([activation(model(clips)) for model in models], axis=0)
    np.testing.assert_allclose(activation(together([clips, clips])), expected, rtol=1e-4)


def test_is_multi_label():
    assert is_multi_label(feature_softmax(C, DV)) is False
    assert is_multi_label(feature_softmax(C, DV, multi_label=True)) is True
    assert is_multi_label(average_pooling(tiny_backbone(), C, num_frames=2)) is None


class TestErrors:
    def test_too_few(self):
        message = "`models` must be at least two models. Received: ['plain_lstm']."
        with pytest.raises(ValueError, match=re.escape(message)):
            ensemble([plain_lstm(C, DV)])

    def test_other_classes(self):
        message = (
            "`models` must have the same classes. Received: [3, 4] classes of "
            "['plain_lstm', 'feature_softmax']."
        )
        with pytest.raises(ValueError, match=re.escape(message)):
            ensemble([plain_lstm(3, DV), feature_softmax(4, DV)])

    def test_other_kinds(self):
        message = (
            "`models` must all be multi-label or all single-label. Received: "
            "multi_label=[True, False] of ['plain_lstm', 'feature_softmax']."
        )
        with pytest.raises(ValueError, match=re.escape(message)):
            ensemble([plain_lstm(C, DV, multi_label=True), feature_softmax(C, DV)])

    def test_unknown_kind(self):
        model = average_pooling(tiny_backbone(), C, num_frames=2, name="pooling")
        message = (
            "`multi_label` must be True or False where all models are of plain logits. Received: "
            "multi_label=None for ['pooling', 'pooling']."
        )
        with pytest.raises(ValueError, match=re.escape(message)):
            ensemble([model, model])

    @pytest.mark.parametrize("multi_label", [False, True])
    def test_the_other_kind(self, multi_label):
        models = [
            average_pooling(tiny_backbone(), C, num_frames=2, name="pooling"),
            plain_lstm(C, DV, multi_label=not multi_label),
        ]
        message = (
            "`multi_label` must agree with the models. Received: "
            f"multi_label={multi_label} for ['pooling', 'plain_lstm'] of "
            f"multi_label=[None, {not multi_label}]."
        )
        with pytest.raises(ValueError, match=re.escape(message)):
            ensemble(models, multi_label=multi_label)
