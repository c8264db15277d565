"""The logits of every model against the papers' equations, written out in numpy."""

import inspect

import keras
import numpy as np
import pytest

from tests.helpers import normal, tiny_backbone
from tests.tfvlad.layers import equations
from tfvlad.models import action_vlad, average_pooling, max_pooling, ta_vlad

CLIPS = np.random.default_rng(1).integers(0, 256, (2, 3, 32, 32, 3)).astype("float32")
# Small enough that no cluster is empty: the direction of an empty one's vector is rounding noise.
SMALL = {"num_frames": 3, "num_clusters": 4, "alpha": 5.0}


def weights_of(model, layer):
    return [weight.astype("float64") for weight in model.get_layer(layer).get_weights()]


def maps_of(backbone):
    """`(B, T, N, D)` before and after the backbone's last activation."""
    maps = backbone.model.predict(CLIPS.reshape(-1, 32, 32, 3), verbose=0)
    maps = maps.reshape(2, 3, 16, 6).astype("float64")
    return maps, np.maximum(maps, 0)


def randomize(model, *layers):
    """Other numbers than those that the layers start with, zero biases for one."""
    for name in layers:
        layer = model.get_layer(name)
        layer.set_weights([normal(*w.shape, seed=n) for n, w in enumerate(layer.get_weights())])


def attention_of(model, features):
    """Class activation maps of one clip's features `(T, N, D)`."""
    kernel, bias = weights_of(model, "attention")
    maps = [equations.class_activation_map(frame, kernel, bias) for frame in features]
    return np.array([equations.softmax(frame) for frame in maps])


def assert_logits(model, descriptors):
    kernel, bias = weights_of(model, "logits")
    expected = np.array(descriptors) @ kernel + bias
    np.testing.assert_allclose(model.predict(CLIPS, verbose=0), expected, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize(("build", "pool"), [(average_pooling, np.mean), (max_pooling, np.max)])
def test_pooling(build, pool):
    backbone = tiny_backbone()
    model = build(backbone, 3, num_frames=3)
    randomize(model, "logits")
    _, features = maps_of(backbone)
    assert_logits(model, pool(features, axis=(1, 2)))


@pytest.mark.parametrize("attention", [False, True])
def test_action_vlad(attention):
    backbone = tiny_backbone()
    model = action_vlad(backbone, 3, attention=attention, **SMALL)
    randomize(model, "logits")
    descriptors = []
    for pre_activation, features in zip(*maps_of(backbone), strict=True):
        weights = attention_of(model, features).ravel() if attention else None
        bag = equations.unit_rows(pre_activation).reshape(48, 6)
        encoded = equations.vlad(bag, *weights_of(model, "vlad"), weights=weights)
        descriptors.append(equations.unit(equations.unit_rows(encoded).ravel()))
    assert_logits(model, descriptors)


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("intra_normalize", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_ta_vlad(attention, intra_normalize, bidirectional):
    backbone = tiny_backbone()
    model = ta_vlad(
        backbone,
        3,
        units=5,
        attention=attention,
        intra_normalize=intra_normalize,
        bidirectional=bidirectional,
        **SMALL,
    )
    randomize(model, "shared_gru", "logits")
    gru = weights_of(model, "shared_gru")
    descriptors = []
    for pre_activation, features in zip(*maps_of(backbone), strict=True):
        weights = attention_of(model, features) if attention else np.ones((3, 16))
        frames = []
        for frame, weight in zip(equations.unit_rows(pre_activation), weights, strict=True):
            encoded = equations.vlad(frame, *weights_of(model, "vlad"), weights=weight)
            frames.append(equations.unit_rows(encoded) * np.sqrt(6) if intra_normalize else encoded)
        # (T, K, D): a cluster's vectors in the order of time
        clusters = np.moveaxis(np.array(frames), 1, 0)
        start = np.zeros(5)
        states = np.array([equations.gru(x, *gru[:3], start)[-1] for x in clusters])
        if bidirectional:
            backward = [equations.gru(x[::-1], *gru[3:], start)[-1] for x in clusters]
            states = np.concatenate([states, backward], axis=-1)
        descriptors.append(equations.unit(equations.unit_rows(states).ravel()))
    assert_logits(model, descriptors)


def test_attention_starts_from_the_classifier():
    backbone = tiny_backbone()
    for model in (ta_vlad(backbone, 3), action_vlad(backbone, 3, attention=True)):
        kernel, bias = model.get_layer("attention").get_weights()
        np.testing.assert_array_equal(kernel, backbone.classifier_kernel)
        np.testing.assert_array_equal(bias, backbone.classifier_bias)


def test_defaults_are_the_papers():
    def defaults(build):
        parameters = inspect.signature(build).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not p.empty}

    vlad = {"num_frames": 25, "num_clusters": 64, "alpha": 1000.0, "dropout": 0.5}
    assert defaults(ta_vlad) == {
        **vlad,
        "units": 256,
        "attention": True,
        "bidirectional": False,
        "intra_normalize": True,
        "name": "ta_vlad",
    }
    assert defaults(action_vlad) == {**vlad, "attention": False, "name": "action_vlad"}
    for build in (average_pooling, max_pooling):
        assert defaults(build) == {"num_frames": 25, "dropout": 0.5, "name": build.__name__}


def test_any_number_of_frames():
    models = [ta_vlad(tiny_backbone(), 3, **{**SMALL, "num_frames": n}, units=5) for n in (None, 3)]
    models[0].set_weights(models[1].get_weights())
    assert models[0].input_shape == (None, None, 32, 32, 3)
    np.testing.assert_allclose(
        models[0].predict(CLIPS, verbose=0), models[1].predict(CLIPS, verbose=0), atol=1e-5
    )
    longer = np.concatenate([CLIPS, CLIPS], axis=1)
    assert models[0].predict(longer, verbose=0).shape == (2, 3)


def test_uint8_and_float_frames_are_the_same():
    model = ta_vlad(tiny_backbone(), 3, units=5, **SMALL)
    expected = np.array(model(CLIPS))
    np.testing.assert_array_equal(np.array(model(CLIPS.astype("uint8"))), expected)


def test_backbone_is_frozen_and_dropout_is_in_front_of_the_logits():
    model = ta_vlad(tiny_backbone(), 3, dropout=0.25, units=5, **SMALL)
    assert model.get_layer("backbone").trainable_weights == []
    assert model.get_layer("dropout").rate == 0.25
    names = {layer.name for layer in model.layers if layer.trainable_weights}
    assert names == {"attention", "vlad", "shared_gru", "logits"}
    assert isinstance(model, keras.Model)
