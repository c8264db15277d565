"""Frame attributions against the models' equations, written out in numpy."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import normal, tiny_backbone
from tests.tfvlad.layers import equations
from tfvlad.backbones import flow_backbone, with_frozen_copy
from tfvlad.models import (
    action_vlad,
    average_pooling,
    ensemble,
    frame_attributions,
    head_of,
    late_fusion,
    max_pooling,
    ta_vlad,
    two_stream,
    with_num_frames,
)

pytestmark = pytest.mark.usefixtures("eagerly")

CLIPS = np.random.default_rng(1).integers(0, 256, (2, 3, 32, 32, 3)).astype("uint8")
SMALL = {"num_frames": 3, "num_clusters": 4, "alpha": 5.0}
MODELS = {
    "average_pooling": lambda: average_pooling(tiny_backbone(), 3, num_frames=3),
    "max_pooling": lambda: max_pooling(tiny_backbone(), 3, num_frames=3),
    "action_vlad": lambda: action_vlad(tiny_backbone(), 3, **SMALL),
    "ta_action_vlad": lambda: action_vlad(tiny_backbone(), 3, attention=True, **SMALL),
    "hard_action_vlad": lambda: action_vlad(tiny_backbone(), 3, **{**SMALL, "alpha": 1000.0}),
    "vlad_gru": lambda: ta_vlad(tiny_backbone(), 3, units=5, attention=False, **SMALL),
    "ta_vlad": lambda: ta_vlad(tiny_backbone(), 3, units=5, **SMALL),
    "ta_vlad_raw": lambda: ta_vlad(tiny_backbone(), 3, units=5, intra_normalize=False, **SMALL),
    "ta_vlad_bidirectional": lambda: ta_vlad(
        tiny_backbone(), 3, units=5, bidirectional=True, **SMALL
    ),
}
MODELS["separate_grus"] = lambda: ta_vlad(
    tiny_backbone(), 3, units=5, temporal="separate_grus", bidirectional=True, **SMALL
)
MODELS["average_segments"] = lambda: average_pooling(
    tiny_backbone(), 3, num_frames=3, num_segments=2
)
MODELS["action_vlad_segments"] = lambda: action_vlad(
    tiny_backbone(), 3, attention=True, num_segments=2, **SMALL
)
MODELS["frozen_copy"] = lambda: ta_vlad(
    with_frozen_copy(tiny_backbone(), "block2"), 3, units=5, **SMALL
)
every_model = pytest.mark.parametrize("name", MODELS)


def randomized(name):
    """Other numbers than those that the layers start with, zero biases for one."""
    model = MODELS[name]()
    for layer in model.layers:
        if layer.name in ("logits", "shared_gru", "separate_grus"):
            layer.set_weights([normal(*w.shape, seed=n) for n, w in enumerate(layer.get_weights())])
    return model


def weights_of(model, layer):
    return [weight.astype("float64") for weight in model.get_layer(layer).get_weights()]


def maps_of(model):
    return model.get_layer("backbone")(CLIPS).numpy()


def frame_vectors(model, clip):
    """Unnormalised VLAD `(T, K, D)` of the maps `(T, h, w, D)` of one clip."""
    flat = clip.reshape(3, 16, 6).astype("float64")
    weights = np.ones((3, 16))
    if "attention" in {layer.name for layer in model.layers}:
        kernel, bias = weights_of(model, "attention")
        features = np.maximum(flat, 0)
        weights = np.array(
            [
                equations.softmax(equations.class_activation_map(f, kernel, bias) / 4.0)
                for f in features
            ]
        )
    vlad = weights_of(model, "vlad")
    pairs = zip(equations.unit_rows(flat), weights, strict=True)
    return np.array([equations.vlad(frame, *vlad, weights=weight) for frame, weight in pairs])


def split_logit(parts, model, class_index):
    """`a_t` of the parts `(T, K, D)` of a descriptor that both norms make."""
    kernel, bias = weights_of(model, "logits")
    total = parts.sum(axis=0)
    norms = np.linalg.norm(total, axis=-1)
    length = np.linalg.norm(total / norms[:, np.newaxis])
    rows = kernel[:, class_index].reshape(total.shape)
    shares = [
        sum(rows[k] @ part[k] / (norms[k] * length) for k in range(len(part))) for part in parts
    ]
    return np.array(shares) + bias[class_index] / len(parts)


@every_model
@pytest.mark.parametrize("class_index", [None, 1])
def test_add_up_to_the_logit(name, class_index):
    model = randomized(name)
    expected = model.predict(CLIPS, verbose=0)
    attributions, logits = frame_attributions(model, CLIPS, class_index)
    assert attributions.shape == (2, 3)
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    classes = expected.argmax(axis=1) if class_index is None else [class_index] * 2
    totals = attributions.numpy().sum(axis=1)
    np.testing.assert_allclose(totals, expected[[0, 1], classes], atol=1e-4)


@every_model
def test_all_classes(name):
    model = randomized(name)
    attributions, logits = frame_attributions(model, CLIPS, "all")
    assert attributions.shape == (2, 3, 3)
    np.testing.assert_allclose(attributions.numpy().sum(axis=1), logits, atol=1e-4)
    for c in range(3):
        expected, _ = frame_attributions(model, CLIPS, c)
        np.testing.assert_allclose(attributions[..., c], expected, atol=1e-5)


@every_model
def test_cached_maps_and_frames_are_the_same(name):
    model = randomized(name)
    expected, _ = frame_attributions(model, CLIPS)
    actual, _ = frame_attributions(head_of(model), maps_of(model))
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_average_pooling():
    model = randomized("average_pooling")
    attributions, _ = frame_attributions(model, CLIPS, 2)
    kernel, bias = weights_of(model, "logits")
    means = np.maximum(maps_of(model), 0).mean(axis=(2, 3))
    np.testing.assert_allclose(attributions, (means @ kernel[:, 2] + bias[2]) / 3, atol=1e-5)


def test_max_pooling_shares_ties():
    model = head_of(randomized("max_pooling"))
    kernel, bias = weights_of(model, "logits")
    maps = np.zeros((1, 3, 4, 4, 6), "float32")
    maps[0, 1, 2, 3, 0] = 2  # alone
    maps[0, 0, :2, 0, 1] = maps[0, 2, 0, 0, 1] = 3  # two locations of the first frame to one
    maps[0, :, :, :, 2:] = -1
    attributions, _ = frame_attributions(model, maps, 0)
    w = kernel[:, 0]
    expected = np.array([2 * w[1], 2 * w[0], w[1]]) + bias[0] / 3
    np.testing.assert_allclose(attributions[0], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["action_vlad", "ta_action_vlad"])
def test_action_vlad(name):
    model = randomized(name)
    attributions, _ = frame_attributions(model, CLIPS, [2, 0])
    for clip, maps in enumerate(maps_of(model)):
        expected = split_logit(frame_vectors(model, maps), model, [2, 0][clip])
        np.testing.assert_allclose(attributions[clip], expected, atol=1e-4)


def test_segments():
    """A frame adds to the clusters of its own segment alone."""
    model = randomized("action_vlad_segments")
    attributions, _ = frame_attributions(model, CLIPS, 1)
    for clip, maps in enumerate(maps_of(model)):
        placed = np.zeros((3, 8, 6))
        for t, vectors in enumerate(frame_vectors(model, maps)):
            segment = t * 2 // 3
            placed[t, 4 * segment : 4 * segment + 4] = vectors
        np.testing.assert_allclose(attributions[clip], split_logit(placed, model, 1), atol=1e-4)


@pytest.mark.parametrize(
    "name", ["vlad_gru", "ta_vlad", "ta_vlad_raw", "ta_vlad_bidirectional", "separate_grus"]
)
def test_ta_vlad(name):
    model = randomized(name)
    attributions, _ = frame_attributions(model, CLIPS, 1)
    is_separate = name == "separate_grus"
    stacked = weights_of(model, "separate_grus" if is_separate else "shared_gru")
    start = np.zeros(5)
    for clip, maps in enumerate(maps_of(model)):
        vectors = frame_vectors(model, maps)
        if name != "ta_vlad_raw":
            vectors = equations.unit_rows(vectors)
        changes = np.zeros((3, 4, 10 if len(stacked) > 3 else 5))
        for k in range(4):
            gru = [weight[k] for weight in stacked] if is_separate else stacked
            states = equations.gru(vectors[:, k], *gru[:3], start)
            for t in range(3):
                changes[t, k, :5] = states[t] - (states[t - 1] if t else start)
            if len(gru) > 3:
                states = equations.gru(vectors[::-1, k], *gru[3:], start)[::-1]
                for t in range(3):
                    changes[t, k, 5:] = states[t] - (states[t + 1] if t < 2 else start)
        np.testing.assert_allclose(
            attributions[clip], split_logit(changes, model, 1), rtol=1e-3, atol=1e-4
        )


def randomized_streams(fusion, *, frozen_copy=False):
    backbones = tiny_backbone(), flow_backbone(tiny_backbone(seed=1), 2)
    if frozen_copy:
        backbones = [with_frozen_copy(backbone, "block2") for backbone in backbones]
    weights = [1, 2] if fusion == "late" else None
    model = two_stream(*backbones, 3, fusion=fusion, weights=weights, **SMALL)
    for layer in model.layers:
        if layer.name.endswith("logits"):
            layer.set_weights([normal(*w.shape, seed=n) for n, w in enumerate(layer.get_weights())])
    return model


def fusion_of_models():
    """TA-VLAD on the frames and both streams together, fused again with ActionVLAD on the flow."""
    flow = action_vlad(flow_backbone(tiny_backbone(seed=1), 2), 3, **SMALL)
    inner = late_fusion([randomized("ta_vlad"), randomized_streams("concat")], weights=[3, 1])
    return late_fusion([inner, flow], weights=[1, 2])


FLOW = np.random.default_rng(2).integers(0, 256, (2, 3, 32, 32, 4)).astype("uint8")
FUSIONS = ("concat", "early", "late")


@pytest.mark.parametrize("frozen_copy", [False, True])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_two_streams_add_up_to_the_logits(fusion, frozen_copy):
    model = randomized_streams(fusion, frozen_copy=frozen_copy)
    expected = model.predict([CLIPS, FLOW], verbose=0)
    attributions, logits = frame_attributions(model, [CLIPS, FLOW], "all")
    assert attributions.shape == (2, 3, 3)
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    np.testing.assert_allclose(tf.reduce_sum(attributions, axis=1), expected, atol=1e-4)
    maps = [model.get_layer(f"{s}_backbone")(x) for s, x in (("rgb", CLIPS), ("flow", FLOW))]
    cached, _ = frame_attributions(head_of(model), maps, "all")
    np.testing.assert_allclose(cached, attributions, atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_two_streams(fusion):
    """A frame stands for the sum over the streams."""
    model = randomized_streams(fusion)
    attributions, _ = frame_attributions(model, [CLIPS, FLOW], 1)
    for clip in range(2):
        maps = [
            model.get_layer(f"{s}_backbone")(x[clip : clip + 1]).numpy()[0].reshape(3, 16, 6)
            for s, x in (("rgb", CLIPS), ("flow", FLOW))
        ]
        if fusion == "early":
            maps = [np.concatenate(maps, axis=-1)]
        names = ["vlad"] if fusion == "early" else ["rgb_vlad", "flow_vlad"]
        parts, start, expected = [], 0, np.zeros(3)
        for name, bag in zip(names, maps, strict=True):
            vlad = weights_of(model, name)
            frames = equations.unit_rows(bag.astype("float64"))
            raw = np.array([equations.vlad(frame, *vlad) for frame in frames])
            norms = np.linalg.norm(raw.sum(axis=0), axis=-1, keepdims=True)
            length = np.linalg.norm(raw.sum(axis=0) / norms)
            parts.append((raw / norms / length).reshape(3, -1))
        for number, part in enumerate(parts):
            stream = ("rgb_", "flow_")[number] if fusion == "late" else ""
            kernel, bias = weights_of(model, f"{stream}logits")
            rows = kernel[start : start + part.shape[1], 1]
            start += 0 if fusion == "late" else part.shape[1]
            share = (1 + number) / 3 if fusion == "late" else 1
            has_bias = fusion == "late" or number == 0
            expected += share * (part @ rows + has_bias * bias[1] / 3)
        np.testing.assert_allclose(attributions[clip], expected, atol=1e-4)


def test_late_fusion_of_models(tmp_path):
    model = fusion_of_models()
    inputs = [CLIPS, CLIPS, FLOW, FLOW]
    expected = model.predict(inputs, verbose=0)
    attributions, logits = frame_attributions(model, inputs, "all")
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    np.testing.assert_allclose(tf.reduce_sum(attributions, axis=1), expected, atol=1e-4)
    # Of each class: the weighted sum of the members' own attributions.
    inner, flow = sorted(
        (layer for layer in model.layers if isinstance(layer, keras.Model)),
        key=lambda layer: layer.name == "action_vlad_2",
    )
    one, _ = frame_attributions(inner, inputs[:3], "all")
    other, _ = frame_attributions(flow, FLOW, "all")
    np.testing.assert_allclose(attributions, one / 3 + other * 2 / 3, atol=1e-4)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    again, _ = frame_attributions(loaded, inputs, "all")
    np.testing.assert_allclose(again, attributions, atol=1e-5)


def test_frames_that_add_nothing_have_the_bias_alone():
    model = head_of(randomized("action_vlad"))
    vlad = model.get_layer("vlad")
    kernel, bias, centers = vlad.get_weights()
    maps = np.broadcast_to(centers[0], (1, 3, 4, 4, 6)).copy()
    # One cluster takes everything, and the features of the first two frames are its centre.
    vlad.set_weights([0 * kernel, np.array([0, -500, -500, -500]), centers])
    maps[:, 2] += normal(4, 4, 6)
    attributions, logits = frame_attributions(model, maps, 0)
    _, bias = weights_of(model, "logits")
    np.testing.assert_allclose(attributions[0, :2], bias[0] / 3, atol=1e-5)
    np.testing.assert_allclose(tf.reduce_sum(attributions), logits[0, 0], atol=1e-5)


@pytest.mark.parametrize("name", ["action_vlad", "ta_vlad"])
def test_a_clip_without_features_is_finite(name):
    attributions, logits = frame_attributions(
        head_of(MODELS[name]()), np.zeros((1, 3, 4, 4, 6), "float32"), 0
    )
    assert np.isfinite(attributions).all()
    np.testing.assert_allclose(tf.reduce_sum(attributions), logits[0, 0], atol=1e-5)


@pytest.mark.usefixtures("traced")
def test_dropout_is_off_and_a_function_of_a_loaded_model(tmp_path):
    model = randomized("ta_vlad_bidirectional")
    expected, _ = frame_attributions(model, CLIPS)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    attribute = tf.function(lambda clips: frame_attributions(loaded, clips))
    for _ in range(2):
        attributions, _ = attribute(CLIPS)
        np.testing.assert_allclose(attributions, expected, atol=1e-5)


def test_half_precision_is_close():
    expected, _ = frame_attributions(randomized("ta_vlad"), CLIPS, 0)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        attributions, logits = frame_attributions(randomized("ta_vlad"), CLIPS, 0)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert attributions.dtype == logits.dtype == tf.float32
    np.testing.assert_allclose(tf.reduce_sum(attributions, 1), logits[:, 0], atol=1e-4)
    np.testing.assert_allclose(attributions, expected, atol=0.2)


class TestErrors:
    @pytest.mark.parametrize("class_index", [3, -1, 0.5, [0, 3], "every"])
    def test_class_index(self, class_index):
        message = (
            "`class_index` must be an integer from 0 to 2, one for all clips or one for each, or "
            f'"all". Received: class_index={class_index}.'
        )
        with pytest.raises(ValueError, match=re.escape(message)):
            frame_attributions(MODELS["average_pooling"](), CLIPS, class_index)

    def test_flattened_gru(self):
        message = (
            "`frame_attributions` needs a state for each cluster. Received: 'ta_vlad' with one GRU "
            'for all clusters together (temporal="flattened_gru").'
        )
        model = ta_vlad(tiny_backbone(), 3, units=5, temporal="flattened_gru", **SMALL)
        with pytest.raises(ValueError, match=re.escape(message)):
            frame_attributions(model, CLIPS)

    def test_fusion_of_probabilities(self):
        message = (
            "`frame_attributions` needs a fusion of logits. Received: 'ensemble', which averages "
            "probabilities."
        )
        model = ensemble([randomized("ta_vlad"), randomized("action_vlad")], multi_label=False)
        with pytest.raises(ValueError, match=re.escape(message)):
            frame_attributions(model, [CLIPS, CLIPS])

    def test_flattened_gru_in_a_fusion(self):
        flattened = ta_vlad(tiny_backbone(), 3, units=5, temporal="flattened_gru", **SMALL)
        with pytest.raises(ValueError, match="`frame_attributions` needs a state for each cluster"):
            frame_attributions(late_fusion([randomized("ta_vlad"), flattened]), [CLIPS, CLIPS])

    def test_numbers_of_frames(self):
        message = (
            "`frame_attributions` needs the same number of frames in all inputs of a fusion. "
            "Received: 'late_fusion' of [3, 6] frames."
        )
        longer = with_num_frames(randomized("action_vlad"), 6)
        with pytest.raises(ValueError, match=re.escape(message)):
            frame_attributions(late_fusion([randomized("ta_vlad"), longer]), [CLIPS, CLIPS])

    @pytest.mark.parametrize(("inputs", "received"), [(CLIPS, "one array"), ([CLIPS], "1")])
    def test_number_of_inputs(self, inputs, received):
        message = f"`inputs` must be a list of the 2 inputs of 'two_stream'. Received: {received}."
        with pytest.raises(ValueError, match=re.escape(message)):
            frame_attributions(randomized_streams("late"), inputs)

    def test_other_model(self):
        inputs = keras.Input((3, 4))
        model = keras.Model(inputs, keras.layers.LSTM(2)(inputs), name="lstm")
        message = (
            "`frame_attributions` needs a model made by `average_pooling`, `max_pooling`, "
            "`action_vlad`, `two_stream` or `ta_vlad`. Received: 'lstm'. The weights of an "
            'attention LSTM are in `intermediate_outputs(model, ["attention"])`.'
        )
        with pytest.raises(ValueError, match=re.escape(message)):
            frame_attributions(model, np.zeros((1, 3, 4), "float32"))
