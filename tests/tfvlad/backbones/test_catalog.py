from unittest import mock

import pytest

from tests.helpers import tiny_backbone
from tfvlad.backbones import build_extractor, feature_extractor
from tfvlad.backbones.catalog import BACKBONES


@pytest.mark.parametrize("network", ["mobilenet_v2", "resnet18", "resnet34", "vgg16", "vgg19"])
def test_build_by_name(zeros_for_weights, network):
    extractor = build_extractor(network, "pooled", weights=None, image_size=(64, 32))
    assert extractor.name == f"{network}/pooled"
    assert extractor.image_size == (64, 32)
    assert extractor.num_channels == (1280 if network == "mobilenet_v2" else 512)


def test_build_reads_the_file(monkeypatch):
    network = mock.Mock(return_value=tiny_backbone())
    monkeypatch.setitem(BACKBONES, "mobilenet_v2", network)
    extractor = build_extractor("mobilenet_v2", "scores", weights="file.h5", image_size=32)
    assert network.call_args == mock.call(weights="file.h5", image_size=32)
    expected = feature_extractor(tiny_backbone(), "scores")
    assert extractor.fingerprint() == expected.fingerprint()


def test_build_layer_of_a_vgg(zeros_for_weights):
    extractor = build_extractor("vgg16", "block4_pool", weights=None, image_size=32)
    assert extractor.num_channels == 512
    assert extractor.image_size == (32, 32)
    assert "block5_conv1" not in [layer.name for layer in extractor.model.layers]


@pytest.mark.parametrize(
    ("network", "layer", "image_size", "message"),
    [
        ("vgg11", "pooled", None, r"one of mobilenet_v2, .*, c3d. Received: network='vgg11'"),
        ("vgg19", "scores", None, r"'vgg19' has no classifier .* are layer='fc8'"),
        ("vgg19", "fc6", 128, r"`image_size` of vgg19's dense layers must be 224. Received: .*128"),
        ("c3d", "fc6", (112, 128), r"must be 112. Received: image_size=\(112, 128\)"),
    ],
)
def test_refused_before_any_work(network, layer, image_size, message):
    with pytest.raises(ValueError, match=message):
        build_extractor(network, layer, weights="nowhere.h5", image_size=image_size)


@pytest.mark.parametrize(
    ("network", "layer", "image_size"), [("c3d", "fc7", 112), ("vgg19", "fc8", (224, 224))]
)
def test_file_that_is_not_there(network, layer, image_size):
    with pytest.raises(FileNotFoundError, match=r"There is no weights file 'nowhere\.h5'"):
        build_extractor(network, layer, weights="nowhere.h5", image_size=image_size)
