"""Two-stream models against the equations in numpy, and what shares their layers."""

import inspect
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import normal, tiny_backbone
from tests.tfvlad.layers import equations
from tfvlad.backbones import aggregate_at, flow_backbone, resnet18
from tfvlad.models import (
    head_of,
    intermediate_outputs,
    is_multi_label,
    two_stream,
    with_num_frames,
)

pytestmark = pytest.mark.usefixtures("eagerly")

FRAMES = np.random.default_rng(1).integers(0, 256, (2, 3, 32, 32, 3)).astype("float32")
FLOW = np.random.default_rng(2).integers(0, 256, (2, 3, 32, 32, 4)).astype("float32")
SMALL = {"num_frames": 3, "num_clusters": 4, "alpha": 5.0}
FUSIONS = ("concat", "early", "late")
every_fusion = pytest.mark.parametrize("fusion", FUSIONS)


@pytest.fixture
def backbones():
    return tiny_backbone(), flow_backbone(tiny_backbone(seed=1), 2)


def build(backbones, **arguments):
    model = two_stream(*backbones, 3, **{**SMALL, **arguments})
    for layer in model.layers:
        if layer.name.endswith("logits"):
            layer.set_weights([normal(*w.shape, seed=n) for n, w in enumerate(layer.get_weights())])
    return model


def weights_of(model, layer):
    return [weight.astype("float64") for weight in model.get_layer(layer).get_weights()]


def bags(backbones):
    """The features of each clip, `(B, T*N, D)`, of RGB and of flow."""
    for backbone, clips in zip(backbones, (FRAMES, FLOW), strict=True):
        maps = backbone.model.predict(clips.reshape(-1, *clips.shape[2:]), verbose=0)
        yield maps.reshape(2, 48, 6).astype("float64")


def descriptor(bag, model, layer):
    encoded = equations.vlad(equations.unit_rows(bag), *weights_of(model, layer))
    return equations.unit(equations.unit_rows(encoded).ravel())


def classified(vectors, model, layer="logits"):
    kernel, bias = weights_of(model, layer)
    return np.array(vectors) @ kernel + bias


def assert_logits(model, expected):
    actual = model.predict([FRAMES, FLOW], verbose=0)
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=2e-5)


def test_concat(backbones):
    model = build(backbones, fusion="concat")
    rgb, flow = bags(backbones)
    joined = [
        np.concatenate([descriptor(x, model, "rgb_vlad"), descriptor(y, model, "flow_vlad")])
        for x, y in zip(rgb, flow, strict=True)
    ]
    assert joined[0].shape == (2 * 4 * 6,)
    assert_logits(model, classified(joined, model))


def test_early(backbones):
    model = build(backbones, fusion="early")
    joined = np.concatenate(list(bags(backbones)), axis=-1)
    assert model.get_layer("vlad").centers.shape == (4, 12)
    assert_logits(model, classified([descriptor(x, model, "vlad") for x in joined], model))


@pytest.mark.parametrize("weights", [None, (1, 3), (0.0, 2.0)])
@pytest.mark.parametrize("on", ["logits", "probabilities"])
def test_late(backbones, weights, on):
    model = build(backbones, fusion="late", weights=weights, on=on)
    streams = []
    for name, stream in zip(("rgb", "flow"), bags(backbones), strict=True):
        vectors = [descriptor(x, model, f"{name}_vlad") for x in stream]
        streams.append(classified(vectors, model, f"{name}_logits"))
    share = np.array([1, 1] if weights is None else weights) / sum(weights or (1, 1))
    if on == "logits":
        expected = share[0] * streams[0] + share[1] * streams[1]
    else:
        rgb, flow = (np.array([equations.softmax(row) for row in x]) for x in streams)
        expected = np.log(share[0] * rgb + share[1] * flow)
    assert_logits(model, expected)
    assert is_multi_label(model) is (False if on == "probabilities" else None)


@every_fusion
def test_fits_saves_and_loads(backbones, fusion, tmp_path):
    model = build(backbones, fusion=fusion, dropout=0.0)
    for backbone in backbones:
        backbone.set_trainable("block2")
    model.compile(
        keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    before = [weight.numpy() for weight in model.trainable_weights]
    history = model.fit([FRAMES, FLOW], np.array([0, 1]), epochs=3, verbose=0).history["loss"]
    assert history[-1] < history[0]
    for weight, value in zip(model.trainable_weights, before, strict=True):
        assert np.any(weight.numpy() != value), weight.name
    logits = model.predict([FRAMES, FLOW], verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict([FRAMES, FLOW], verbose=0), logits, atol=1e-5)
    by_name = loaded.predict({"frames": FRAMES, "flow": FLOW}, verbose=0)
    np.testing.assert_allclose(by_name, logits, atol=1e-5)


@every_fusion
def test_head_and_other_numbers_of_frames(backbones, fusion):
    model = build(backbones, fusion=fusion)
    more = [np.concatenate([clips, clips[:, ::-1]], axis=1) for clips in (FRAMES, FLOW)]
    wanted = build(backbones, fusion=fusion, num_frames=6)
    wanted.set_weights(model.get_weights())
    expected = wanted.predict(more, verbose=0)
    longer = with_num_frames(model, 6)
    assert [shape[1] for shape in longer.input_shape] == [6, 6]
    np.testing.assert_allclose(longer.predict(more, verbose=0), expected, atol=1e-5)
    layers = [model.get_layer(f"{name}_backbone") for name in ("rgb", "flow")]
    for part, clips in ((model, (FRAMES, FLOW)), (longer, more)):
        maps = [layer(x).numpy() for layer, x in zip(layers, clips, strict=True)]
        head = head_of(part)
        assert head.name == "two_stream_head"
        logits = part.predict(list(clips), verbose=0)
        np.testing.assert_allclose(head.predict(maps, verbose=0), logits, atol=1e-5)
    assert head.layers[-1] is model.layers[-1]


VECTORS = {"descriptor": (2, 24), "logits": (2, 3)}


@pytest.mark.parametrize(
    ("fusion", "shapes"),
    [
        (
            "concat",
            {"rgb_assignments": (2, 3, 4, 4, 4), "flow_assignments": (2, 3, 4, 4, 4)}
            | {"descriptor": (2, 48), "logits": (2, 3)},
        ),
        ("early", {"assignments": (2, 3, 4, 4, 4), "descriptor": (2, 48), "logits": (2, 3)}),
        (
            "late",
            {
                f"{stream}_{name}": shape
                for stream in ("rgb", "flow")
                for name, shape in {"assignments": (2, 3, 4, 4, 4), **VECTORS}.items()
            }
            | {"logits": (2, 3)},
        ),
    ],
)
def test_intermediate_outputs(backbones, fusion, shapes):
    model = build(backbones, fusion=fusion)
    outputs = intermediate_outputs(model).predict([FRAMES, FLOW], verbose=0)
    maps = {f"{stream}_feature_map": (2, 3, 4, 4, 6) for stream in ("rgb", "flow")}
    assert {name: value.shape for name, value in outputs.items()} == maps | shapes
    logits = model.predict([FRAMES, FLOW], verbose=0)
    np.testing.assert_allclose(outputs["logits"], logits, atol=1e-6)
    if fusion == "late":
        mean = (outputs["rgb_logits"] + outputs["flow_logits"]) / 2
        np.testing.assert_allclose(mean, logits, atol=1e-5)
    shorter = with_num_frames(model, 2)
    outputs = intermediate_outputs(shorter).predict([FRAMES[:, :2], FLOW[:, :2]], verbose=0)
    expected = shorter.predict([FRAMES[:, :2], FLOW[:, :2]], verbose=0)
    np.testing.assert_allclose(outputs["logits"], expected, atol=1e-6)


@every_fusion
def test_one_trace_for_all_sizes(backbones, fusion, traced):
    model, traces = build(backbones, fusion=fusion, num_frames=None), []
    specs = [tf.TensorSpec((None, None, 32, 32, channels)) for channels in (3, 4)]

    @tf.function(input_signature=[specs])
    def function(inputs):
        traces.append(inputs)
        return model(inputs)

    for batch, time in ((2, 3), (1, 2)):
        inputs = [FRAMES[:batch, :time], FLOW[:batch, :time]]
        np.testing.assert_allclose(function(inputs), model(inputs), atol=1e-5)
    assert len(traces) == 1


def test_mixed_precision(backbones):
    expected = [build(backbones, fusion=fusion)([FRAMES, FLOW]) for fusion in FUSIONS]
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        pair = tiny_backbone(), flow_backbone(tiny_backbone(seed=1), 2)
        for fusion, logits in zip(FUSIONS, expected, strict=True):
            model = build(pair, fusion=fusion)
            assert model([FRAMES, FLOW]).dtype == tf.float32
            assert np.isfinite(model([FRAMES, FLOW])).all()
            assert logits.shape == (2, 3)
    finally:
        keras.mixed_precision.set_global_policy("float32")


def test_different_backbones():
    rgb = resnet18(image_size=32)
    flow = flow_backbone(tiny_backbone(), 2)
    model = build((rgb, flow), fusion="concat")
    assert model.predict([FRAMES, FLOW], verbose=0).shape == (2, 3)
    message = (
        "fusion=\"early\" joins maps of the same height and width. Received: (1, 1) of 'resnet18' "
        "and (4, 4) of 'tiny_flow'. Give both backbones the same network and image size."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        build((rgb, flow), fusion="early")
    # Only height and width must agree.
    wide = flow_backbone(aggregate_at(tiny_backbone(), "relu1"), 2)
    narrow = aggregate_at(tiny_backbone(), "conv1")
    assert build((narrow, wide), fusion="early").output_shape == (None, 3)


def test_backbones_are_frozen(backbones):
    for fusion in FUSIONS:
        model = build(backbones, fusion=fusion)
        for name in ("rgb_backbone", "flow_backbone"):
            assert model.get_layer(name).trainable_weights == []


def test_defaults_are_the_papers():
    parameters = inspect.signature(two_stream).parameters.values()
    assert {p.name: p.default for p in parameters if p.default is not p.empty} == {
        "fusion": "concat",
        "num_frames": 25,
        "num_clusters": 64,
        "alpha": 1000.0,
        "dropout": 0.5,
        "weights": None,
        "on": "logits",
        "name": "two_stream",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"fusion": "mid"},
            "`fusion` must be one of ('concat', 'early', 'late'). Received: fusion='mid'.",
        ),
        (
            {"fusion": "early", "weights": [1, 2]},
            "`weights` are of fusion=\"late\". Received: weights=[1, 2], fusion='early'.",
        ),
        (
            {"fusion": "late", "weights": [1, 2, 3]},
            "`weights` must be 2 numbers, none of them negative and not all zero. "
            "Received: weights=[1, 2, 3].",
        ),
        (
            {"fusion": "late", "on": "scores"},
            '`on` must be "logits" or "probabilities". Received: on=\'scores\'.',
        ),
        ({"num_frames": 0}, "`num_frames` must be a positive integer. Received: num_frames=0."),
        ({"dropout": 1.0}, "`dropout` must be in [0, 1). Received: dropout=1.0."),
    ],
)
def test_errors(backbones, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build(backbones, **arguments)
