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
    late_fusion,
    plain_lstm,
    with_num_frames,
)

pytestmark = pytest.mark.usefixtures("eagerly")

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


CLIPS = np.random.default_rng(0).integers(0, 256, (B, 2, 32, 32, 3)).astype("float32")


def three_models():
    return [average_pooling(tiny_backbone(seed=n), C, num_frames=2) for n in range(3)]


@pytest.mark.parametrize("weights", [None, (0.333, 0.667, 0.5), (2, 0, 1)])
class TestLateFusion:
    def test_logits(self, weights, tmp_path):
        models = three_models()
        fused = late_fusion(models, weights=weights)
        shares = np.array(weights or (1, 1, 1)) / sum(weights or (1, 1, 1))
        expected = sum(w * m(CLIPS).numpy() for w, m in zip(shares, models, strict=True))
        np.testing.assert_allclose(fused([CLIPS] * 3), expected, rtol=1e-4, atol=1e-4)
        assert is_multi_label(fused) is None
        fused.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(loaded([CLIPS] * 3), expected, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("multi_label", [False, True])
    def test_probabilities(self, weights, multi_label):
        models = three_models()
        arguments = {"weights": weights, "on": "probabilities", "multi_label": multi_label}
        fused = late_fusion(models, **arguments)
        assert is_multi_label(fused) is multi_label
        activation = tf.sigmoid if multi_label else tf.nn.softmax
        shares = np.array(weights or (1, 1, 1)) / sum(weights or (1, 1, 1))
        expected = sum(
            w * activation(m(CLIPS)).numpy() for w, m in zip(shares, models, strict=True)
        )
        np.testing.assert_allclose(activation(fused([CLIPS] * 3)), expected, rtol=1e-3, atol=1e-6)

    def test_other_numbers_of_frames(self, weights):
        models, longer = three_models(), np.tile(CLIPS, (1, 2, 1, 1, 1))
        fused = with_num_frames(late_fusion(models, weights=weights), 4)
        expected = late_fusion([with_num_frames(model, 4) for model in models], weights=weights)
        np.testing.assert_allclose(fused([longer] * 3), expected([longer] * 3), rtol=1e-5)


def test_late_fusion_of_scores_of_another_kind():
    models = [average_pooling(tiny_backbone(), C, num_frames=2), build_all(multi_label=True)[2]]
    fused = late_fusion(models)
    expected = (models[0](CLIPS) + models[1](DATA[0])) / 2
    np.testing.assert_allclose(fused([CLIPS, DATA[0]]), expected, rtol=1e-5)
    message = "`multi_label` must agree with the models."
    with pytest.raises(ValueError, match=re.escape(message)):
        late_fusion(models, multi_label=False)


@pytest.mark.parametrize("weights", [(1, 2), (1, -1, 1), (0, 0, 0)])
def test_late_fusion_with_wrong_weights(weights):
    message = (
        "`weights` must be 3 numbers, none of them negative and not all zero. "
        f"Received: weights={list(weights)}."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        late_fusion(three_models(), weights=weights)


def test_late_fusion_on_something_else():
    message = '`on` must be "logits" or "probabilities". Received: on=\'normalized\'.'
    with pytest.raises(ValueError, match=re.escape(message)):
        late_fusion(three_models(), on="normalized")


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
