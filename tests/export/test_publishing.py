"""Exports appear at their place whole and proved, or not at all."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import export
from export import publishing
from export.clip_model import ClipModel
from export.litert.conversion import convert_litert
from export.parity import ParityError
from export.serving.saved_model import save_serving_model
from tests.helpers import tiny_backbone, uniform
from tfvlad.models import action_vlad, ta_vlad

NAMES = ("run", "jump", "sit")
PROJECT = Path(__file__).parents[2]


def clip_model(seed=0):
    backbone = tiny_backbone(seed=seed)
    model = action_vlad(backbone, 3, num_frames=4, num_clusters=2, alpha=10.0)
    return ClipModel(model, NAMES, short_side=36)


@pytest.fixture(scope="module")
def model():
    return clip_model()


@pytest.fixture(scope="module")
def other():
    """The same architecture with other weights."""
    found = clip_model(seed=1)
    dense = found.model.get_layer("logits")
    dense.set_weights([10 * weight + 1 for weight in dense.get_weights()])
    return found


@pytest.fixture(scope="module")
def clips():
    return [{"frames": (255 * uniform(4, 32, 32, 3, seed=n)).astype("uint8")} for n in range(3)]


def names_in(folder):
    return sorted(os.listdir(folder))


class TestSavedModel:
    def test_versions(self, model, clips, tmp_path):
        first = export.export_saved_model(model, tmp_path / "served", clips=clips)
        assert first == tmp_path / "served" / "1"
        report = json.loads((first / "assets.extra" / "parity.json").read_text())
        assert report["largest_difference"] <= 1e-4
        assert (report["num_clips"], report["clips"]) == (3, "given")
        assert report["ops"]["Conv2D"] == 2
        assert set(report["signatures"]) == {
            *("serving_default", "highlight", "encoded_frames", "stream")
        }
        assert publishing.version_folder(tmp_path / "served", None).name == "2"
        with pytest.raises(ValueError, match="1 is there already"):
            export.export_saved_model(model, tmp_path / "served", version=1)
        assert names_in(tmp_path) == ["served"]
        assert names_in(tmp_path / "served") == ["1"]

    def test_what_fails_the_proof_is_not_there(self, model, other, clips, tmp_path, monkeypatch):
        monkeypatch.setattr(
            publishing, "save_serving_model", lambda _, folder: save_serving_model(other, folder)
        )
        with pytest.raises(ParityError, match="float32 export differs"):
            export.export_saved_model(model, tmp_path / "served", clips=clips)
        assert names_in(tmp_path) == []

    def test_what_breaks_off_is_not_there(self, model, tmp_path, monkeypatch):
        def breaks_off(_, folder):
            folder.mkdir()
            (folder / "saved_model.pb").write_bytes(b"half")
            raise OSError("No space left on device")

        monkeypatch.setattr(publishing, "save_serving_model", breaks_off)
        with pytest.raises(OSError, match="No space"):
            export.export_saved_model(model, tmp_path / "served")
        assert names_in(tmp_path) == []


class TestLiteRT:
    def test_file_and_proof(self, model, clips, tmp_path):
        path = export.export_litert(model, tmp_path / "model.tflite", clips=clips)
        assert names_in(tmp_path) == ["model.parity.json", "model.tflite"]
        report = json.loads((tmp_path / "model.parity.json").read_text())
        assert report["largest_difference"] <= 1e-4
        assert report["bytes"] == path.stat().st_size
        assert report["ops"]["CONV_2D"] == 2
        assert report["limit"] == {"largest_difference": 1e-4}
        for taken in ("model.tflite", "model.parity.json"):
            with pytest.raises(ValueError, match=f"{taken} is there already"):
                export.export_litert(model, path)
            (tmp_path / taken).unlink()

    def test_frame_by_frame(self, clips, tmp_path):
        model = ta_vlad(tiny_backbone(), 3, num_frames=4, num_clusters=2, units=3, alpha=10.0)
        path = tmp_path / "stream.tflite"
        export.export_litert(ClipModel(model, NAMES, short_side=36), path, streaming=True)
        report = json.loads((tmp_path / "stream.parity.json").read_text())
        assert report["largest_difference"] <= 1e-4
        assert report["clips"] == "made"

    def test_what_fails_the_proof_is_not_there(self, model, other, clips, tmp_path, monkeypatch):
        content = convert_litert(other)
        monkeypatch.setattr(publishing, "convert_litert", lambda *args, **options: content)
        with pytest.raises(ParityError, match="float32 export differs"):
            export.export_litert(model, tmp_path / "model.tflite", clips=clips)
        assert names_in(tmp_path) == []

    def test_other_suffixes_are_refused(self, model, tmp_path):
        with pytest.raises(ValueError, match=r"ends in \.tflite\. Received: .*model\.bin"):
            export.export_litert(model, tmp_path / "model.bin")


class TestChecksBeforeTheWork:
    """Everything that can be known before the long work is."""

    @pytest.fixture
    def check(self, request, model, tmp_path, monkeypatch):
        def refuse(*_, **__):
            raise AssertionError("the work was begun")

        monkeypatch.setattr(publishing, "convert_litert", refuse)
        monkeypatch.setattr(publishing, "save_serving_model", refuse)
        return lambda to_litert, path, **options: (
            export.export_litert(model, tmp_path / path / "model.tflite", **options)
            if to_litert
            else export.export_saved_model(model, tmp_path / path, **options)
        )

    def test_version(self, check):
        with pytest.raises(ValueError, match=r"positive integer\. Received: version=0"):
            check(False, "served", version=0)

    @pytest.mark.parametrize("to_litert", [False, True])
    def test_a_file_in_the_way(self, check, to_litert, tmp_path):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(ValueError, match=r"file is a file|Nothing can be written into"):
            check(to_litert, "file")
        assert (tmp_path / "file").read_text() == "mine"

    @pytest.mark.parametrize("to_litert", [False, True])
    def test_a_folder_that_cannot_be_written(self, check, to_litert, monkeypatch):
        monkeypatch.setattr(os, "access", lambda *_: False)
        with pytest.raises(ValueError, match="Nothing can be written into"):
            check(to_litert, "missing/served")

    @pytest.mark.parametrize("to_litert", [False, True])
    def test_the_extra_is_missing(self, check, to_litert, monkeypatch):
        monkeypatch.setattr(publishing.importlib.util, "find_spec", lambda _: None)
        with pytest.raises(ImportError, match=r'pip install "tfvlad\[export\]"'):
            check(to_litert, "served")


@pytest.mark.parametrize("to_litert", [False, True])
def test_killed_in_between(to_litert, tmp_path):
    """SIGKILL while the export is written: nothing that a server or an app would take."""
    work = """
import os, signal, sys
from pathlib import Path
from export import publishing
from tests.export.test_publishing import clip_model

def killed(model, folder=None, **options):
    if folder:
        folder.mkdir()
        (folder / "saved_model.pb").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)

publishing.save_serving_model = publishing.convert_litert = killed
target = Path(sys.argv[1])
if sys.argv[2] == "True":
    publishing.export_litert(clip_model(), target / "model.tflite")
else:
    publishing.export_saved_model(clip_model(), target)
"""
    target = tmp_path / "served"
    command = [sys.executable, "-c", work, str(target), str(to_litert)]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True)
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert [name for name in names_in(target) if not name.startswith(".partial-")] == []
    assert publishing.version_folder(target, None).name == "1"


def test_every_name_of_the_package_is_there():
    assert all(getattr(export, name).__name__ == name for name in export.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = export.nothing
    assert np.all([name in dir(export) for name in export.__all__])
