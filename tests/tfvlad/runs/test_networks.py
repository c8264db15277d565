"""The networks of a run by their names."""

import pytest

from tfvlad.backbones.catalog import BACKBONES
from tfvlad.runs.networks import build_backbone


@pytest.mark.parametrize(
    ("name", "layer", "message"),
    [
        (
            "resnet34",
            None,
            r"for resnet34\. Give `weights` torchvision's or timm's file of resnet34,",
        ),
        ("vgg16", "fc7", r"for fc7\. Give `weights` Keras', .* of vgg16 with the dense layers,"),
    ],
)
def test_nothing_to_download(name, layer, message):
    with pytest.raises(ValueError, match=r"There is nothing to download " + message):
        build_backbone(name, "imagenet", 64, layer)


def test_failed_download(monkeypatch):
    def fail(**options):
        raise Exception("URL fetch failure on https://x: None -- no route")

    monkeypatch.setitem(BACKBONES, "mobilenet_v2", fail)
    with pytest.raises(OSError, match=r"mobilenet_v2 could not be downloaded .*Give `weights` a"):
        build_backbone("mobilenet_v2", "imagenet", 64)
