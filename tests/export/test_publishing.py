"""Exports appear at their place whole and proved, or not at all."""

import json
import os

import numpy as np
import pytest

import export
from export import publishing
from export.clip_model import ClipModel
from export.litert import convert_litert
from export.parity import ParityError
from export.saved_model import save_serving_model
from tests.helpers import tiny_backbone, uniform
from tfvlad.models import action_vlad, ta_vlad

NAMES = ("run", "jump", "sit")


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


def test_every_name_of_the_package_is_there():
    assert all(getattr(export, name).__name__ == name for name in export.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = export.nothing
    assert np.all([name in dir(export) for name in export.__all__])
