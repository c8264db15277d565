"""From videos to features, and from features alone to models that answer for videos."""

import json
from unittest import mock

import h5py
import numpy as np
import pytest
import tensorflow as tf

from tests.tfvlad.cli.commands import assert_one_sentence, tfvlad, write_broken, write_video

pytestmark = pytest.mark.usefixtures("eagerly")

EXTRACT = ("--network", "resnet18", "--weights", "none", "--image-size", 64, "--frame-step", 1)
SMALL = (
    *("--steps", 3, "--sampling", "uniform", "--units", 4, "--matching-units", 4),
    *("--max-epochs", 2, "--batch-size", 4),
)


def train(data, run, *options):
    # What it switches on cannot be switched off again: it stays out of this process.
    with mock.patch.object(tf.config.experimental, "enable_op_determinism"):
        return tfvlad("train", data, run, *options)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for color, name in enumerate(("green", "red")):
        for i in range(6):
            write_video(folder / name / f"{i}.mp4", 1 - color, num_frames=5 + i, seed=i)
    return folder


@pytest.fixture(scope="module")
def sets(videos, tmp_path_factory):
    """Two feature sets: HDF5 and, of another layer, TFRecord."""
    folder = tmp_path_factory.mktemp("features")
    result = tfvlad("features", videos, folder / "pooled", *EXTRACT, "--json")
    assert result.exit_code == 0, result.errors
    assert json.loads(result.output)["videos"] == 12
    options = ("--layer", "scores", "--format", "tfrecord", "--batch-size", 4)
    other = tfvlad("features", videos, folder / "scores", *EXTRACT, *options)
    assert other.exit_code == 0, other.errors
    return folder / "pooled", folder / "scores"


@pytest.fixture(scope="module")
def runs(sets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    attention = ("--attended", sets[1], "--attended-steps", 4)
    for name, options in {
        "attention-lstm": (*attention, *SMALL),
        "plain-lstm": ("--steps", 3, "--sampling", "uniform", "--units", 4, "--max-epochs", 1),
        "feature-softmax": ("--steps", 3, "--chunk-frames", 4, "--max-epochs", 1),
    }.items():
        result = train(sets[0], folder / name, "--model", name, *options)
        assert result.exit_code == 0, result.errors
    return folder


class TestFeatures:
    def test_mirrors_the_tree_of_the_videos(self, videos, sets):
        names = {path.relative_to(videos).as_posix() for path in videos.rglob("*.mp4")}
        for folder, suffix in zip(sets, (".h5", ".tfrecord"), strict=True):
            found = {p.relative_to(folder).as_posix() for p in folder.rglob(f"*{suffix}")}
            assert found == {name + suffix for name in names}

    def test_rows(self, sets):
        with h5py.File(sets[0] / "green" / "3.mp4.h5") as file:
            assert file["features"].shape == file["flipped"].shape == (8, 512)
            assert file["features"].dtype == "float32"
            assert not np.array_equal(file["features"], file["flipped"])
            np.testing.assert_allclose(file["seconds"], np.arange(8) / 10)

    def test_goes_on_where_it_stopped(self, videos, sets):
        file = sets[0] / "red" / "2.mp4.h5"
        before = {path: path.stat().st_mtime_ns for path in sets[0].rglob("*.h5")}
        file.unlink()
        assert tfvlad("features", videos, sets[0], *EXTRACT).exit_code == 0
        after = {path: path.stat().st_mtime_ns for path in sets[0].rglob("*.h5")}
        assert {path for path in after if after[path] != before[path]} == {file}

    def test_other_settings_are_refused(self, videos, sets):
        result = tfvlad("features", videos, sets[0], *EXTRACT[:-1], 2)
        assert_one_sentence(result, "frame_step")

    def test_float16_and_a_single_file(self, videos, tmp_path):
        video = videos / "red" / "0.mp4"
        options = (*EXTRACT, "--dtype", "float16", "--no-flipped")
        assert tfvlad("features", video, tmp_path / "one", *options).exit_code == 0
        with h5py.File(tmp_path / "one" / "0.mp4.h5") as file:
            assert file["features"].dtype == "float16"
            assert "flipped" not in file

    def test_broken_videos_are_named(self, videos, tmp_path):
        folder = tmp_path / "videos" / "red"
        folder.mkdir(parents=True)
        good = write_video(folder / "good.mp4", 0)
        bad = write_broken(folder / "bad.mp4", "text", good)
        result = tfvlad("features", tmp_path / "videos", tmp_path / "features", *EXTRACT)
        assert result.exit_code == 0, result.errors
        assert f"left out: {bad}: " in result.output
        refused = ("--max-broken", 0)
        result = tfvlad("features", tmp_path / "videos", tmp_path / "other", *EXTRACT, *refused)
        assert result.exit_code == 1
        assert str(bad) in result.output
        assert "tfvlad: 1 of 2 videos are broken and have no features." in result.errors

    def test_nothing_to_extract(self, tmp_path):
        (tmp_path / "empty").mkdir()
        result = tfvlad("features", tmp_path / "empty", tmp_path / "features", *EXTRACT)
        assert_one_sentence(result, f"There is no video below {tmp_path / 'empty'}.")

    def test_unknown_layer(self, videos, tmp_path):
        result = tfvlad("features", videos, tmp_path / "out", *EXTRACT, "--layer", "fc9")
        assert_one_sentence(result, "Received: layer='fc9'.")

    @pytest.mark.parametrize("network", ["resnet34", "c3d", "vgg19"])
    def test_nothing_to_download(self, videos, tmp_path, network):
        options = ("--network", network, "--layer", "fc8")
        result = tfvlad("features", videos, tmp_path / "out", *options)
        assert_one_sentence(result, f"There is nothing to download for {network}")

    def test_failed_download(self, videos, tmp_path, monkeypatch):
        def fail(*arguments, **options):
            raise Exception("URL fetch failure")

        monkeypatch.setattr("tfvlad.cli.extraction.build_extractor", fail)
        result = tfvlad("features", videos, tmp_path / "out")
        assert_one_sentence(result, "The weights of mobilenet_v2 could not be downloaded")


class TestTrain:
    @pytest.mark.parametrize("name", ["attention-lstm", "plain-lstm", "feature-softmax"])
    def test_run_folder(self, runs, name):
        files = {path.name for path in (runs / name).iterdir()}
        assert files == {
            *("config.json", "history.csv", "state.npz", "stage1.keras", "tensorboard"),
            *("model.keras", "model.weights.h5", "result.json", "lists.csv", "scores.npz"),
            *("metrics.json", "per_class.csv", "confusion.csv", "confusion.png", "broken.csv"),
        }
        assert "mAP" in json.loads((runs / name / "metrics.json").read_text())

    def test_same_command_ends_at_once(self, runs, sets):
        before = (runs / "attention-lstm" / "history.csv").read_text()
        options = ("--attended", sets[1], "--attended-steps", 4)
        run = runs / "attention-lstm"
        result = train(sets[0], run, "--model", "attention-lstm", *options, *SMALL)
        assert result.exit_code == 0, result.errors
        assert (run / "history.csv").read_text() == before

    def test_other_settings_are_refused(self, runs, sets):
        options = ("--model", "attention-lstm", "--attended", sets[1], "--attended-steps", 5)
        result = train(sets[0], runs / "attention-lstm", *options, *SMALL)
        assert_one_sentence(result, "num_steps: [3, 4] there, [3, 5] here")

    def test_official_lists_and_csv(self, sets, videos, tmp_path):
        lists = tmp_path / "lists"
        lists.mkdir()
        for name in ("green", "red"):
            lines = [f"{i}.mp4 {1 if i < 4 else 2}" for i in range(6)]
            (lists / f"{name}_test_split1.txt").write_text("\n".join(lines) + "\n")
        options = ("--model", "feature-softmax", "--sampling", "uniform", "--max-epochs", 1)
        result = train(sets[0], tmp_path / "official", *options, "--lists", lists)
        assert result.exit_code == 0, result.errors
        table = tmp_path / "labels.csv"
        rows = [f"{name}/{i}.mp4,{name},0.1,0.5" for name in ("green", "red") for i in range(6)]
        table.write_text("\n".join(["path,label,start_seconds,end_seconds", *rows]) + "\n")
        result = train(sets[0], tmp_path / "csv", *options, "--lists", table)
        assert result.exit_code == 0, result.errors

    def test_several_labels(self, sets, tmp_path):
        table = tmp_path / "labels.csv"
        labels = ("green", "red", "green|red")
        rows = [f"{n}/{i}.mp4,{labels[i % 3]}" for n in ("green", "red") for i in range(6)]
        table.write_text("\n".join(["path,label", *rows]) + "\n")
        options = ("--model", "attention-lstm", *SMALL, "--lists", table)
        result = train(sets[0], tmp_path / "run", *options)
        assert result.exit_code == 0, result.errors
        assert "several labels a clip" in result.output
        metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
        assert {"mAP", "wAP"} <= set(metrics)

    def test_fine_tuning(self, runs, sets, tmp_path):
        table = tmp_path / "labels.csv"
        rows = [f"{n}/{i}.mp4,{'abc'[i % 3]}" for n in ("green", "red") for i in range(6)]
        table.write_text("\n".join(["path,label", *rows]) + "\n")
        options = ("--model", "attention-lstm", "--attended", sets[1], "--attended-steps", 4)
        start = ("--initialize-from", runs / "attention-lstm", "--recipe", "hollywood2")
        result = train(sets[0], tmp_path / "run", *options, *start, *SMALL, "--lists", table)
        assert result.exit_code == 0, result.errors
        result = train(
            sets[0], tmp_path / "other", *options, *start, *SMALL, "--units", 5, "--lists", table
        )
        assert_one_sentence(result, "Train with its features and sizes.")

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            (("--model", "attention-lstm", "--clusters", 4), "--clusters has no effect on"),
            (("--model", "ta-vlad", "--attended-steps", 4), "--attended-steps has no effect on"),
            (("--model", "ta-vlad"), "holds extracted features, and ta-vlad learns from videos"),
            (
                ("--model", "plain-lstm", "--sampling", "segments"),
                "--sampling must be chunk or uniform for plain-lstm. Received: segments.",
            ),
            (
                ("--model", "plain-lstm", "--recipe", "ta-vlad"),
                "--recipe must be attention-lstm or hollywood2 for plain-lstm.",
            ),
        ],
    )
    def test_options_that_do_nothing(self, sets, tmp_path, options, sentence):
        assert_one_sentence(train(sets[0], tmp_path / "run", *options), sentence)
        assert not (tmp_path / "run").exists()

    def test_baselines_attend_to_nothing(self, sets, tmp_path):
        options = ("--model", "plain-lstm", "--attended", sets[1])
        assert_one_sentence(train(sets[0], tmp_path / "run", *options), "attends to nothing")

    def test_videos_are_no_features(self, videos, tmp_path):
        result = train(videos, tmp_path / "run", "--model", "attention-lstm")
        assert_one_sentence(result, "attention-lstm learns from features: make them with")

    def test_videos_without_features_are_left_out(self, sets, videos, tmp_path):
        table = tmp_path / "labels.csv"
        rows = [f"{n}/{i}.mp4,{n},," for n in ("green", "red") for i in range(6)]
        rows += ["red/broken.mp4,red,,", "red/0.mp4,red,100,200"]
        table.write_text("\n".join(["path,label,start_seconds,end_seconds", *rows]) + "\n")
        options = ("--model", "feature-softmax", "--sampling", "uniform", "--max-epochs", 1)
        result = train(sets[0], tmp_path / "run", *options, "--lists", table)
        assert result.exit_code == 0, result.errors
        assert "2 broken videos are left out" in result.output
        broken = (tmp_path / "run" / "broken.csv").read_text()
        assert "broken.mp4.h5,has no features" in broken
        assert "0.mp4.h5,No frame lies in the segment from 100.0 to 200.0 s" in broken
        limited = (*options, "--lists", table, "--max-broken", 0)
        result = train(sets[0], tmp_path / "other", *limited)
        assert_one_sentence(result, "more than the 0 allowed by `max_broken`")


class TestUse:
    def test_evaluate(self, runs, sets):
        for arguments in ((), (sets[0], "--attended", sets[1])):
            result = tfvlad("evaluate", runs / "attention-lstm", *arguments, "--json")
            assert result.exit_code == 0, result.errors
            metrics = json.loads(result.output)
            lines = (runs / "attention-lstm" / "lists.csv").read_text().splitlines()
            num_tested = sum(line.endswith(",test") for line in lines)
            assert metrics["num_clips"] == (12 if arguments else num_tested)
        own = json.loads((runs / "attention-lstm" / "metrics.json").read_text())
        result = tfvlad("evaluate", runs / "attention-lstm", "--json")
        assert json.loads(result.output) == own

    def test_evaluate_refuses_crops(self, runs):
        result = tfvlad("evaluate", runs / "attention-lstm", "--test-crops", 5)
        assert_one_sentence(result, "--test-crops has no effect on")

    def test_evaluate_refuses_other_features(self, runs, sets):
        result = tfvlad("evaluate", runs / "attention-lstm", sets[0])
        assert_one_sentence(result, "holds other features than the model was trained on: layer is")
        result = tfvlad("evaluate", runs / "attention-lstm", "--attended", sets[1])
        assert_one_sentence(result, "--attended needs DATA")

    def test_predict_from_a_video(self, runs, videos):
        video = videos / "red" / "0.mp4"
        result = tfvlad("predict", runs / "attention-lstm", video, "--json")
        assert result.exit_code == 0, result.errors
        found = json.loads(result.output)["predictions"][str(video)]
        assert sum(row["probability"] for row in found) == pytest.approx(1, abs=1e-4)

    def test_predict_equals_the_test(self, runs, videos):
        with np.load(runs / "attention-lstm" / "scores.npz") as scores:
            name, logits = str(scores["clips"][0]), scores["logits"][0]
        video = videos / f"{name}.mp4"
        result = tfvlad("predict", runs / "attention-lstm", video, "--json")
        rows = json.loads(result.output)["predictions"][str(video)]
        best = max(rows, key=lambda row: row["probability"])
        assert best["class"] == ("green", "red")[int(logits.argmax())]
        assert best["probability"] == pytest.approx(np.exp(logits.max()), abs=1e-3)

    def test_compare_and_ensemble(self, runs, tmp_path):
        members = [runs / name for name in ("attention-lstm", "plain-lstm", "feature-softmax")]
        result = tfvlad("ensemble", *members, "--output", tmp_path / "all", "--json")
        assert result.exit_code == 0, result.errors
        scores = [np.load(folder / "scores.npz") for folder in (*members, tmp_path / "all")]
        probabilities = [np.exp(one["logits"]) for one in scores]
        np.testing.assert_allclose(probabilities[-1], np.mean(probabilities[:-1], axis=0), 1e-5)
        result = tfvlad("compare", members[0], tmp_path / "all", "--json")
        assert result.exit_code == 0, result.errors

    def test_ensemble_of_one(self, runs, tmp_path):
        result = tfvlad("ensemble", runs / "plain-lstm", "--output", tmp_path / "one")
        assert_one_sentence(result, "An ensemble needs at least two runs.")


@pytest.mark.slow
def test_recipe_of_192_frames(tmp_path):
    """C3D's fc6 on 12 windows of 16 frames, attending to 24 frames of a random chunk."""
    # The shortest one starts again from its first frame.
    lengths = {"train": (150, 192, 208), "test": (200,)}
    for part, counts in lengths.items():
        for color, name in enumerate(("green", "red")):
            for i, count in enumerate(counts):
                path = tmp_path / "videos" / part / name / f"{part}{i}.mp4"
                write_video(path, 1 - color, num_frames=count, seed=i)
    c3d, frames = tmp_path / "c3d", tmp_path / "frames"
    options = ("--network", "c3d", "--layer", "fc6", "--weights", "none", "--no-flipped")
    result = tfvlad("features", tmp_path / "videos", c3d, *options)
    assert result.exit_code == 0, result.errors
    options = (*EXTRACT[:-1], 8, "--no-flipped", "--dtype", "float16")
    result = tfvlad("features", tmp_path / "videos", frames, *options)
    assert result.exit_code == 0, result.errors
    run = tmp_path / "run"
    attended = ("--attended", frames, "--attended-steps", 24, "--units", 16, "--test-chunks", 3)
    result = train(c3d, run, "--model", "attention-lstm", *attended, "--max-epochs", 2)
    assert result.exit_code == 0, result.errors
    config = json.loads((run / "config.json").read_text())
    assert (config["chunk_frames"], config["num_steps"]) == (192, [12, 24])
    assert config["training"]["stage"]["momentum"] == 0.9
    video = tmp_path / "videos" / "test" / "red" / "test0.mp4"
    result = tfvlad("predict", run, video)
    assert result.exit_code == 0, result.errors


@pytest.mark.current
@pytest.mark.slow
@pytest.mark.parametrize(("name", "num_frames"), [("attention-lstm", 12), ("plain-lstm", 3)])
def test_export(name, num_frames, runs, videos, tmp_path):
    """Behind its networks: 3 steps that attend to 4 frames need 12, which both divide."""
    result = tfvlad("export", runs / name, tmp_path / "served", "--to", "saved-model", "--json")
    assert result.exit_code == 0, result.errors
    assert "No videos of the model's own lists are at hand" in result.errors
    loaded = tf.saved_model.load(json.loads(result.output)["path"])
    frames = tf.zeros((1, num_frames, 80, 100, 3), tf.uint8)
    answer = loaded.signatures["serving_default"](frames=frames)
    assert answer["class_names"].numpy().tolist() == [[b"green", b"red"]]
    options = ("--to", "litert", "--precision", "int8", "--videos", videos, "--tolerance", 0.2)
    result = tfvlad("export", runs / name, tmp_path / "model.tflite", *options)
    assert result.exit_code == 0, result.errors
    assert "on 2 given clips" in result.output
