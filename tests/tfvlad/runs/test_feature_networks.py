"""A network's features of videos, in one call."""

import json
from pathlib import Path

import numpy as np
import pytest

import tfvlad
from pipelines import FeatureSet, iterate_frames, read_features
from tests.tfvlad_cli.commands import write_video
from tfvlad.runs import feature_networks
from tfvlad.runs.feature_networks import build_network, rebuild

pytestmark = pytest.mark.usefixtures("eagerly", "small_networks")

SETTINGS = {"network": "resnet18", "weights": None, "image_size": 32, "progress": False}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for color, name in enumerate(("green", "red")):
        write_video(folder / name / "0.mp4", 1 - color, num_frames=5)
    return folder


def test_features_are_the_networks(videos, tmp_path):
    done = tfvlad.extract_features(videos, tmp_path / "set", frame_step=2, **SETTINGS)
    assert (done.folder, done.num_videos, done.num_channels) == (tmp_path / "set", 2, 8)
    assert done.broken == ()
    path = tmp_path / "set" / "red" / "0.mp4.h5"
    frames = np.stack(list(iterate_frames(str(videos / "red" / "0.mp4"), 64)))[::2]
    assert frames.shape == (3, 64, 64, 3)
    found = read_features(path)
    assert found.shape == (3, 8)
    assert found.dtype == "float32"
    assert not np.array_equal(found, read_features(path, flipped=True))
    described = FeatureSet.load(tmp_path / "set")
    assert (described.layer, described.weights) == ("pooled", None)
    assert (described.image_size, described.short_side) == ((32, 32), 37)


@pytest.mark.parametrize("weights", [None, "none"])
def test_the_network_of_a_set_is_built_again(videos, tmp_path, weights):
    tfvlad.extract_features(videos, tmp_path, **SETTINGS)
    description = json.loads((tmp_path / "features.json").read_text())
    # "none" is what an earlier version wrote.
    network = rebuild({**description, "weights": weights})
    assert network.fingerprint() == description["fingerprint"]
    with pytest.raises(ValueError, match="are not those that the features were extracted with"):
        rebuild({**description, "fingerprint": "another"})


def test_a_weights_file_is_kept_by_its_whole_path(videos, tmp_path, monkeypatch):
    network = build_network("resnet18", "pooled", None, 32)
    monkeypatch.setattr(feature_networks, "build_network", lambda *_: network)
    monkeypatch.chdir(tmp_path)
    options = {**SETTINGS, "weights": Path("resnet18.h5")}
    tfvlad.extract_features([videos / "red" / "0.mp4"], "set", **options)
    assert FeatureSet.load("set").weights == str(tmp_path / "resnet18.h5")
    # The same weights may lie elsewhere now.
    assert tfvlad.extract_features(videos / "red", "set", **SETTINGS).num_videos == 1


def test_options_of_the_files(videos, tmp_path):
    video = videos / "red" / "0.mp4"
    options = {"dtype": "float16", "flipped": False, "frame_step": 3, "batch_size": 1}
    tfvlad.extract_features(video, tmp_path / "half", **SETTINGS, **options)
    described = FeatureSet.load(tmp_path / "half")
    assert (described.dtype, described.flipped, described.frame_step) == ("float16", False, 3)
    options = {"file_format": "tfrecord", "layer": "scores"}
    done = tfvlad.extract_features(video, tmp_path / "records", **SETTINGS, **options)
    assert done.num_channels == 5
    assert (tmp_path / "records" / "0.mp4.tfrecord").exists()


def test_broken_videos(videos, tmp_path):
    (tmp_path / "bad.mp4").write_text("no video")
    paths = [videos / "red" / "0.mp4", tmp_path / "bad.mp4"]
    done = tfvlad.extract_features(paths, tmp_path / "set", **SETTINGS)
    assert [video.path for video in done.broken] == [str(tmp_path / "bad.mp4")]
    with pytest.raises(ValueError, match=r"1 of 2 videos .* more than the 0 allowed by `max_b"):
        tfvlad.extract_features(paths, tmp_path / "set", **SETTINGS, max_broken=0)


@pytest.mark.parametrize(
    ("network", "layer", "message"),
    [
        (
            "resnet34",
            "pooled",
            "There is nothing to download for resnet34: `weights` must be ",
        ),
        ("c3d", "fc6", "There is nothing to download for c3d: "),
        ("vgg19", "fc8", "There is nothing to download for vgg19 with fc8: "),
        (
            "resnext",
            "pooled",
            "`network` must be one of mobilenet_v2, .*. Received: network='resnext'",
        ),
    ],
)
def test_mistakes_are_told_at_once(videos, tmp_path, network, layer, message):
    with pytest.raises(ValueError, match=message):
        tfvlad.extract_features(videos, tmp_path / "out", network=network, layer=layer)
    assert not (tmp_path / "out").exists()


def test_a_failed_download(videos, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise Exception("URL fetch failure")

    monkeypatch.setattr(feature_networks, "build_extractor", fail)
    with pytest.raises(OSError, match="The weights of mobilenet_v2 could not be downloaded"):
        tfvlad.extract_features(videos, tmp_path / "out")


def test_no_video(tmp_path):
    with pytest.raises(ValueError, match="There is no video below"):
        tfvlad.extract_features(tmp_path, tmp_path / "out", **SETTINGS)
