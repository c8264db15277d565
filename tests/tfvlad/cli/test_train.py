"""From a folder of videos to predictions, by the commands alone."""

import csv
import json
import shutil
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from tests.tfvlad.cli.commands import assert_one_sentence, tfvlad, write_broken, write_video

SMALL = (
    *("--backbone", "resnet18", "--weights", "none", "--image-size", 64, "--frames", 4),
    *("--clusters", 4, "--units", 4, "--epochs", 1, 1, "--cached-crops", 1, "--batch-size", 4),
)


def train(data, run, *options):
    # What it switches on cannot be switched off again: it stays out of this process.
    with mock.patch.object(tf.config.experimental, "enable_op_determinism") as deterministic:
        result = tfvlad("train", data, run, *SMALL, *options)
    assert deterministic.called or result.exit_code
    return result


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for part, count in (("train", 4), ("test", 2)):
        for color, name in enumerate(("green", "red")):
            for i in range(count):
                path = folder / part / name / f"{part}{i}.mp4"
                write_video(path, 1 - color, seed=i + 10 * (part == "test"))
    source = folder / "train" / "red" / "train0.mp4"
    write_broken(folder / "train" / "red" / "half.mp4", "truncated", source)
    return folder


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """The folder of finished runs, and what the training of the first one printed."""
    folder = tmp_path_factory.mktemp("runs")
    result = train(data, folder / "vlad", "--model", "ta-vlad", "--json")
    assert result.exit_code == 0, result.errors
    options = ("--model", "average-pooling", "--no-cache", "--epochs", 1, 0)
    other = train(data, folder / "average", *options)
    assert other.exit_code == 0, other.errors
    return folder, result, other


def files_of(folder):
    return {path.name for path in folder.iterdir()}


class TestTrain:
    def test_names_what_it_skipped(self, data, runs):
        broken = data / "train" / "red" / "half.mp4"
        assert f"  {broken}: " in runs[1].errors
        assert f"  {broken}: " in runs[2].output
        with open(runs[0] / "vlad" / "broken.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["path"] for row in rows] == [str(broken)]
        assert rows[0]["reason"]

    def test_files(self, runs):
        expected = {
            *("config.json", "videos.json", "broken.csv", "history.csv", "state.npz"),
            *("stage1.keras", "model.keras", "tensorboard", "result.json"),
            *("metrics.json", "per_class.csv", "confusion.csv", "confusion.png", "scores.npz"),
        }
        assert files_of(runs[0] / "vlad") == {*expected, "features", "stage1", "stage2.keras"}
        assert files_of(runs[0] / "average") == expected
        assert {"metrics.json", "scores.npz"} <= files_of(runs[0] / "vlad" / "stage1")
        config = json.loads((runs[0] / "vlad" / "config.json").read_text())
        assert config["class_names"] == ["green", "red"]
        assert (config["model"], config["backbone"]) == ("ta-vlad", "resnet18")
        assert (config["num_frames"], config["image_size"], config["short_side"]) == (4, 64, 73)

    def test_json_is_all_that_is_printed(self, runs):
        report = json.loads(runs[1].output)
        (run,) = report["runs"]
        assert (run["split"], run["seed"], run["broken"]) == (1, 0, 1)
        assert len(run["stages"]) == 2
        for number, metrics in enumerate(run["stages"], 1):
            scores = self.scores(runs[0] / "vlad", "stage1" if number == 1 else "")
            top1 = np.mean(np.argmax(scores["logits"], axis=-1) == scores["labels"])
            assert metrics["top1"] == pytest.approx(top1)
        assert sorted(scores["clips"]) == ["test0.mp4", "test0.mp4", "test1.mp4", "test1.mp4"]
        written = json.loads((runs[0] / "vlad" / "result.json").read_text())
        assert written == run

    def test_table(self, runs):
        assert "Test list, %" in runs[2].output
        assert "top1" in runs[2].output

    @staticmethod
    def scores(run, stage=""):
        with np.load(run / stage / "scores.npz") as arrays:
            return dict(arrays)

    def test_same_command_again(self, data, runs):
        folder = runs[0] / "vlad"
        state = (folder / "state.npz").stat().st_mtime_ns
        before = self.scores(folder)
        result = train(data, folder, "--model", "ta-vlad", "--json")
        assert result.exit_code == 0
        assert (folder / "state.npz").stat().st_mtime_ns == state
        np.testing.assert_array_equal(self.scores(folder)["logits"], before["logits"])
        first, second = (json.loads(r.output)["runs"][0]["stages"] for r in (runs[1], result))
        assert first == second

    def test_other_settings(self, data, runs):
        result = train(data, runs[0] / "vlad", "--model", "ta-vlad", "--clusters", 5, "--json")
        assert result.exit_code == 1
        assert "Traceback" not in result.errors
        last = result.errors.splitlines()[-1]
        assert last.startswith(f"tfvlad: '{runs[0] / 'vlad'}' holds a run with other settings")
        assert "'num_clusters': 4" in last
        assert "'num_clusters': 5" in last
        assert result.output == ""

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            (("--max-broken", 0), "half.mp4"),
            (("--freed-block", "layer9"), "layer9"),
            (("--weights", "missing.safetensors"), "missing.safetensors"),
            (("--test-data", "TEST", "--lists", "TEST"), "Give either --lists or --test-data"),
            (("--validation-fraction", 1.5), "fraction"),
        ],
    )
    def test_mistakes(self, data, tmp_path, options, sentence):
        options = [data / "test" if option == "TEST" else option for option in options]
        result = train(data, tmp_path / "run", *options, "--json")
        assert result.exit_code == 1
        assert sentence in result.errors.splitlines()[-1]
        assert result.errors.splitlines()[-1].startswith("tfvlad: ")
        assert "Traceback" not in result.errors


class TestEvaluate:
    def test_own_test_list(self, runs, tmp_path):
        result = tfvlad("evaluate", runs[0] / "vlad", "--output", tmp_path / "new", "--json")
        assert result.exit_code == 0, result.errors
        expected = json.loads((runs[0] / "vlad" / "metrics.json").read_text())
        assert json.loads(result.output) == expected
        assert files_of(tmp_path / "new") >= {"metrics.json", "confusion.png", "scores.npz"}
        scores = TestTrain.scores(tmp_path / "new")
        logits = TestTrain.scores(runs[0] / "vlad")["logits"]
        # The run's scores come from float16 features.
        np.testing.assert_allclose(scores["logits"], logits, atol=0.02)

    def test_other_videos_and_several_crops(self, data, runs):
        result = tfvlad("evaluate", runs[0] / "vlad", data, "--test-crops", "5")
        assert result.exit_code == 0, result.errors
        assert "top1" in result.output
        assert "confusion.png" in files_of(runs[0] / "vlad" / "evaluation")

    def test_other_classes(self, data, runs, tmp_path):
        for part in ("train", "test"):
            shutil.copytree(data / part, tmp_path / part)
            (tmp_path / part / "red").rename(tmp_path / part / "blue")
        result = tfvlad("evaluate", runs[0] / "vlad", tmp_path)
        assert_one_sentence(result, "The model knows the classes ['green', 'red'].")

    def test_no_run(self, tmp_path):
        result = tfvlad("evaluate", tmp_path)
        assert_one_sentence(result, f"'{tmp_path}' is not a run folder: it has no config.json.")

    def test_unfinished_run(self, runs, tmp_path):
        shutil.copy(runs[0] / "vlad" / "config.json", tmp_path)
        result = tfvlad("evaluate", tmp_path)
        assert_one_sentence(result, "has no finished model. Run the same `tfvlad train` command")


class TestPredict:
    @pytest.fixture
    def videos(self, data):
        return [data / "test" / name / "test0.mp4" for name in ("red", "green")]

    def test_text(self, runs, videos):
        result = tfvlad("predict", runs[0] / "vlad", *videos)
        assert result.exit_code == 0, result.errors
        lines = result.output.splitlines()
        assert [lines[0], lines[3]] == [str(video) for video in videos]
        assert {line.split()[-1] for line in lines[1:3]} == {"green", "red"}
        assert sum(float(line.split()[0]) for line in lines[1:3]) == pytest.approx(100, abs=0.2)

    def test_json(self, runs, videos):
        result = tfvlad("predict", runs[0] / "vlad", *videos, "--json", "--top", 1)
        scores = TestTrain.scores(runs[0] / "vlad")
        predictions = json.loads(result.output)["predictions"]
        assert list(predictions) == [str(video) for video in videos]
        for video, (best,) in zip(videos, predictions.values(), strict=True):
            label = ("green", "red").index(video.parent.name)
            row = np.flatnonzero((scores["clips"] == video.name) & (scores["labels"] == label))
            logits = scores["logits"][row[0]]
            probability = np.exp(logits) / np.exp(logits).sum()
            assert best["probability"] == pytest.approx(probability.max(), abs=0.01)

    def test_broken_video(self, data, runs, videos):
        broken = data / "train" / "red" / "half.mp4"
        result = tfvlad("predict", runs[0] / "vlad", videos[0], broken)
        assert result.exit_code == 1
        assert result.output.splitlines()[0] == str(videos[0])
        assert result.errors.splitlines()[-1].startswith(f"tfvlad: {broken}: ")
        only = tfvlad("predict", runs[0] / "vlad", broken, "--json")
        assert only.exit_code == 1
        report = json.loads(only.output)
        assert report["predictions"] == {}
        assert report["broken"][0]["path"] == str(broken)


class TestCompare:
    @pytest.mark.parametrize("stage", [None, 1])
    def test_difference(self, runs, stage):
        names = ("average", "vlad")
        options = () if stage is None else ("--stage", stage)
        result = tfvlad("compare", *(runs[0] / name for name in names), *options, "--json")
        assert result.exit_code == 0, result.errors
        report = json.loads(result.output)
        top1 = []
        for name in names:
            # The scores after the last stage, the only one of "average", are the run's.
            place = "stage1" if stage == 1 and name == "vlad" else ""
            scores = TestTrain.scores(runs[0] / name, place)
            top1.append(np.mean(np.argmax(scores["logits"], axis=-1) == scores["labels"]))
        assert [report["first"], report["second"]] == pytest.approx(top1)
        assert report["difference"] == pytest.approx(top1[1] - top1[0])
        low, high = report["interval"]
        assert low <= report["difference"] <= high
        assert report["runs"] == 1

    def test_text(self, runs):
        result = tfvlad("compare", runs[0] / "average", runs[0] / "vlad")
        assert "difference" in result.output
        assert "(1 run" in result.output

    def test_missing_stage(self, runs):
        folders = runs[0] / "vlad", runs[0] / "average"
        result = tfvlad("compare", *folders, "--stage", 2)
        assert_one_sentence(result, f"'{folders[1]}' has no stage 2. Leave --stage out to take")

    def test_nothing_in_common(self, runs, tmp_path):
        result = tfvlad("compare", runs[0] / "vlad", tmp_path)
        assert_one_sentence(result, "have no finished run of the same split and seed.")

    def test_other_clips(self, runs, tmp_path):
        scores = TestTrain.scores(runs[0] / "vlad")
        np.savez(tmp_path / "scores.npz", **{**scores, "clips": scores["clips"][::-1]})
        result = tfvlad("compare", runs[0] / "vlad", tmp_path)
        assert_one_sentence(result, "were tested on different clips.")
