"""Exports appear at their place whole and proved, or not at all."""

import json
import os

import numpy as np
import pytest
import tensorflow as tf

import export
from export import places, publishing
from export.parity import ParityError
from tests.helpers import tiny_backbone, uniform
from tests.tfvlad.runs.run_folders import make_feature_run, make_run
from tests.tfvlad_cli.commands import write_broken, write_video
from tfvlad import Run
from tfvlad.models import ClipModel, action_vlad, ta_vlad

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
    return [{"frames": (255 * uniform(4, 32, 32, 3, seed=n)).astype("uint8")} for n in range(5)]


def names_in(folder):
    return sorted(os.listdir(folder))


def half_written(_, folder):
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"half")


class TestSavedModel:
    def test_proof_and_versions(self, model, clips, tmp_path):
        found = export.saved_model(model, tmp_path / "served", clips=clips)
        assert found.path == tmp_path / "served" / "1"
        assert found.parity.largest_difference <= 1e-4
        assert (found.parity.num_clips, found.clips, found.broken) == (5, "given", ())
        written = [p for p in found.path.rglob("*") if p.is_file() and p.name != "parity.json"]
        assert found.parity.bytes == sum(path.stat().st_size for path in written)
        assert found.operations["Conv2D"] == 2
        assert set(found.parity.signatures) == {
            *("serving_default", "highlight", "encoded_frames", "stream")
        }
        told = json.loads((found.path / "assets.extra" / "parity.json").read_text())
        assert {**told, "path": str(found.path), "broken": []} == found.to_dict()
        assert json.loads(json.dumps(found.to_dict())) == found.to_dict()
        assert repr(found).startswith(f"<Export {found.path}: 0.")
        assert "MB, largest difference " in str(found)
        assert ", top-1 agreement 100% on 5 given clips, " in str(found)
        with pytest.raises(ValueError, match="1 is there already"):
            export.saved_model(model, tmp_path / "served", version=1)
        assert names_in(tmp_path) == ["served"]
        assert names_in(tmp_path / "served") == ["1"]

    def test_what_fails_the_proof_is_not_there(self, model, clips, tmp_path, monkeypatch):
        def fails(*_, **__):
            raise ParityError("another answer")

        monkeypatch.setattr(publishing, "save_serving_model", half_written)
        monkeypatch.setattr(publishing, "check_parity", fails)
        with pytest.raises(ParityError, match="another answer"):
            export.saved_model(model, tmp_path / "served", clips=clips)
        assert names_in(tmp_path) == []

    def test_what_breaks_off_is_not_there(self, model, tmp_path, monkeypatch):
        def breaks_off(_, folder):
            half_written(_, folder)
            raise OSError("No space left on device")

        monkeypatch.setattr(publishing, "save_serving_model", breaks_off)
        (tmp_path / "served").mkdir()
        for folder in ("served", "new"):
            with pytest.raises(OSError, match="No space"):
                export.saved_model(model, tmp_path / folder)
        assert names_in(tmp_path) == ["served"]
        assert names_in(tmp_path / "served") == []


@pytest.fixture(scope="module")
def phone(model, clips, tmp_path_factory):
    """A folder with a LiteRT file."""
    folder = tmp_path_factory.mktemp("phone")
    return folder, export.litert(model, str(folder / "model.tflite"), clips=clips)


class TestLiteRT:
    def test_file_and_proof(self, phone):
        folder, found = phone
        assert names_in(folder) == ["model.parity.json", "model.tflite"]
        assert found.path == folder / "model.tflite"
        assert found.parity.bytes == found.path.stat().st_size
        assert found.parity.limit == {"largest_difference": 1e-4}
        assert found.parity.largest_difference <= 1e-4
        assert found.operations["CONV_2D"] == 2
        told = json.loads((folder / "model.parity.json").read_text())
        assert {**told, "path": str(found.path), "broken": []} == found.to_dict()

    @pytest.mark.parametrize("taken", ["model.tflite", "model.parity.json"])
    def test_what_is_there_stays(self, model, taken, tmp_path):
        (tmp_path / taken).write_text("mine")
        with pytest.raises(ValueError, match=f"{taken} is there already"):
            export.litert(model, tmp_path / "model.tflite")
        assert (tmp_path / taken).read_text() == "mine"

    def test_what_fails_the_proof_is_not_there(self, phone, other, clips, tmp_path, monkeypatch):
        content = phone[1].path.read_bytes()
        monkeypatch.setattr(publishing, "convert_litert", lambda *args, **options: content)
        with pytest.raises(ParityError, match="float32 export differs"):
            export.litert(other, tmp_path / "model.tflite", clips=clips)
        assert names_in(tmp_path) == []

    def test_typical_clips_calibrate(self, model, clips, tmp_path, monkeypatch):
        """The clips that prove are not among them."""
        seen = []

        def convert(_, *, calibration_clips, **options):
            seen.extend(calibration_clips)
            raise ValueError(f"{options}")

        monkeypatch.setattr(publishing, "convert_litert", convert)
        with pytest.raises(ValueError, match="'precision': 'int8', 'streaming': True"):
            export.litert(
                model, tmp_path / "i.tflite", precision="int8", streaming=True, clips=clips
            )
        assert [id(clip) for clip in seen] == [id(clip) for clip in clips[1:]]

    def test_made_clips_calibrate_nothing(self, model, tmp_path):
        path = tmp_path / "model.tflite"
        with pytest.raises(ValueError, match=r"int8 is calibrated on typical.*Give `videos`\."):
            export.litert(model, path, precision="int8")
        assert names_in(tmp_path) == []

    @pytest.mark.slow
    def test_int8(self, model, clips, tmp_path):
        path = tmp_path / "model.tflite"
        found = export.litert(model, path, precision="int8", clips=clips, tolerance=0.5)
        assert found.parity.precision == "int8"
        assert found.parity.limit == {"mean_difference": 0.5}
        assert found.parity.num_clips == 1

    @pytest.mark.slow
    def test_frame_by_frame(self, tmp_path):
        model = ta_vlad(tiny_backbone(), 3, num_frames=4, num_clusters=2, units=3, alpha=10.0)
        path = tmp_path / "stream.tflite"
        found = export.litert(ClipModel(model, NAMES, short_side=36), path, streaming=True)
        assert found.parity.largest_difference <= 1e-4
        assert list(found.parity.signatures) == ["stream"]
        assert found.clips == "made"


class TestRuns:
    """What the command does with run folders, in one call."""

    def test_broken_videos_are_told(self, tmp_path, caplog):
        make_run(tmp_path / "run", "average-pooling")
        good = write_video(tmp_path / "videos" / "good.mp4", 0)
        broken = write_broken(good.with_name("broken.mp4"), "text", good)
        with caplog.at_level("INFO"):
            found = export.litert(tmp_path / "run", tmp_path / "model.tflite", videos=good.parent)
        assert [video.path for video in found.broken] == [str(broken)]
        assert found.to_dict()["broken"][0]["path"] == str(broken)
        assert f"{broken}: " in caplog.text
        assert (found.parity.num_clips, found.clips) == (1, "given")

    @pytest.mark.slow
    def test_a_run_on_features(self, tmp_path):
        make_feature_run(tmp_path / "run")
        write_video(tmp_path / "videos" / "0.mp4", 0)
        write_video(tmp_path / "videos" / "1.mp4", 1)
        found = export.litert(
            tmp_path / "run",
            tmp_path / "model.tflite",
            precision="int8",
            videos=tmp_path / "videos",
            tolerance=0.2,
        )
        assert (found.parity.num_clips, found.clips) == (1, "given")

    @pytest.mark.slow
    def test_several_as_one(self, tmp_path, caplog):
        for name in ("average-pooling", "action-vlad"):
            make_run(tmp_path / name, name)
        runs = [tmp_path / "average-pooling", tmp_path / "action-vlad"]
        with caplog.at_level("INFO"):
            found = export.saved_model(runs, tmp_path / "both", weights=[1, 3], on="probabilities")
        assert "the export is proved on made clips" in caplog.text
        served = tf.saved_model.load(str(found.path)).signatures["serving_default"]
        frames = np.random.default_rng(0).integers(0, 256, (1, 4, 32, 32, 3)).astype("uint8")
        answered = served(frames=tf.constant(frames))["probabilities"]
        each = [Run(run).clip_model.probabilities({"frames": frames}) for run in runs]
        np.testing.assert_allclose(answered, 0.25 * each[0] + 0.75 * each[1], atol=1e-5)


class TestChecksBeforeTheWork:
    """Everything that can be known before the long work is."""

    @pytest.fixture
    def check(self, model, tmp_path, monkeypatch):
        def refuse(*_, **__):
            raise AssertionError("the work was begun")

        monkeypatch.setattr(publishing, "load_exportable", refuse)
        return lambda to_litert, path, **options: (
            export.litert(model, tmp_path / path / "model.tflite", **options)
            if to_litert
            else export.saved_model(model, tmp_path / path, **options)
        )

    def test_version(self, check):
        with pytest.raises(ValueError, match=r"`version` must be a positive.*version=0"):
            check(False, "served", version=0)

    def test_precision(self, check):
        with pytest.raises(ValueError, match=r"`precision` must be one of .*precision='int4'"):
            check(True, "served", precision="int4")

    def test_suffix(self, check, model, tmp_path):
        with pytest.raises(ValueError, match=r"`path` must end in \.tflite.*: .*model\.bin"):
            export.litert(model, tmp_path / "model.bin")

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
        monkeypatch.setattr(places.importlib.util, "find_spec", lambda _: None)
        with pytest.raises(ImportError, match=r'pip install "tfvlad\[export\]"'):
            check(to_litert, "served")


def test_the_next_version_is_free_of_what_a_kill_has_left(tmp_path):
    """A server passes over names that are no numbers; so does who counts the versions."""
    (tmp_path / "3").mkdir()
    (tmp_path / ".partial-4" / "4").mkdir(parents=True)
    assert places.version_folder(tmp_path, None).name == "4"
