"""The few lines that an app needs, against a real file."""

import re

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from export.device.conversion import convert_litert
from tests.docs.pages import block
from tests.helpers import tiny_backbone
from tfvlad.models import ClipModel, average_pooling

PAGE, HEADING = "docs/guides/phones.md", "In an app"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("app")
    model = average_pooling(tiny_backbone(), 3, num_frames=4)
    content = convert_litert(ClipModel(model, ("run", "jump", "sit")))
    (folder / "actions.tflite").write_bytes(content)
    return folder


def test_python(folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = {"frames": np.zeros((1, 4, 32, 32, 3), "uint8")}
    exec(block("python", PAGE, HEADING), names)
    assert names["class_names"] == ["run", "jump", "sit"]
    assert names["probabilities"].shape == (3,)
    assert names["probabilities"].sum() == pytest.approx(1, abs=1e-5)


def test_kotlin_names_the_signature(folder):
    call = re.search(
        r'runSignature\(mapOf\("(\w+)" to \w+\), mapOf\("(\w+)" to \w+\), "(\w+)"\)',
        block("kotlin", PAGE, HEADING),
    )
    signatures = Interpreter(str(folder / "actions.tflite")).get_signature_list()
    taken, given, name = call.groups()
    assert signatures == {name: {"inputs": [taken], "outputs": [given]}}
    details = Interpreter(str(folder / "actions.tflite")).get_signature_runner(name)
    # A direct buffer of bytes for the frames, an array of floats for the answer.
    assert details.get_input_details()[taken]["dtype"] == np.uint8
    assert details.get_output_details()[given]["dtype"] == np.float32
