"""The few lines of the README that an app needs, against a real file."""

import re
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from export.clip_model import ClipModel
from export.litert.conversion import convert_litert
from tests.helpers import tiny_backbone
from tfvlad.models import average_pooling

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def block(language, start):
    """The code block of a language in the README's section that holds `start`."""
    section = README[README.index(start) :]
    found = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found, start
    return found[1]


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
    exec(block("python", "### Phones"), names)
    assert names["class_names"] == ["run", "jump", "sit"]
    assert names["probabilities"].shape == (3,)
    assert names["probabilities"].sum() == pytest.approx(1, abs=1e-5)


def test_kotlin_names_the_signature(folder):
    call = re.search(
        r'runSignature\(mapOf\("(\w+)" to \w+\), mapOf\("(\w+)" to \w+\), "(\w+)"\)',
        block("kotlin", "### Phones"),
    )
    signatures = Interpreter(str(folder / "actions.tflite")).get_signature_list()
    taken, given, name = call.groups()
    assert signatures == {name: {"inputs": [taken], "outputs": [given]}}
    details = Interpreter(str(folder / "actions.tflite")).get_signature_runner(name)
    # A direct buffer of bytes for the frames, an array of floats for the answer.
    assert details.get_input_details()[taken]["dtype"] == np.uint8
    assert details.get_output_details()[given]["dtype"] == np.float32


def test_streaming():
    names = {
        "np": np,
        "model": average_pooling(tiny_backbone(), 3, num_frames=4),
        "frames": np.zeros((5, 32, 32, 3), "uint8"),
    }
    exec(block("python", "`--streaming` writes a file"), names)
    assert names["outputs"]["scores"].shape == (1, 3)
    assert float(names["states"]["num_frames"][0, 0]) == 5
