"""From a folder of videos to predictions, by the commands alone."""

import csv
import json
import shutil
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from tests.tfvlad.cli.commands import assert_one_sentence, tfvlad, write_broken, write_video
from tfvlad.cli.run_folder import build_backbone, load_model

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
            *("stage1.keras", "model.keras", "model.weights.h5", "tensorboard", "result.json"),
            "lists.csv",
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
        clips = [f"{name}/test{i}" for name in ("green", "red") for i in range(2)]
        assert sorted(scores["clips"]) == clips
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
        assert "(model_options.num_clusters: 4 there, 5 here)" in last
        assert result.output == ""

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            (("--max-broken", 0), "half.mp4"),
            (("--freed-block", "layer9"), "layer9"),
            (("--weights", "missing.safetensors"), "missing.safetensors"),
            (("--test-data", "TEST", "--lists", "TEST"), "Give either --lists or --test-data"),
            (("--weights", "imagenet"), "give --weights torchvision's or timm's file"),
            (("--split", 1, "--split", 2), "Several --split need --lists"),
        ],
    )
    def test_mistakes(self, data, tmp_path, options, sentence):
        options = [data / "test" if option == "TEST" else option for option in options]
        result = train(data, tmp_path / "run", *options, "--json")
        assert result.exit_code == 1
        assert sentence in result.errors.splitlines()[-1]
        assert result.errors.splitlines()[-1].startswith("tfvlad: ")
        assert "Traceback" not in result.errors

    def test_nothing_is_written_before_everything_is_checked(self, data, tmp_path):
        train(data, tmp_path / "run", "--freed-block", "layer9")
        assert not (tmp_path / "run").exists()
        result = train(data, tmp_path / "run", "--max-broken", 0)
        assert "half.mp4" in result.errors
        # It was never trained: other settings are welcome.
        again = train(data, tmp_path / "run", "--max-broken", 0, "--clusters", 5)
        assert "half.mp4" in again.errors
        config = json.loads((tmp_path / "run" / "config.json").read_text())
        assert config["model_options"]["num_clusters"] == 5
        assert config["data"]["data"] == str(data)

    def test_recipe(self, data, tmp_path):
        fields = ("epsilon", "clip_norm", "weight_decay", "decay_factor", "epochs")
        for options, expected in (
            (("--model", "action-vlad"), [1e-7, None, None, 0.5, 1]),
            (("--recipe", "action-vlad"), [1e-4, 5.0, 4e-5, 0.1, 1]),
            (("--recipe", "action-vlad", "--weight-decay", 0), [1e-4, 5.0, 0.0, 0.1, 1]),
        ):
            train(data, tmp_path / "run", "--max-broken", 0, *options)
            config = json.loads((tmp_path / "run" / "config.json").read_text())
            for stage in config["training"]["stages"]:
                assert [stage[field] for field in fields] == expected

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            (("--epochs", 0, 1), "0 is not in the range x>=1"),
            (("--alpha", "sharp"), "'sharp' is neither a positive number nor \"auto\""),
            (("--alpha", -1), "'-1' is neither a positive number"),
            (("--validation-fraction", 1), "1.0 is not in the range 0<x<1"),
            (("--dropout", 1), "1.0 is not in the range 0<=x<1"),
            (("--learning-rates", 0, 1), "0.0 is not in the range x>0"),
        ],
    )
    def test_values_out_of_range(self, data, tmp_path, options, sentence):
        result = tfvlad("train", data, tmp_path / "run", *options)
        assert result.exit_code == 2
        assert sentence in result.errors.splitlines()[-1]

    def test_folder_of_other_things(self, data, tmp_path):
        (tmp_path / "thesis.tex").touch()
        result = tfvlad("train", data, tmp_path)
        assert_one_sentence(result, f"'{tmp_path}' is not empty and is no run folder")

    def test_failed_download(self, monkeypatch):
        def fail(**options):
            raise Exception("URL fetch failure on https://x: None -- no route")

        monkeypatch.setattr("tfvlad.backbones.mobilenet_v2", fail, raising=False)
        with pytest.raises(OSError, match=r"mobilenet_v2 could not be downloaded .*--weights a fi"):
            build_backbone("mobilenet_v2", "imagenet", 64)

    @pytest.mark.slow
    def test_seeds_share_videos_and_features(self, data, tmp_path):
        options = ("--model", "average-pooling", "--epochs", 1, 0)
        seeds = ("--seed", 0, "--seed", 1, "--seed", 0)
        result = train(data, tmp_path / "runs", *options, *seeds, "--json")
        assert result.exit_code == 0, result.errors
        names = {"split1-seed0", "split1-seed1", "videos.json", "features"}
        assert files_of(tmp_path / "runs") == names
        assert [run["seed"] for run in json.loads(result.output)["runs"]] == [0, 1]
        assert "features" not in files_of(tmp_path / "runs" / "split1-seed0")
        assert "2 classes, one label a clip: " in result.errors


class TestModelOfTheOtherStack:
    def test_is_rebuilt_from_its_weights(self, runs, monkeypatch):
        folder = runs[0] / "vlad"
        frames = np.random.default_rng(0).uniform(0, 255, (1, 4, 64, 64, 3)).astype("float32")
        expected = load_model(folder).predict_on_batch(frames)

        def fail(path):
            raise TypeError("its parent module cannot be imported")

        monkeypatch.setattr("keras.models.load_model", fail)
        rebuilt = load_model(folder).predict_on_batch(frames)
        np.testing.assert_allclose(rebuilt, expected, rtol=1e-4, atol=1e-5)


class TestEvaluate:
    def test_own_test_list(self, runs, tmp_path):
        result = tfvlad("evaluate", runs[0] / "vlad", "--output", tmp_path / "new", "--json")
        assert result.exit_code == 0, result.errors
        expected = json.loads((runs[0] / "vlad" / "metrics.json").read_text())
        assert json.loads(result.output) == expected
        expected_files = {"metrics.json", "confusion.png", "scores.npz", "videos.json"}
        assert files_of(tmp_path / "new") >= expected_files
        tested = json.loads((tmp_path / "new" / "evaluation.json").read_text())
        assert tested["data"] == str(runs[0] / "vlad" / "lists.csv")
        assert tested["test_crops"] == 1
        scores = TestTrain.scores(tmp_path / "new")
        logits = TestTrain.scores(runs[0] / "vlad")["logits"]
        # The run's scores come from float16 features.
        np.testing.assert_allclose(scores["logits"], logits, atol=0.02)

    def test_other_videos_of_one_class_and_several_crops(self, data, runs, tmp_path):
        shutil.copytree(data / "test" / "red", tmp_path / "data" / "red")
        with pytest.warns(UserWarning, match="1 classes have no videos"):
            result = tfvlad(
                "evaluate", runs[0] / "vlad", tmp_path / "data", "--test-crops", "5", "--json"
            )
        assert result.exit_code == 0, result.errors
        assert json.loads(result.output)["num_clips"] == 2
        assert "confusion.png" in files_of(runs[0] / "vlad" / "evaluation")

    def test_other_classes(self, data, runs, tmp_path):
        shutil.copytree(data / "test" / "red", tmp_path / "blue")
        result = tfvlad("evaluate", runs[0] / "vlad", tmp_path)
        assert_one_sentence(result, "has sub-folders that are no known class: blue.")

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (("--split", 1), "--lists and --split need DATA"),
            (("DATA", "--split", 1), "--split needs --lists. Received: --split 1."),
        ],
    )
    def test_options_that_do_not_fit(self, data, runs, arguments, sentence):
        arguments = [data if argument == "DATA" else argument for argument in arguments]
        assert_one_sentence(tfvlad("evaluate", runs[0] / "vlad", *arguments), sentence)

    @pytest.mark.parametrize("text", ["no json", "[]", '{"scenario": 1}'])
    def test_foreign_configuration(self, tmp_path, text):
        (tmp_path / "config.json").write_text(text)
        result = tfvlad("evaluate", tmp_path)
        assert_one_sentence(result, "config.json' is no configuration of a run of this version (")

    def test_moved_videos(self, runs, tmp_path):
        shutil.copy(runs[0] / "vlad" / "config.json", tmp_path)
        row = "path,label,start_seconds,end_seconds,part\n/gone.mp4,red,,,test\n"
        (tmp_path / "lists.csv").write_text(row)
        result = tfvlad("evaluate", tmp_path)
        assert_one_sentence(result, "1 of 1 videos that")

    def test_no_run(self, tmp_path):
        result = tfvlad("evaluate", tmp_path)
        assert_one_sentence(result, f"'{tmp_path}' is not a run folder: it has no config.json.")

    def test_unfinished_run(self, runs, tmp_path):
        for name in ("config.json", "lists.csv"):
            shutil.copy(runs[0] / "vlad" / name, tmp_path)
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
            row = np.flatnonzero(scores["clips"] == f"{video.parent.name}/{video.stem}")
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


def test_compare(runs):
    result = tfvlad("compare", runs[0] / "average", runs[0] / "vlad", "--stage", 1, "--json")
    assert result.exit_code == 0, result.errors
    report = json.loads(result.output)
    stages = (runs[0] / "average", ""), (runs[0] / "vlad", "stage1")
    scores = [TestTrain.scores(*stage) for stage in stages]
    top1 = [np.mean(np.argmax(s["logits"], axis=-1) == s["labels"]) for s in scores]
    assert [report["first"], report["second"]] == pytest.approx(top1)
    result = tfvlad("compare", runs[0] / "average", runs[0] / "vlad")
    assert_one_sentence(result, "The runs have different numbers of stages (1, 2). Give --stage 1")
