"""The logits of every model against the papers' equations, written out in numpy."""

import inspect
import re

import keras
import numpy as np
import pytest

from tests.helpers import normal, tiny_backbone
from tests.tfvlad.layers import equations
from tfvlad.backbones import with_frozen_copy
from tfvlad.models import (
    action_vlad,
    average_pooling,
    intermediate_outputs,
    max_pooling,
    ta_vlad,
)

pytestmark = pytest.mark.usefixtures("eagerly")

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


def attention_of(model, features, temperature=4.0):
    """Class activation maps of one clip's features `(T, N, D)`."""
    kernel, bias = weights_of(model, "attention")
    maps = [equations.class_activation_map(frame, kernel, bias) / temperature for frame in features]
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


@pytest.mark.parametrize("attention", [False, True])
def test_action_vlad_of_segments(attention):
    """VLAD of frames 0 and 1, and of frame 2, joined."""
    backbone = tiny_backbone()
    model = action_vlad(backbone, 3, attention=attention, num_segments=2, **SMALL)
    randomize(model, "logits")
    descriptors = []
    for pre_activation, features in zip(*maps_of(backbone), strict=True):
        weights = attention_of(model, features) if attention else np.ones((3, 16))
        rows = equations.unit_rows(pre_activation)
        encoded = [
            equations.vlad(
                rows[frames].reshape(-1, 6),
                *weights_of(model, "vlad"),
                weights=weights[frames].ravel(),
            )
            for frames in (slice(0, 2), slice(2, 3))
        ]
        rows = [equations.unit_rows(vectors).ravel() for vectors in encoded]
        descriptors.append(equations.unit(np.concatenate(rows)))
    assert descriptors[0].shape == (2 * 4 * 6,)
    assert_logits(model, descriptors)


def test_average_of_segments():
    backbone = tiny_backbone()
    model = average_pooling(backbone, 3, num_frames=3, num_segments=2)
    randomize(model, "logits")
    _, features = maps_of(backbone)
    means = features.mean(axis=2)
    assert_logits(model, np.concatenate([means[:, :2].mean(axis=1), means[:, 2]], axis=-1))


@pytest.mark.parametrize("build", [action_vlad, average_pooling])
def test_more_segments_than_frames(build):
    message = "`num_segments` must be at most the number of frames, 3. Received: num_segments=4."
    with pytest.raises(ValueError, match=re.escape(message)):
        build(tiny_backbone(), 3, num_frames=3, num_segments=4)


def frame_vectors(
    model, backbone, attention=True, intra_normalize=True, *, scale=1.0, temperature=4.0
):
    """What the GRU reads of each clip, `(T, K, D)`."""
    for pre_activation, features in zip(*maps_of(backbone), strict=True):
        weights = np.ones((3, 16))
        if attention:
            weights = attention_of(model, features, temperature)
        frames = []
        for frame, weight in zip(equations.unit_rows(pre_activation), weights, strict=True):
            encoded = equations.vlad(frame, *weights_of(model, "vlad"), weights=weight)
            frames.append(scale * (equations.unit_rows(encoded) if intra_normalize else encoded))
        yield np.array(frames)


def last_state(rows, gru):
    """Of a GRU's weights, or of those of two that read `(T, D)` forwards and backwards."""
    last = equations.gru(rows, *gru[:3], np.zeros(5))[-1]
    if len(gru) > 3:
        last = np.concatenate([last, equations.gru(rows[::-1], *gru[3:], np.zeros(5))[-1]])
    return last


@pytest.mark.parametrize("intra_normalize", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("temporal", ["flattened_gru", "separate_grus"])
def test_other_grus(temporal, bidirectional, intra_normalize):
    backbone = tiny_backbone()
    arguments = {"bidirectional": bidirectional, "intra_normalize": intra_normalize}
    model = ta_vlad(backbone, 3, units=5, temporal=temporal, **arguments, **SMALL)
    randomize(model, temporal, "logits")
    weights, descriptors = weights_of(model, temporal), []
    for frames in frame_vectors(model, backbone, intra_normalize=intra_normalize):
        if temporal == "flattened_gru":
            rows, grus = [frames.reshape(3, 4 * 6)], [weights]
        else:
            rows, grus = np.moveaxis(frames, 1, 0), [[w[k] for w in weights] for k in range(4)]
        states = np.array([last_state(x, gru) for x, gru in zip(rows, grus, strict=True)])
        descriptors.append(equations.unit(equations.unit_rows(states).ravel()))
    assert descriptors[0].shape == (len(grus) * 5 * (1 + bidirectional),)
    assert_logits(model, descriptors)


def test_unknown_temporal():
    message = (
        "`temporal` must be one of ('shared_gru', 'flattened_gru', 'separate_grus'). "
        "Received: temporal='lstm'."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        ta_vlad(tiny_backbone(), 3, temporal="lstm")


@pytest.mark.parametrize("build", [action_vlad, ta_vlad, average_pooling])
def test_attention_of_the_frozen_copy(build):
    backbone = tiny_backbone()
    decoupled = with_frozen_copy(backbone, "block2")
    if build is average_pooling:
        models = [build(b, 3, num_frames=3) for b in (decoupled, backbone)]
    else:
        models = [build(b, 3, attention=True, **SMALL) for b in (decoupled, backbone)]
        kernel = models[0].get_layer("attention").get_weights()[0]
        np.testing.assert_array_equal(kernel, backbone.classifier_kernel)
        assert models[0].get_layer("attention").trainable_weights == []
    model, coupled = models
    for layer in coupled.layers[2:]:
        if layer.weights:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    np.testing.assert_allclose(
        model.predict(CLIPS, verbose=0), coupled.predict(CLIPS, verbose=0), atol=1e-5
    )

    # The trained half moves, the attention stays.
    conv2 = backbone.model.get_layer("conv2")
    names = ["logits"] if build is average_pooling else ["attention", "assignments"]
    outputs, coupled_outputs = (intermediate_outputs(m, names) for m in models)
    before = outputs.predict(CLIPS, verbose=0)
    conv2.set_weights([conv2.get_weights()[0] + 0.2 * normal(3, 3, 4, 6)])
    after = outputs.predict(CLIPS, verbose=0)
    assert np.abs(after[names[-1]] - before[names[-1]]).max() > 1e-3
    if build is not average_pooling:
        np.testing.assert_array_equal(after["attention"], before["attention"])
        expected = coupled_outputs.predict(CLIPS, verbose=0)
        np.testing.assert_allclose(after["assignments"], expected["assignments"], atol=1e-5)
        assert np.abs(after["attention"] - expected["attention"]).max() > 1e-3


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
    for frames in frame_vectors(model, backbone, attention, intra_normalize):
        # (T, K, D): a cluster's vectors in the order of time
        states = np.array([last_state(x, gru) for x in np.moveaxis(frames, 1, 0)])
        descriptors.append(equations.unit(equations.unit_rows(states).ravel()))
    assert_logits(model, descriptors)


def test_other_scale_and_temperature():
    backbone = tiny_backbone()
    arguments = {"input_scale": "sqrt_channels", "attention_temperature": 0.5}
    model = ta_vlad(backbone, 3, units=5, **arguments, **SMALL)
    randomize(model, "shared_gru", "logits")
    gru, descriptors = weights_of(model, "shared_gru"), []
    for frames in frame_vectors(model, backbone, scale=np.sqrt(6), temperature=0.5):
        states = np.array([last_state(x, gru) for x in np.moveaxis(frames, 1, 0)])
        descriptors.append(equations.unit(equations.unit_rows(states).ravel()))
    assert_logits(model, descriptors)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("temporal", ["shared_gru", "separate_grus", "flattened_gru"])
def test_first_bias_of_the_update_gate(temporal, bidirectional):
    model = ta_vlad(
        tiny_backbone(),
        3,
        units=5,
        temporal=temporal,
        bidirectional=bidirectional,
        update_bias=1.5,
        **SMALL,
    )
    biases = [w for w in weights_of(model, temporal) if w.shape[-2:] == (2, 15)]
    assert len(biases) == 1 + bidirectional
    for bias in biases:
        np.testing.assert_array_equal(bias[..., 0, :5], 1.5)
        assert np.count_nonzero(bias) == bias[..., 0, :5].size


@pytest.mark.parametrize("scale", ["sqrt", 0, -1.0, float("nan")])
def test_unknown_scale(scale):
    message = (
        '`input_scale` must be a positive number or "sqrt_channels". '
        f"Received: input_scale={scale!r}."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        ta_vlad(tiny_backbone(), 3, input_scale=scale)


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
        "temporal": "shared_gru",
        "bidirectional": False,
        "intra_normalize": True,
        # Ours, see docs/results.md.
        **{"attention_temperature": 4.0, "input_scale": 1.0, "update_bias": 2.0},
        "name": "ta_vlad",
    }
    assert defaults(action_vlad) == {
        **vlad,
        "num_segments": 1,
        "attention": False,
        "attention_temperature": 4.0,
        "name": "action_vlad",
    }
    pooling = {"num_frames": 25, "dropout": 0.5}
    assert defaults(max_pooling) == {**pooling, "name": "max_pooling"}
    assert defaults(average_pooling) == {**pooling, "num_segments": 1, "name": "average_pooling"}


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
