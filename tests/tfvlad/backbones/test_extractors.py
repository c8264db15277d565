import keras
import numpy as np
import pytest

from tests.helpers import tiny_backbone
from tfvlad.backbones import (
    FeatureExtractor,
    feature_extractor,
    vgg16,
)


@pytest.fixture
def backbone():
    return tiny_backbone()


def make_frames(backbone, num_frames=3):
    return np.random.randint(0, 256, (num_frames, *backbone.image_size, 3)).astype("uint8")


def pooled(backbone, frames):
    maps = np.asarray(backbone.activation_layer()(backbone.model(frames)), "float64")
    return maps.mean((1, 2))


def test_pooled(backbone):
    frames = make_frames(backbone)
    extractor = feature_extractor(backbone)
    assert extractor.name == f"{backbone.name}/pooled"
    assert extractor.window_frames == 1
    assert extractor.image_size == backbone.image_size == (32, 32)
    assert extractor.num_channels == backbone.num_channels == 6
    np.testing.assert_allclose(extractor.model(frames), pooled(backbone, frames), rtol=1e-5)


def test_scores(backbone):
    frames = make_frames(backbone)
    extractor = feature_extractor(backbone, "scores")
    expected = pooled(backbone, frames) @ backbone.classifier_kernel + backbone.classifier_bias
    assert extractor.num_channels == 5
    np.testing.assert_allclose(extractor.model(frames), expected, rtol=1e-4, atol=1e-5)


def test_layer_by_name(backbone):
    frames = make_frames(backbone)
    extractor = feature_extractor(backbone, "conv1")
    conv1 = keras.Model(backbone.model.input, backbone.model.get_layer("conv1").output)
    expected = np.asarray(conv1(frames), "float64").mean((1, 2))
    assert extractor.name == f"{backbone.name}/conv1"
    np.testing.assert_allclose(extractor.model(frames), expected, rtol=1e-4, atol=1e-6)


def test_integer_and_float_frames(backbone):
    frames = make_frames(backbone)
    model = feature_extractor(backbone, "scores").model
    np.testing.assert_allclose(model(frames), model(frames.astype("float32")), atol=1e-6)


def test_after_the_backbone_was_split(backbone):
    frames = make_frames(backbone)
    expected = feature_extractor(backbone, "conv2").model(frames)
    backbone.split_at("block2")
    np.testing.assert_array_equal(feature_extractor(backbone, "conv2").model(frames), expected)


def test_fingerprint(backbone):
    fingerprint = feature_extractor(backbone).fingerprint()
    assert feature_extractor(tiny_backbone()).fingerprint() == fingerprint
    assert feature_extractor(tiny_backbone(seed=1)).fingerprint() != fingerprint
    assert feature_extractor(backbone, "scores").fingerprint() != fingerprint
    assert feature_extractor(backbone, "conv2").fingerprint() != fingerprint


@pytest.mark.parametrize("layer", ["pooled", "scores", "conv1"])
def test_save_and_load(backbone, layer, tmp_path):
    model = feature_extractor(backbone, layer).model
    model.save(tmp_path / "extractor.keras")
    loaded = keras.models.load_model(tmp_path / "extractor.keras")
    frames = make_frames(backbone)
    np.testing.assert_array_equal(loaded(frames), model(frames))


def test_unknown_layer(backbone):
    message = r"`layer` must be one of pooled, scores, .*conv1.* of '.*'. Received: layer='conv9'"
    with pytest.raises(ValueError, match=message):
        feature_extractor(backbone, "conv9")


def test_scores_without_a_classifier():
    with pytest.raises(ValueError, match=r"has no classifier on averaged .* Use layer='pooled'"):
        feature_extractor(tiny_backbone(classifier=False), "scores")


def vector_model(*frames_shape, flat=True):
    frames = keras.Input(frames_shape)
    x = keras.layers.Conv2D(2, 1)(frames) if len(frames_shape) == 3 else frames
    return keras.Model(frames, keras.layers.Flatten()(x) if flat else x)


@pytest.mark.parametrize(
    ("model", "window_frames"),
    [
        (lambda: vector_model(8, 8, 3), 16),
        (lambda: vector_model(8, 8, 3, flat=False), 1),
        (lambda: vector_model(16, 8, 8, 3), 1),
        (lambda: vector_model(4, 8, 8, 3), 16),
    ],
)
def test_models_that_do_not_fit(model, window_frames):
    message = rf"`model` must map frames .*window_frames={window_frames}. Received: .* -> "
    with pytest.raises(ValueError, match=message):
        FeatureExtractor("network/layer", model(), window_frames)


def test_windows():
    extractor = FeatureExtractor("network/layer", vector_model(4, 8, 6, 3), 4)
    assert extractor.image_size == (8, 6)
    assert extractor.num_channels == 4 * 8 * 6 * 3


def test_vgg_backbone_has_no_scores():
    backbone = vgg16(weights=None, image_size=32)
    with pytest.raises(ValueError, match="'vgg16' has no classifier on averaged features"):
        feature_extractor(backbone, "scores")
