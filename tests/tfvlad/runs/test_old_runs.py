"""Run folders of version 0.1.0 are read, and answer as they did: `tests/old_runs/make_runs.py`."""

import json
from dataclasses import replace

import numpy as np
import pytest

import tfvlad
from tests.old_runs.make_runs import PLACE, RUNS, WEIGHTS, copy_to
from tfvlad.evaluation import read_scores
from tfvlad.runs.config import DataPaths
from tfvlad.runs.settings import FeatureSettings, VideoSettings

EXPECTED = json.loads((PLACE / "expected.json").read_text())
VIDEO_SETTINGS = {
    **{"image_size": 64, "num_frames": 3, "num_clusters": 3, "alpha": 10.0, "epochs": (1, 1)},
    **{"num_cached_crops": 1, "batch_size": 4},
}
# What the trainings were asked for; of the features' also what the recipe chose, which depends on
# the number of clips.
SETTINGS = {
    "ta_vlad": VideoSettings(
        **VIDEO_SETTINGS,
        units=4,
        freeze_attention=True,
        freed_block="conv_1",
        # What was meant before there were these settings.
        input_scale="sqrt_channels",
        update_bias=0.0,
        attention_temperature=1.0,
    ),
    "two_stream": VideoSettings(
        **VIDEO_SETTINGS,
        model="two-stream",
        fusion="early",
        stack_frames=3,
        aggregate_at="block_2_add",
        freed_block="block_2",
        recipe="action-vlad",
        learning_rates=(0.1, 0.001),
    ),
    "attention_lstm": FeatureSettings(
        num_steps=3,
        num_attended=4,
        chunk_frames=12,
        units=4,
        matching_units=4,
        batch_size=4,
        dropout=0.0,
        max_epochs=8,
        learning_rate=0.3,
        optimizer="sgd",
        patience=565,
    ),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    copy_to(folder)
    return folder


@pytest.fixture(scope="module")
def runs(place):
    return {name: tfvlad.load(place / name) for name in RUNS}


@pytest.mark.parametrize("name", RUNS)
def test_settings(place, runs, name):
    weights = {} if name == "attention_lstm" else {"weights": str(place / WEIGHTS)}
    assert runs[name].settings == replace(SETTINGS[name], **weights)


def test_config(place, runs):
    config = runs["two_stream"].config
    assert config.data == DataPaths(
        data=place / "videos", lists=place / "videos" / "labels.csv", flow=place / "flow"
    )
    assert (config.short_side, config.flow["method"]) == (73, "dis")
    sets = runs["attention_lstm"].config.feature_sets
    assert [described["layer"] for described in sets] == ["block_2_add", "block_3_project"]


@pytest.mark.parametrize("name", RUNS)
def test_figures(runs, name):
    run = runs[name]
    assert run.class_names == ("green", "red")
    assert run.multi_label == (name == "two_stream")
    told = run.result["stages"][-1]
    assert run.report.metrics == {key: pytest.approx(value) for key, value in told.items()}


# Keras 2.15 describes a network in other words: the features' network counts as another one.
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.current] * (name == "attention_lstm")) for name in RUNS],
)
def test_predictions(place, runs, name):
    expected = EXPECTED[name]["predictions"]
    found = runs[name].predict([place / path for path in expected])
    # Optical flow differs a little between the versions of OpenCV.
    tolerance = 0.03 if name == "two_stream" else 2e-3
    for answer, probabilities in zip(found, expected.values(), strict=True):
        assert dict(answer.top(2)) == pytest.approx(probabilities, abs=tolerance)


@pytest.mark.parametrize("name", RUNS)
def test_evaluation(runs, name, tmp_path):
    runs[name].evaluate(output=tmp_path)
    before, after = (read_scores(folder / "scores.npz") for folder in (runs[name].folder, tmp_path))
    assert list(after.clips) == list(before.clips)
    np.testing.assert_array_equal(after.labels, before.labels)
    np.testing.assert_allclose(after.scores, before.scores, atol=0.01)
