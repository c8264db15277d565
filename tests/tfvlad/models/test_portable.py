"""Models of any precision as they can be exported."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.export.serving.serving_cases import SMALL, mixed_model, mixed_precision
from tests.helpers import normal, tiny_backbone
from tfvlad import compat
from tfvlad.models import action_vlad, average_pooling, late_fusion, ta_vlad
from tfvlad.models.portable import portable

pytestmark = pytest.mark.current


def frames_of(model):
    generator = np.random.default_rng(0)
    clips = [generator.integers(0, 256, (2, *x.shape[1:])) for x in model.inputs]
    clips = [clip.astype("float32") for clip in clips]
    return clips if len(clips) > 1 else clips[0]


def flattened_gru():
    return ta_vlad(tiny_backbone(), 3, units=5, temporal="flattened_gru", **SMALL)


def fusion_of_one_backbone():
    backbone = tiny_backbone()
    parts = [action_vlad(backbone, 3, **SMALL), average_pooling(backbone, 3, num_frames=3)]
    return late_fusion(parts)


def mixed(build):
    with mixed_precision():
        return build()


MODELS = {
    "ta_vlad": lambda: mixed_model("mixed_ta_vlad"),
    "flattened_gru": lambda: mixed(flattened_gru),
    "attention_lstm": lambda: mixed_model("mixed_attention_lstm"),
    "late_fusion": lambda: mixed(fusion_of_one_backbone),
}


@pytest.mark.parametrize(
    "build",
    [lambda: action_vlad(tiny_backbone(), 3, **SMALL), fusion_of_one_backbone],
    ids=["model", "fusion"],
)
def test_a_portable_model_is_returned_itself(build):
    model = build()
    assert portable(model) is model


@pytest.mark.parametrize("name", MODELS)
def test_half_precision_becomes_single(name):
    model = MODELS[name]()
    weights = [normal(*w.shape, seed=n) for n, w in enumerate(model.get_weights())]
    # Variances are positive.
    model.set_weights([np.abs(w) + 0.1 if w.ndim == 1 else w for w in weights])
    copy = portable(model)
    layers = list(compat.walk_layers(copy))
    assert {layer.compute_dtype for layer in layers} == {"float32"}
    assert "float16" in {layer.compute_dtype for layer in compat.walk_layers(model)}
    for part, same_part in zip(model.layers, copy.layers, strict=True):
        for weight, same in zip(part.get_weights(), same_part.get_weights(), strict=True):
            np.testing.assert_array_equal(same, weight)
    clips = frames_of(model)
    scores, expected = (tf.cast(x(clips), tf.float32) for x in (copy, model))
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(tf.nn.softmax(scores), tf.nn.softmax(expected), atol=2e-2)
    assert portable(copy) is copy


def test_a_recurrence_leaves_cudnn_in_the_copy_alone():
    model = flattened_gru()
    copy = portable(model)
    assert copy is not model

    def grus(model):
        return [x for x in compat.walk_layers(model) if isinstance(x, keras.layers.GRU)]

    assert [gru.use_cudnn for gru in grus(copy)] == [False]
    assert [gru.use_cudnn for gru in grus(model)] == ["auto"]
    clips = frames_of(model)
    np.testing.assert_allclose(copy(clips), model(clips), atol=1e-5)
