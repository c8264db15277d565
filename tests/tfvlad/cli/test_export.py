"""`tfvlad export` on small runs."""

import json
import shutil
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from tests.tfvlad.cli.commands import assert_one_sentence, tfvlad, write_broken, write_parts

pytestmark = pytest.mark.current

SMALL = (
    *("--backbone", "resnet18", "--weights", "none", "--image-size", 64, "--frames", 3),
    *("--cached-crops", 1, "--batch-size", 4, "--epochs", 1, 0),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_parts(tmp_path_factory.mktemp("data") / "videos", num_train=4, num_test=1)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "ta-vlad"
    # What it switches on cannot be switched off again: it stays out of this process.
    with mock.patch.object(tf.config.experimental, "enable_op_determinism"):
        result = tfvlad("train", data, folder, *SMALL, "--clusters", 2, "--units", 3)
    assert result.exit_code == 0, result.errors
    return folder


@pytest.fixture(scope="module")
def served(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "actions"
    result = tfvlad("export", run, folder, "--to", "saved-model", "--json")
    assert result.exit_code == 0, result.errors
    return folder, json.loads(result.output)


class TestSavedModel:
    def test_is_proved_on_the_validation_videos(self, served):
        folder, report = served
        assert report["path"] == str(folder / "1")
        assert report["clips"] == "given"
        assert report["num_clips"] == 2
        assert report["largest_difference"] <= 1e-4
        told = json.loads((folder / "1" / "assets.extra" / "parity.json").read_text())
        assert {**told, "path": report["path"]} == report

    def test_answers_with_the_classes_of_the_run(self, served):
        loaded = tf.saved_model.load(str(served[0] / "1"))
        frames = np.zeros((1, 3, 50, 80, 3), "uint8")
        answer = loaded.signatures["serving_default"](frames=tf.constant(frames))
        assert answer["class_names"].numpy().tolist() == [[b"green", b"red"]]
        assert set(loaded.signatures) >= {"encoded_frames", "features", "highlight", "stream"}

    @pytest.mark.slow
    def test_over_the_tolerance_there_is_nothing(self, run, tmp_path):
        options = ("--to", "saved-model", "--tolerance", 0)
        result = tfvlad("export", run, tmp_path / "served", *options)
        assert result.exit_code == 1
        assert "tfvlad: The float32 export differs from its model: largest" in result.errors
        assert not (tmp_path / "served").exists()

    def test_a_version_that_is_there_stays(self, run, served):
        result = tfvlad("export", run, served[0], "--to", "saved-model", "--version", 1)
        assert_one_sentence(result, "1 is there already. Choose another version, or none.")


class TestLiteRT:
    @pytest.mark.slow
    def test_int8_on_named_videos(self, run, data, tmp_path):
        path = tmp_path / "model.tflite"
        options = ("--to", "litert", "--precision", "int8", "--videos", data / "train")
        result = tfvlad("export", run, path, *options, "--tolerance", 1)
        assert result.exit_code == 0, result.errors
        assert result.output.startswith(f"{path}: ")
        report = json.loads((tmp_path / "model.parity.json").read_text())
        assert report["precision"] == "int8"
        assert (report["num_clips"], report["clips"]) == (1, "given")

    @pytest.mark.slow
    def test_broken_videos_are_named(self, run, data, tmp_path):
        good = data / "train" / "red" / "train0.mp4"
        folder = tmp_path / "videos"
        folder.mkdir()
        shutil.copy(good, folder / "good.mp4")
        broken = write_broken(folder / "broken.mp4", "text", good)
        path = tmp_path / "stream.tflite"
        options = ("--to", "litert", "--streaming", "--videos", folder)
        result = tfvlad("export", run, path, *options)
        assert result.exit_code == 0, result.errors
        assert f"{broken}: " in result.errors
        assert "on 1 given clips" in result.output

    def test_int8_needs_videos(self, run, data, tmp_path):
        moved = tmp_path / "run"
        shutil.copytree(run, moved)
        lists = moved / "lists.csv"
        lists.write_text(lists.read_text().replace(str(data), str(tmp_path / "gone")))
        path = tmp_path / "model.tflite"
        result = tfvlad("export", moved, path, "--to", "litert", "--precision", "int8")
        assert result.exit_code == 1
        assert result.errors.endswith("int8 is calibrated on typical videos: give --videos.\n")
        assert not path.exists()


@pytest.mark.slow
def test_a_model_file_and_its_class_names(run, tmp_path):
    model, names = tmp_path / "model.keras", tmp_path / "names.txt"
    shutil.copy(run / "model.keras", model)
    names.write_text("left\nright\n")
    options = ("--to", "saved-model", "--class-names", names, "--json")
    result = tfvlad("export", model, tmp_path / "served", *options)
    assert result.exit_code == 0, result.errors
    assert json.loads(result.output)["clips"] == "made"
    assets = tmp_path / "served" / "1" / "assets"
    assert (assets / "class_names.txt").read_text().split() == ["left", "right"]


@pytest.mark.slow
def test_several_runs_as_one(run, data, tmp_path):
    path = tmp_path / "both.tflite"
    options = ("--to", "litert", "--weights", 0.25, 0.75, "--videos", data / "test")
    result = tfvlad("export", run, run, path, *options)
    assert result.exit_code == 0, result.errors
    assert "top-1 agreement 100% on 1 given clips" in result.output


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--to", "saved-model", "--precision", "int8"), "--precision has no effect on a SavedMod"),
        (("--to", "saved-model", "--streaming"), "--streaming has no effect on a SavedModel"),
        (("--to", "litert", "--version", 3), "--version has no effect on a LiteRT file"),
        (("--to", "litert", "--weights", 1), "--weights has no effect on a single model"),
        (
            (
                "--to",
                "litert",
            ),
            "A LiteRT file ends in .tflite. Received: ",
        ),
    ],
)
def test_refusals_before_the_work(run, tmp_path, options, sentence):
    assert_one_sentence(tfvlad("export", run, tmp_path / "out", *options), sentence)


def test_what_is_no_model(tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(b"nothing")
    result = tfvlad("export", path, tmp_path / "out", "--to", "saved-model")
    assert_one_sentence(result, f"{path} is no model that Keras can load (")
    result = tfvlad("export", tmp_path, tmp_path / "out", "--to", "saved-model")
    assert_one_sentence(result, "is not a run folder")
