"""A run's model on clips of frames."""

import keras
import numpy as np
import pytest

from tests.tfvlad.runs.run_folders import CLASSES, make_run
from tfvlad import Run, models
from tfvlad.backbones import FeatureExtractor
from tfvlad.runs.answers import clip_models
from tfvlad.runs.answers.clip_models import clip_model, input_names
from tfvlad.runs.config import DataPaths, FeatureRunConfig, RunConfig
from tfvlad.runs.settings import FeatureSettings, VideoSettings

pytestmark = [pytest.mark.usefixtures("eagerly"), pytest.mark.current]

CHANNELS = 5


def test_a_run_on_videos(tmp_path):
    model = make_run(tmp_path, "action-vlad", sampling="segments")
    run = Run(tmp_path)
    found = run.clip_model
    assert found is run.clip_model
    assert found.inputs == {"frames": (4, 32, 32, 3)}
    assert (found.class_names, found.multi_label, found.short_side) == (tuple(CLASSES), False, 40)
    told = found.description
    assert (told["model"], told["sampling"], told["test"]) == (
        *("action-vlad", "segments"),
        {"top1": 0.5},
    )
    assert told["arguments"]["num_clusters"] == 4
    clips = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, 3)).astype("uint8")
    expected = keras.ops.softmax(model(clips.astype("float32")))
    np.testing.assert_allclose(found.probabilities({"frames": clips}), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"model": "two-stream"}, ("frames", "flow")),
        ({"stream": "flow"}, ("flow",)),
        ({}, ("frames",)),
    ],
)
def test_input_names(settings, names):
    config = RunConfig(
        settings=VideoSettings(**settings),
        data=DataPaths(data="videos"),
        class_names=tuple(CLASSES),
        multi_label=False,
        freed_block="",
        short_side=256,
    )
    assert input_names(config) == names


@pytest.fixture
def rebuilt(monkeypatch):
    """The names of the networks that are built again: means of the colours of their windows."""
    names = []

    def rebuild(description):
        names.append(description["network"])
        window = description["window_frames"]
        frames = keras.Input((32, 32, 3) if window == 1 else (window, 32, 32, 3))
        colors = keras.layers.Rescaling(1 / 255)(frames)
        pooling = keras.layers.GlobalAveragePooling3D
        mean = (keras.layers.GlobalAveragePooling2D if window == 1 else pooling)()(colors)
        features = keras.layers.Dense(CHANNELS)(mean)
        name = f"{description['network']}/mean"
        return FeatureExtractor(name, keras.Model(frames, features), window)

    monkeypatch.setattr(clip_models, "rebuild", rebuild)
    return names


def feature_run(networks, **settings):
    """A configuration, and the untrained model. Networks are (name, frames of a window)."""
    config = FeatureRunConfig(
        settings=FeatureSettings(units=4, **settings),
        data=DataPaths(data="features"),
        class_names=tuple(CLASSES),
        multi_label=False,
        feature_sets=tuple(
            {
                "network": name,
                "layer": "mean",
                "window_frames": window,
                "frame_step": 1,
                "short_side": 40 + window,
            }
            for name, window in networks
        ),
    )
    build = getattr(models, config.settings.model.replace("-", "_"))
    sizes = dict(zip(("num_steps", "num_attended"), config.settings.step_counts, strict=False))
    return config, build(3, *(CHANNELS for _ in networks), units=4, **sizes)


UNIFORM = {"sampling": "uniform"}
ATTENDING = {"model": "attention-lstm", "matching_units": 4}


@pytest.mark.parametrize(
    ("networks", "settings", "num_frames"),
    [
        # Networks of single frames read as many frames as there are steps.
        ([("a", 1)], {"model": "plain-lstm", "num_steps": 3}, 3),
        ([("a", 1)] * 2, {**ATTENDING, "num_steps": 4, "num_attended": 4}, 4),
        # Both 3 and 4 steps divide 12 frames.
        (
            [("a", 1)] * 2,
            {**ATTENDING, "num_steps": 3, "num_attended": 4, "sampling": "uniform"},
            12,
        ),
        # A window of 2 frames for each of 3 steps, and 4 steps that divide them.
        ([("c", 2), ("a", 1)], {**ATTENDING, "num_steps": 3, "num_attended": 4}, 24),
    ],
)
def test_frames_of_a_model_of_features(tmp_path, rebuilt, networks, settings, num_frames):
    chunk = {} if "sampling" in settings else {"chunk_frames": 24}
    config, model = feature_run(networks, **settings, **chunk)
    found = clip_model(tmp_path, config, model)
    assert found.inputs == {"frames": (num_frames, 32, 32, 3)}
    # One network serves two equal sets.
    assert rebuilt == list(dict.fromkeys(name for name, _ in networks))
    assert found.short_side == max(40 + window for _, window in networks)
    assert [one["network"] for one in found.description["features"]] == [n for n, _ in networks]
    assert found.description["num_steps"] == config.settings.step_counts
    clips = np.random.default_rng(0).integers(0, 256, (2, num_frames, 32, 32, 3)).astype("uint8")
    assert found.probabilities({"frames": clips}).shape == (2, 3)
