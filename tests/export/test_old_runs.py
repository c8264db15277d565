"""Run folders of version 0.1.0 are exported: `tests/old_runs/make_runs.py`."""

import json

import numpy as np
import pytest
import tensorflow as tf

import export
from export.exportable import load_exportable
from tests.helpers import slow_except
from tests.old_runs.make_runs import PLACE, RUNS, copy_to, noise

Interpreter = pytest.importorskip(
    "ai_edge_litert.interpreter", reason="exports need the current stack"
).Interpreter
EXPECTED = json.loads((PLACE / "expected.json").read_text())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    copy_to(folder)
    return folder


def load(place, name):
    """The model of a run, a clip, and what the old code answered."""
    clip_model = load_exportable([str(place / name)]).clip_model
    clip = {stream: noise((1, *shape)) for stream, shape in clip_model.inputs.items()}
    return clip_model, clip, [EXPECTED[name]["clip"]]


# Those of clips are asked by `tests/tfvlad/runs/test_old_runs.py`.
@pytest.mark.parametrize("name", slow_except(RUNS, "attention_lstm"))
def test_model(place, name):
    clip_model, clip, expected = load(place, name)
    np.testing.assert_allclose(clip_model.probabilities(clip), expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_saved_model(place, name, tmp_path):
    clip_model, clip, expected = load(place, name)
    written = export.saved_model(clip_model, tmp_path / "served")
    served = tf.saved_model.load(str(written.path))
    answer = served.signatures["serving_default"](**clip)
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_litert(place, name, tmp_path):
    clip_model, clip, expected = load(place, name)
    # alpha=1000 magnifies the last bits of the features, which processors round in their own ways.
    written = export.litert(clip_model, tmp_path / "model.tflite", tolerance=1e-3)
    classify = Interpreter(str(written.path)).get_signature_runner()
    answer = classify(**clip)
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-3)
