"""From features alone to models that answer for videos."""

import json
import shutil
from dataclasses import asdict
from functools import partial
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfvlad
from pipelines.storage.files import write_json
from tests.tfvlad_cli import commands
from tests.tfvlad_cli.commands import write_video
from tfvlad import studies
from tfvlad.runs.training import feature_training
from tfvlad.training import fit_on_features
from tfvlad.training.training_state import TrainingState

pytestmark = pytest.mark.usefixtures("eagerly", "small_networks")

EXTRACT = ("--network", "resnet18", "--weights", "none", "--image-size", 64, "--frame-step", 1)
SMALL = {
    **{"num_steps": 3, "sampling": "uniform", "units": 4, "matching_units": 4},
    **{"max_epochs": 2, "batch_size": 4},
}
# Of the models that have fewer settings.
SHORT = {"num_steps": 3, "sampling": "uniform", "max_epochs": 1}


def train(data, folder, **options):
    # What it switches on cannot be switched off again: it stays out of this process.
    with mock.patch.object(tf.config.experimental, "enable_op_determinism"):
        return tfvlad.train(data, folder, **options)


def repeat(data, folder, **options):
    with mock.patch.object(tf.config.experimental, "enable_op_determinism"):
        return studies.repeat(data, folder, **options)


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
    for name, options in {
        "pooled": (),
        "scores": ("--layer", "scores", "--format", "tfrecord", "--batch-size", 4),
    }.items():
        result = commands.tfvlad("features", videos, folder / name, *EXTRACT, *options)
        assert result.exit_code == 0, result.errors
    return folder / "pooled", folder / "scores"


@pytest.fixture(scope="module")
def runs(sets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {
        "attention-lstm": train(
            sets[0], folder / "attention-lstm", attended=sets[1], num_attended=4, **SMALL
        ),
        "plain-lstm": train(sets[0], folder / "plain", model="plain-lstm", units=4, **SHORT),
        "feature-softmax": train(
            sets[0],
            folder / "softmax",
            model="feature-softmax",
            num_steps=3,
            chunk_frames=4,
            max_epochs=1,
        ),
    }


class KilledAfterOneEpoch(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


def as_version_0(run):
    """The config.json of a run, as version 0.1.0 wrote it."""
    config, settings = run.config, run.settings
    names = ("dropout", "units", "matching_units", "attend")
    data = asdict(config.data)
    return {
        "model": settings.model,
        "model_options": {name: getattr(settings, name) for name in names},
        "class_names": config.class_names,
        "multi_label": config.multi_label,
        "feature_sets": config.feature_sets,
        "num_steps": settings.step_counts,
        "chunk_frames": config.chunk_frames,
        "data": {name: data[name] for name in ("data", "attended", "lists", "split")},
        "training": {
            "stage": TrainingState.load(run.folder / "state.npz").settings["stage"],
            "batch_size": settings.clips_per_batch,
            "seed": settings.seed,
            "initialize_from": settings.initialize_from,
            "validation_fraction": settings.validation_fraction,
        },
    }


def write_table(path, rows, header="path,label"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


class TestTrain:
    @pytest.mark.parametrize("name", ["attention-lstm", "plain-lstm", "feature-softmax"])
    def test_run_folder(self, runs, name):
        run = runs[name]
        files = {path.name for path in run.folder.iterdir() if path.name != ".lock"}
        assert files == {
            *("config.json", "history.csv", "state.npz", "stage1.keras", "tensorboard"),
            *("model.keras", "model.weights.h5", "result.json", "lists.csv", "scores.npz"),
            *("metrics.json", "per_class.csv", "confusion.csv", "confusion.png", "broken.csv"),
        }
        assert run.settings.model == name
        assert "mAP" in run.report.metrics

    def test_a_finished_run_is_only_tested_again_where_it_is_seen_otherwise(self, runs, sets):
        run = runs["attention-lstm"]
        again = partial(train, sets[0], run.folder, attended=sets[1], num_attended=4, **SMALL)
        files = [run.folder / name for name in ("history.csv", "scores.npz", "result.json")]
        before = [file.read_bytes() for file in files]
        again()
        assert [file.read_bytes() for file in files] == before
        assert again(test_chunks=3).result["views"] == {"test_chunks": 3}
        assert files[0].read_bytes() == before[0]

    def test_other_settings_are_refused(self, runs, sets):
        run = runs["attention-lstm"]
        with pytest.raises(ValueError, match=r"\(settings\.num_attended: 4 there, 5 here\)"):
            train(sets[0], run.folder, attended=sets[1], num_attended=5, **SMALL)

    def test_an_unfinished_run_of_the_version_before_goes_on(self, sets, tmp_path, monkeypatch):
        again = partial(train, sets[0], tmp_path, attended=sets[1], num_attended=4, **SMALL)
        fit = partial(fit_on_features, callbacks=[KilledAfterOneEpoch()])
        with monkeypatch.context() as patch:
            patch.setattr(feature_training, "fit_on_features", fit)
            with pytest.raises(KeyboardInterrupt):
                again()
        write_json(tmp_path / "config.json", as_version_0(tfvlad.load(tmp_path)))
        with pytest.raises(ValueError, match=r"settings\.batch_size: 4 there, 2 here"):
            again(batch_size=2)
        history = (tmp_path / "history.csv").read_text().splitlines()
        run = again()
        rows = (tmp_path / "history.csv").read_text().splitlines()
        assert (len(history), len(rows)) == (2, 3)
        assert rows[:2] == history
        assert (run.settings.optimizer, run.settings.patience, run.settings.max_epochs) == (
            *(None, None, 2),
        )

    def test_several_seeds_are_checked_before_the_first_training(self, sets, tmp_path):
        options = {"model": "feature-softmax", **SHORT, "chunk_frames": 4, "sampling": "chunk"}
        again = partial(repeat, sets[0], tmp_path / "runs", seeds=(0, 1))
        with pytest.raises(ValueError, match=r"5 steps of a chunk of 4 frames need a row"):
            again(**{**options, "num_steps": 5})
        assert not (tmp_path / "runs").exists()
        runs = again(**options)
        assert [run.settings.seed for run in runs] == [0, 1]
        shutil.rmtree(runs[0].folder)
        with pytest.raises(ValueError, match=r"seed1' holds a run with other settings .*dropout"):
            again(**options, dropout=0.25)
        assert not runs[0].folder.exists()

    def test_official_lists_and_csv(self, sets, videos, tmp_path):
        lists = tmp_path / "lists"
        lists.mkdir()
        for name in ("green", "red"):
            lines = [f"{i}.mp4 {1 if i < 4 else 2}" for i in range(6)]
            (lists / f"{name}_test_split1.txt").write_text("\n".join(lines) + "\n")
        options = {"model": "feature-softmax", **SHORT}
        official = train(sets[0], tmp_path / "official", lists=lists, **options)
        assert official.report.metrics["num_clips"] == 4
        table = write_table(
            tmp_path / "labels.csv",
            [f"{name}/{i}.mp4,{name},0.1,0.5" for name in ("green", "red") for i in range(6)],
            "path,label,start_seconds,end_seconds",
        )
        run = train(sets[0], tmp_path / "csv", lists=table, **options)
        assert all("@0.1-0.5" in clip for clip in np.load(run.folder / "scores.npz")["clips"])

    def test_several_labels(self, sets, tmp_path):
        labels = ("green", "red", "green|red")
        rows = [f"{n}/{i}.mp4,{labels[i % 3]}" for n in ("green", "red") for i in range(6)]
        table = write_table(tmp_path / "labels.csv", rows)
        run = train(sets[0], tmp_path / "run", lists=table, **SMALL)
        assert run.multi_label
        assert {"mAP", "wAP"} <= set(run.report.metrics)

    def test_fine_tuning(self, runs, sets, tmp_path):
        rows = [f"{n}/{i}.mp4,{'abc'[i % 3]}" for n in ("green", "red") for i in range(6)]
        table = write_table(tmp_path / "labels.csv", rows)
        options = {
            **{**SMALL, "attended": sets[1], "num_attended": 4, "lists": table},
            **{"initialize_from": runs["attention-lstm"].folder, "recipe": "hollywood2"},
        }
        run = train(sets[0], tmp_path / "run", **options)
        assert run.class_names == ("a", "b", "c")
        with pytest.raises(ValueError, match=r"Train with its features and sizes\."):
            train(sets[0], tmp_path / "other", **{**options, "units": 5})
        plain = runs["plain-lstm"].folder
        with pytest.raises(ValueError, match=r"`initialize_from` must be a run of the same model"):
            train(sets[0], tmp_path / "other", **{**options, "initialize_from": plain})
        with pytest.raises(ValueError, match=r"must be the folder of a run that exists\."):
            train(sets[0], tmp_path / "other", **{**options, "initialize_from": "nowhere"})

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"num_clusters": 4}, r"`num_clusters` is no setting of FeatureSettings"),
            ({"model": "ta-vlad"}, r"holds extracted features, and ta-vlad learns from videos"),
            ({"flow": "."}, r"`flow` has no effect on model='attention-lstm'\."),
            ({"test_data": "."}, r"`test_data` has no effect on model='attention-lstm'\."),
            ({"cache": "."}, r"`cache` has no effect on model='attention-lstm'"),
            ({"model": "plain-lstm", "attended": "."}, r"`attended` has no effect on model='pla"),
        ],
    )
    def test_what_does_nothing(self, sets, tmp_path, options, message):
        with pytest.raises(ValueError, match=message):
            train(sets[0], tmp_path / "run", **options)
        assert not (tmp_path / "run").exists()

    def test_videos_are_no_features(self, videos, tmp_path):
        with pytest.raises(ValueError, match=r"attention-lstm learns from features, and .* none"):
            train(videos, tmp_path / "run", model="attention-lstm")

    def test_videos_without_features_are_left_out(self, sets, videos, tmp_path):
        rows = [f"{n}/{i}.mp4,{n},," for n in ("green", "red") for i in range(6)]
        rows += ["red/broken.mp4,red,,", "red/0.mp4,red,100,200"]
        table = write_table(tmp_path / "labels.csv", rows, "path,label,start_seconds,end_seconds")
        options = {"model": "feature-softmax", **SHORT, "lists": table}
        run = train(sets[0], tmp_path / "run", **options)
        assert run.result["broken"] == 2
        broken = (run.folder / "broken.csv").read_text()
        assert "broken.mp4.h5,has no features" in broken
        assert "0.mp4.h5,No frame lies in the segment from 100.0 to 200.0 s" in broken
        with pytest.raises(ValueError, match=r"more than the 0 allowed by `max_broken`"):
            train(sets[0], tmp_path / "other", max_broken=0, **options)


class TestUse:
    def test_evaluate(self, runs, sets, tmp_path):
        run = runs["attention-lstm"]
        assert run.evaluate(output=tmp_path / "own").to_dict() == run.report.metrics
        found = run.evaluate(sets[0], attended=sets[1], output=tmp_path / "all")
        assert found.to_dict()["num_clips"] == 12

    def test_controls(self, runs, tmp_path):
        for name, reads_order in (("attention-lstm", True), ("feature-softmax", False)):
            found = runs[name].evaluate(controls=True, output=tmp_path / name)
            assert found.controls.reads_order == reads_order
            assert found.controls.plain.metrics == runs[name].report.metrics
            # The training has told it where a test clip is one chunk.
            is_told = runs[name].settings.sampling == "uniform"
            told = json.loads(json.dumps(found.controls.to_dict())) if is_told else None
            assert runs[name].result.get("controls") == told
            assert (tmp_path / name / "shuffled" / "scores.npz").exists()

    def test_evaluate_refuses_what_has_no_effect(self, runs, sets):
        run = runs["attention-lstm"]
        for options, message in (
            ({"test_crops": 5}, r"`test_crops` has no effect on a run of attention-lstm"),
            ({"data": sets[0]}, r"holds other features than the model was trained on: layer is"),
            ({"attended": sets[1]}, r"`attended` needs `data`"),
        ):
            with pytest.raises(ValueError, match=message):
                run.evaluate(**options)

    def test_predict_equals_the_test(self, runs, videos):
        run = runs["attention-lstm"]
        with np.load(run.folder / "scores.npz") as scores:
            name, logits = str(scores["clips"][0]), scores["logits"][0]
        (found,) = run.predict(videos / f"{name}.mp4")
        np.testing.assert_allclose(found.probabilities, np.exp(logits), atol=1e-3)

    def test_compare_and_fuse(self, runs, tmp_path):
        members = [run.folder for run in runs.values()]
        studies.fuse(members, on="probabilities").save(tmp_path / "all")
        scores = [np.load(folder / "scores.npz") for folder in (*members, tmp_path / "all")]
        probabilities = [np.exp(one["logits"]) for one in scores]
        np.testing.assert_allclose(probabilities[-1], np.mean(probabilities[:-1], axis=0), 1e-5)
        assert json.loads(json.dumps(studies.compare([members[0], tmp_path / "all"]).to_dict()))


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
    result = commands.tfvlad("features", tmp_path / "videos", c3d, *options)
    assert result.exit_code == 0, result.errors
    options = (*EXTRACT[:-1], 8, "--no-flipped", "--dtype", "float16")
    result = commands.tfvlad("features", tmp_path / "videos", frames, *options)
    assert result.exit_code == 0, result.errors
    run = tmp_path / "run"
    attended = {"attended": frames, "num_attended": 24}
    train(c3d, run, **attended, units=16, test_chunks=3, max_epochs=2)
    config = json.loads((run / "config.json").read_text())
    settings = config["settings"]
    steps = [settings[name] for name in ("chunk_frames", "num_steps", "num_attended")]
    assert steps == [192, 12, 24]
    video = tmp_path / "videos" / "test" / "red" / "test0.mp4"
    result = commands.tfvlad("predict", run, video)
    assert result.exit_code == 0, result.errors


@pytest.mark.current
@pytest.mark.slow
@pytest.mark.parametrize(("name", "num_frames"), [("attention-lstm", 12), ("plain-lstm", 3)])
def test_export(name, num_frames, runs, videos, tmp_path):
    """Behind its networks: 3 steps that attend to 4 frames need 12, which both divide."""
    result = commands.tfvlad(
        "export", runs[name].folder, tmp_path / "served", "--to", "saved-model", "--json"
    )
    assert result.exit_code == 0, result.errors
    assert "No videos of a run's own lists are at hand" in result.errors
    loaded = tf.saved_model.load(json.loads(result.output)["path"])
    frames = tf.zeros((1, num_frames, 80, 100, 3), tf.uint8)
    answer = loaded.signatures["serving_default"](frames=frames)
    assert answer["class_names"].numpy().tolist() == [[b"green", b"red"]]
    options = ("--to", "litert", "--precision", "int8", "--videos", videos, "--tolerance", 0.2)
    result = commands.tfvlad("export", runs[name].folder, tmp_path / "model.tflite", *options)
    assert result.exit_code == 0, result.errors
    assert "on 2 given clips" in result.output
