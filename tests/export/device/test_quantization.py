"""Models that round as an int8 file does."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from export.device.conversion import convert_litert
from export.device.quantization import FakeQuantization, quantization_aware
from tfvlad import compat
from tfvlad.backbones import feature_extractor, from_model, small_cnn, small_cnn_backbone
from tfvlad.models import ClipModel, attention_lstm, end_to_end, ensemble, ta_vlad

NAMES = ("climb", "jump", "swing")
SIDE, NUM_FRAMES = 48, 5


def _model() -> keras.Model:
    keras.utils.set_random_seed(0)
    backbone = small_cnn_backbone(small_cnn(5, image_size=SIDE))
    return ta_vlad(backbone, 3, num_frames=NUM_FRAMES, num_clusters=4, units=8, alpha=20.0)


def _clips() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (4, NUM_FRAMES, SIDE, SIDE, 3), np.uint8)


CALIBRATION = [{"frames": clip} for clip in _clips()]


@pytest.fixture(scope="module")
def clip_model() -> ClipModel:
    return ClipModel(_model(), NAMES)


@pytest.fixture(scope="module")
def aware(clip_model: ClipModel) -> keras.Model:
    return quantization_aware(clip_model, CALIBRATION)


def _rounded(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """256 levels between `low` and `high`, one of which is zero."""
    scale = (high - low) / 255
    zero = np.round(-low / scale)
    return (np.clip(np.round(x / scale) + zero, 0, 255) - zero) * scale


@pytest.mark.parametrize("depthwise", [False, True])
def test_layer_rounds_inputs_and_kernel(depthwise: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 2, (2, 1, 1, 6)).astype("float32")
    if depthwise:
        layer: Any = keras.layers.DepthwiseConv2D(1, use_bias=False)
    else:
        layer = keras.layers.Conv2D(4, 1, use_bias=False)
    rounding = FakeQuantization(layer, [(-0.9, 1.8)])
    rounding(x)
    kernel = layer.kernel.numpy()[0, 0]
    kernel = kernel[:, 0] if depthwise else kernel
    scale = np.abs(kernel).max(axis=0 if not depthwise else ()) / 127
    kernel = np.round(kernel / scale) * scale
    given = _rounded(x, -0.9, 1.8)
    expected = given * kernel if depthwise else given @ kernel
    np.testing.assert_allclose(rounding(x).numpy(), expected, atol=1e-5)


def _attention_lstm() -> keras.Model:
    keras.utils.set_random_seed(0)
    extractor = feature_extractor(small_cnn_backbone(small_cnn(5, image_size=SIDE)))
    sizes = {"num_steps": NUM_FRAMES, "num_attended": 1, "units": 4, "matching_units": 4}
    model = attention_lstm(3, extractor.num_channels, extractor.num_channels, **sizes)
    return end_to_end(model, extractor, extractor, num_frames=NUM_FRAMES)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (_model, "backbone"),
        (_attention_lstm, "input_extractor"),
        pytest.param(_attention_lstm, "attended_extractor", marks=pytest.mark.slow),
    ],
)
def test_rounds_as_the_int8_file(build: Any, name: str) -> None:
    """One clip calibrates both, so that their ranges are the same."""
    layer = build().get_layer(name)
    shape = layer.model.input_shape[1:]
    num_frames = 1 if len(shape) == 3 else shape[0]
    frames = keras.Input((num_frames, SIDE, SIDE, 3), name="frames")
    maps = layer(keras.layers.Reshape((1, *shape))(frames))
    maps = keras.layers.Flatten()(keras.layers.Rescaling(2.0)(maps))
    names = tuple(map(str, range(maps.shape[-1])))
    clip_model = ClipModel(keras.Model(frames, maps), names, multi_label=True)
    clip = _clips()[:1, :num_frames]
    calibration = [{"frames": clip}]
    content = convert_litert(clip_model, precision="int8", calibration_clips=calibration)
    runner = Interpreter(model_content=content, num_threads=1).get_signature_runner("classify")
    answer = runner(frames=clip)["probabilities"]
    aware = quantization_aware(clip_model, calibration)
    rounded = tf.sigmoid(aware(clip.astype("float32"))).numpy()
    unrounded = clip_model.probabilities({"frames": clip}).numpy()
    # A sum may fall to the other side of a half: one level of 256.
    level = 2 * np.ptp(answer) / 255
    assert np.mean(np.isclose(rounded, answer, atol=1e-5)) > 0.9
    np.testing.assert_allclose(rounded, answer, atol=level)
    assert np.mean(np.isclose(unrounded, answer, atol=1e-5)) < 0.5


def test_only_what_the_file_rounds_is_rounded(aware: keras.Model) -> None:
    layers = aware.get_layer("backbone").model.layers
    names = [layer.name for layer in layers if isinstance(layer, FakeQuantization)]
    assert names == ["conv4", "rounded_map"]


def test_extractors_of_an_attention_lstm() -> None:
    model = _attention_lstm()
    aware = quantization_aware(ClipModel(model, NAMES), CALIBRATION)
    for name in ("input_extractor", "attended_extractor"):
        layers = compat.walk_layers(aware.get_layer(name))
        names = {layer.name for layer in layers if isinstance(layer, FakeQuantization)}
        assert names == {"conv4", "pooled", "rounded_map"}
    clips = _clips().astype("float32")
    scores, expected = aware.predict(clips, verbose=0), model.predict(clips, verbose=0)
    np.testing.assert_allclose(scores, expected, atol=0.01)
    assert np.any(scores != expected)


def test_fine_tuning_reaches_the_given_model() -> None:
    model = _model()
    aware = quantization_aware(ClipModel(model, NAMES), CALIBRATION)
    backbone = model.get_layer("backbone").model
    conv, logits = backbone.get_layer("conv4"), model.get_layer("logits")
    conv.trainable = True
    before = [layer.kernel.numpy() for layer in (conv, logits)]
    aware.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    aware.fit(_clips().astype("float32"), np.array([0, 1, 2, 0]), batch_size=2, verbose=0)
    for layer, kernel in zip((conv, logits), before, strict=True):
        assert np.any(layer.kernel.numpy() != kernel)


def test_saves_and_loads(aware: keras.Model, tmp_path: Any) -> None:
    aware.save(tmp_path / "aware.keras")
    loaded = keras.models.load_model(tmp_path / "aware.keras")
    clips = _clips().astype("float32")
    expected = aware.predict(clips, verbose=0)
    np.testing.assert_allclose(loaded.predict(clips, verbose=0), expected, atol=1e-5)


def test_needs_clips(clip_model: ClipModel) -> None:
    with pytest.raises(ValueError, match=r"must hold at least one clip\. Received: none\."):
        quantization_aware(clip_model, [])


def test_needs_a_backbone_of_its_own() -> None:
    frames = keras.Input((32, 32, 3))
    maps = keras.layers.Conv2D(6, 3, strides=8)(frames)
    backbone = from_model(keras.Model(frames, maps), name="plain")
    members = [
        ta_vlad(backbone, 3, num_frames=2, num_clusters=2, units=2, attention=False)
        for _ in range(2)
    ]
    both = ensemble(members, multi_label=False)
    clip_model = ClipModel(both, NAMES, ("frames", "frames"))
    with pytest.raises(ValueError, match=r"has no backbone .* one by one\.$"):
        quantization_aware(clip_model, [{"frames": np.zeros((2, 32, 32, 3), np.uint8)}])
