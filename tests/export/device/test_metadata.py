"""The metadata of LiteRT files, read back without the code that wrote it."""

from __future__ import annotations

import subprocess
import venv
import zipfile
from pathlib import Path
from typing import Any

import flatbuffers
import keras
import numpy as np
import pytest
from ai_edge_litert.tools import flatbuffer_utils
from flatbuffers import encode, number_types
from flatbuffers.table import Table

from export.device.conversion import convert_litert
from export.device.metadata import read_class_names
from tfvlad.models import ClipModel

NAMES = ("climb stairs", "jump", "sport/größe")


@pytest.fixture(scope="module")
def clip_model() -> ClipModel:
    frames = keras.Input((4, 32, 32, 3), name="frames")
    flow = keras.Input((4, 32, 32, 2), name="flow")
    means = [keras.layers.GlobalAveragePooling3D()(x) for x in (frames, flow)]
    joined = keras.layers.Rescaling(1 / 255)(keras.layers.Concatenate()(means))
    scores = keras.layers.Dense(3)(joined)
    return ClipModel(keras.Model([frames, flow], scores, name="means"), NAMES, ("frames", "flow"))


@pytest.fixture(scope="module")
def path(clip_model: ClipModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("litert") / "model.tflite"
    path.write_bytes(convert_litert(clip_model))
    return path


def _string(table: Table, field: int) -> str:
    offset = table.Offset(4 + 2 * field)
    return table.String(offset + table.Pos).decode()


def _tables(table: Table, field: int) -> list[Table]:
    offset = table.Offset(4 + 2 * field)
    start = table.Vector(offset)
    return [
        Table(table.Bytes, table.Indirect(start + 4 * number))
        for number in range(table.VectorLen(offset))
    ]


def test_metadata(path: Path) -> None:
    model = flatbuffer_utils.read_model_from_bytearray(path.read_bytes())
    (entry,) = (entry for entry in model.metadata if entry.name == b"TFLITE_METADATA")
    content = bytes(model.buffers[entry.buffer].data)
    assert flatbuffers.util.BufferHasIdentifier(content, 0, b"M001")
    root = Table(content, encode.Get(number_types.UOffsetTFlags.packer_type, content, 0))
    assert _string(root, 0) == "means"
    assert _string(root, 1) == "Classifies video clips as one of 3 actions."
    assert _string(root, 7) == "1.0.0"
    (graph,) = _tables(root, 3)
    assert _string(graph, 0) == "classify"
    # In the order of the file's own inputs.
    names = {item.tensorIndex: item.name.decode() for item in model.signatureDefs[0].inputs}
    expected = [names[index] for index in model.subgraphs[0].inputs]
    assert sorted(expected) == ["flow", "frames"]
    assert [_string(tensor, 0) for tensor in _tables(graph, 2)] == expected
    (output,) = _tables(graph, 3)
    assert _string(output, 0) == "probabilities"
    (labels,) = _tables(output, 6)
    assert _string(labels, 0) == "labels.txt"
    kind = labels.Get(number_types.Int8Flags, labels.Pos + labels.Offset(4 + 2 * 2))
    assert kind == 2  # TENSOR_AXIS_LABELS


def test_labels_are_in_an_appended_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt").decode() == "climb stairs\njump\nsport/größe\n"
    assert read_class_names(path) == NAMES


def test_same_model_gives_same_file(clip_model: ClipModel, path: Path) -> None:
    assert convert_litert(clip_model) == path.read_bytes()


def test_names_end_at_line_feeds_only(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("labels.txt", "climb\u2028stairs\njump\x85\n")
    assert read_class_names(path) == ("climb\u2028stairs", "jump\x85")


@pytest.mark.parametrize("content", [b"TFL3", b""])
def test_file_without_class_names(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.tflite"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^'other\.tflite' holds no class names\."):
        read_class_names(path)


_ALONE = """
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter
runner = Interpreter(model_path=sys.argv[1]).get_signature_runner("classify")
np.save(sys.argv[3], runner(**np.load(sys.argv[2]))["probabilities"])
assert not {"tensorflow", "keras", "tfvlad"} & set(sys.modules)
"""


@pytest.mark.slow
def test_runs_where_only_litert_is_installed(
    clip_model: ClipModel, path: Path, tmp_path: Path
) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "ai-edge-litert", "numpy"]
    if subprocess.run(install, capture_output=True).returncode:
        pytest.skip("the package index does not answer")
    rng = np.random.default_rng(0)
    clip: dict[str, Any] = {
        stream: rng.integers(0, 256, (1, *shape), np.uint8)
        for stream, shape in clip_model.inputs.items()
    }
    np.savez(tmp_path / "clip.npz", **clip)
    answer = tmp_path / "answer.npy"
    command = [python, "-c", _ALONE, path, tmp_path / "clip.npz", answer]
    subprocess.run(command, check=True, cwd=tmp_path)
    expected = clip_model.probabilities(clip).numpy()
    np.testing.assert_allclose(np.load(answer), expected, atol=1e-5)
