"""VGG's dense layers against a numpy transcription, on files of the published layouts."""

import re

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.helpers import assert_close_to_scale
from tests.tfvlad.backbones.plain_networks import (
    convolve,
    dense,
    max_pool,
    random_tensors,
    relu,
    write_keras_file,
)
from tfvlad.backbones import dense_backbone, dense_vgg, vgg16_dense, vgg19_dense

# Torchvision's numbers of the convolutions of each block.
FEATURES = {
    vgg16_dense: ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)),
    vgg19_dense: ((0, 2), (5, 7), (10, 12, 14, 16), (19, 21, 23, 25), (28, 30, 32, 34)),
}
DENSE_LAYERS = ("fc6", "fc7", "fc8")
NAMES = {
    "keras.h5": ("fc1", "fc2", "predictions"),
    "torchvision.safetensors": ("classifier.0", "classifier.3", "classifier.6"),
    "timm.safetensors": ("pre_logits.fc1", "pre_logits.fc2", "head.fc"),
}


def random_network(make_extractor, divisor=1, num_classes=1000):
    """Weights under Keras' names of convolutions and Caffe's of dense layers."""
    shapes = {}
    inputs = 3
    for block, numbers in enumerate(FEATURES[make_extractor], start=1):
        outputs = min(64 * 2 ** (block - 1), 512) // divisor
        for index in range(1, len(numbers) + 1):
            shapes[f"block{block}_conv{index}"] = (outputs, inputs, 3, 3)
            inputs = outputs
    units = 4096 // divisor
    shapes |= {"fc6": (units, inputs * 49), "fc7": (units, units), "fc8": (num_classes, units)}
    return random_tensors(shapes)


def write_file(folder, name, tensors, make_extractor):
    modules = dict(zip(DENSE_LAYERS, NAMES[name], strict=True))
    if name != "keras.h5":
        for block, numbers in enumerate(FEATURES[make_extractor], start=1):
            for index, number in enumerate(numbers, start=1):
                modules[f"block{block}_conv{index}"] = f"features.{number}"
    published = {}
    for key, value in tensors.items():
        layer, kind = key.split(".")
        if name.startswith("timm") and layer in ("fc6", "fc7") and kind == "weight":
            value = value.reshape(len(value), -1, *((7, 7) if layer == "fc6" else (1, 1)))
        published[f"{modules.get(layer, layer)}.{kind}"] = value
    path = folder / name
    if name == "keras.h5":
        channels = len(tensors["fc6.weight"][0]) // 49
        write_keras_file(path, published, map_shape=(7, 7, channels), first_dense="fc1")
    else:
        save_file(published, path)
    return path


def reference_forward(tensors, frame, name, make_extractor):
    """The published network on one RGB frame, `(224, 224, 3)`."""
    if name == "keras.h5":
        x = frame[..., ::-1] - np.array([103.939, 116.779, 123.68])
    else:
        x = (frame / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    x = x.astype("float32").transpose(2, 0, 1)
    for block, numbers in enumerate(FEATURES[make_extractor], start=1):
        for index in range(1, len(numbers) + 1):
            x = convolve(x, tensors, f"block{block}_conv{index}")
        x = max_pool(x, (2, 2))
    fc6 = relu(dense(x, tensors, "fc6"))
    fc7 = relu(dense(fc6, tensors, "fc7"))
    return {"fc6": fc6, "fc7": fc7, "fc8": dense(fc7, tensors, "fc8")}


@pytest.fixture
def narrow(monkeypatch):
    """Makes networks with a 16th of the channels."""
    monkeypatch.setattr(
        dense_vgg, "_FILTERS", tuple(filters // 16 for filters in dense_vgg._FILTERS)
    )
    monkeypatch.setattr(dense_vgg, "_NUM_UNITS", 256)
    return lambda make_extractor: random_network(make_extractor, divisor=16, num_classes=203)


def make_frames():
    return np.random.randint(0, 256, (1, 224, 224, 3)).astype("uint8")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["keras.h5", "torchvision.safetensors"])
def test_published_size_equals_the_published_definition(name, tmp_path):
    tensors = random_network(vgg19_dense)
    path = write_file(tmp_path, name, tensors, vgg19_dense)
    frames = make_frames()
    expected = reference_forward(tensors, frames[0], name, vgg19_dense)
    for layer in ("fc6", "fc8"):
        features = vgg19_dense(layer, weights=path).model(frames)[0]
        assert_close_to_scale(features, expected[layer], 1e-4)
    path.unlink()  # pytest keeps the folder


@pytest.mark.parametrize(
    ("make_extractor", "name"),
    [(vgg16_dense, "torchvision.safetensors"), *((vgg19_dense, name) for name in NAMES)],
)
def test_equals_the_published_definition(make_extractor, name, narrow, tmp_path):
    tensors = narrow(make_extractor)
    path = write_file(tmp_path, name, tensors, make_extractor)
    frames = make_frames()
    expected = reference_forward(tensors, frames[0], name, make_extractor)
    for layer in DENSE_LAYERS:
        extractor = make_extractor(layer, weights=path)
        assert extractor.num_channels == len(expected[layer])
        assert_close_to_scale(extractor.model(frames)[0], expected[layer], 1e-4)


def test_layers_are_those_of_keras(zeros_for_weights):
    published = keras.applications.VGG19(weights=None)
    ours = vgg19_dense("fc8", weights=None).model.layers[2:]
    theirs = published.layers[1:]
    assert [layer.name for layer in ours[:-3]] == [layer.name for layer in theirs[:-3]]
    assert [layer.count_params() for layer in ours] == [layer.count_params() for layer in theirs]


def test_attributes(narrow):
    extractor = vgg16_dense(weights=None)
    assert extractor.name == "vgg16/fc6"
    assert extractor.window_frames == 1
    assert extractor.image_size == (224, 224)
    assert extractor.num_channels == 256
    assert vgg16_dense("fc8", weights=None).num_channels == 1000


def test_save_and_load(narrow, tmp_path):
    model = vgg19_dense("fc6", weights=None).model
    model.save(tmp_path / "vgg.keras")
    frames = make_frames()
    loaded = keras.models.load_model(tmp_path / "vgg.keras")
    np.testing.assert_array_equal(loaded(frames), model(frames))


def test_unknown_layer():
    message = r"`layer` must be one of fc6, fc7, fc8. Received: layer='block5_conv4'"
    with pytest.raises(ValueError, match=message):
        vgg19_dense("block5_conv4", weights="nowhere.h5")


@pytest.mark.parametrize(
    ("name", "missing"),
    [("keras.h5", "predictions/bias"), ("torchvision.safetensors", r"classifier\.6\.bias")],
)
def test_files_without_a_dense_layer(name, missing, narrow, tmp_path):
    tensors = narrow(vgg19_dense)
    del tensors["fc8.weight"], tensors["fc8.bias"]
    path = write_file(tmp_path, name, tensors, vgg19_dense)
    with pytest.raises(ValueError, match=rf"missing: {missing}.*vgg19 with the dense layers fit"):
        vgg19_dense(weights=path)


@pytest.mark.parametrize("name", NAMES)
def test_files_of_the_other_network(name, narrow, tmp_path):
    path = write_file(tmp_path, name, narrow(vgg16_dense), vgg16_dense)
    with pytest.raises(ValueError, match=r"are not of this network. Tensors missing: "):
        vgg19_dense(weights=path)


class TestDenseBackbone:
    @pytest.mark.parametrize(("network", "layer"), [("vgg16", "fc6"), ("vgg19", "fc7")])
    def test_is_one_location_before_the_relu(self, network, layer, narrow, tmp_path):
        make_extractor = {"vgg16": vgg16_dense, "vgg19": vgg19_dense}[network]
        tensors = narrow(make_extractor)
        path = write_file(tmp_path, "keras.h5", tensors, make_extractor)
        backbone = dense_backbone(network, layer, weights=path)
        frames = make_frames()
        expected = reference_forward(tensors, frames[0], "keras.h5", make_extractor)
        pre_activation = backbone.model(frames)
        assert pre_activation.shape == (1, 1, 1, 256)
        assert np.min(pre_activation) < 0
        features = backbone.activation_layer()(pre_activation)
        assert_close_to_scale(features[0, 0, 0], expected[layer], 1e-4)
        assert backbone.name == backbone.model.name == f"{network}_{layer}"
        assert backbone.classifier_kernel is None

    def test_blocks(self, narrow):
        backbone = dense_backbone("vgg16", "fc7", weights=None)
        assert list(backbone.blocks) == [*(f"block{n}" for n in range(1, 6)), "fc6", "fc7"]
        assert backbone.blocks["fc6"] == ("block5_pool", "flatten", "fc6")
        listed = [name for block in backbone.blocks.values() for name in block]
        assert listed == [layer.name for layer in backbone.model.layers[2:-1]]
        assert "fc7" not in dense_backbone("vgg16", "fc6", weights=None).blocks
        frames = make_frames()
        frozen_part, freed_part = backbone.split_at("fc6")
        assert frozen_part.output_shape == (None, 14, 14, 32)
        np.testing.assert_allclose(
            freed_part(frozen_part(frames)), backbone.model(frames), rtol=1e-4, atol=1e-4
        )
        backbone.set_trainable("fc7")
        assert len(backbone.model.trainable_variables) == 2

    def test_save_and_load(self, narrow, tmp_path):
        model = dense_backbone("vgg16", weights=None).model
        model.save(tmp_path / "fc7.keras")
        frames = make_frames()
        loaded = keras.models.load_model(tmp_path / "fc7.keras")
        np.testing.assert_array_equal(loaded(frames), model(frames))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"network": "resnet18"}, "`network` must be vgg16 or vgg19. Received: network='resn"),
            ({"layer": "fc8"}, "`layer` must be fc6 or fc7. Received: layer='fc8'."),
            (
                {"image_size": 256},
                "`image_size` of vgg16's dense layers must be 224. Received: image_size=256.",
            ),
        ],
    )
    def test_errors(self, arguments, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            dense_backbone(**{"network": "vgg16", "weights": "nowhere.h5", **arguments})
