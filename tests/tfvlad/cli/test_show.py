"""`tfvlad show` on small runs."""

import contextlib
import json
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tfvlad.cli.commands import assert_one_sentence, tfvlad, write_broken, write_parts
from tfvlad import visualization
from tfvlad.cli.pictures import choose, spread
from tfvlad.cli.run_folder import load_model
from tfvlad.models import intermediate_outputs

pytestmark = pytest.mark.usefixtures("eagerly")

SMALL = (
    *("--backbone", "resnet18", "--weights", "none", "--image-size", 64, "--frames", 4),
    *("--cached-crops", 1, "--batch-size", 4),
)


def train(data, run, *options):
    # What it switches on cannot be switched off again: it stays out of this process.
    with mock.patch.object(tf.config.experimental, "enable_op_determinism"):
        result = tfvlad("train", data, run, *SMALL, *options)
    assert result.exit_code == 0, result.errors


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_parts(tmp_path_factory.mktemp("videos"), num_train=4, num_test=2)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """TA-VLAD after two stages."""
    folder = tmp_path_factory.mktemp("runs") / "ta-vlad"
    options = ("--clusters", 4, "--units", 4, "--learning-rates", 1e-2, 1e-2)
    train(data, folder, "--epochs", 1, 1, *options)
    return folder


@pytest.fixture(scope="module")
def average(data, tmp_path_factory):
    """Average pooling after one stage."""
    folder = tmp_path_factory.mktemp("runs") / "average"
    train(data, folder, "--model", "average-pooling", "--epochs", 1, 0)
    return folder


def files_of(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def show(*arguments):
    """Run the command; its result, and what it gave to each function that draws."""
    calls = {}

    def recorded(function):
        def call(*arguments, **options):
            calls.setdefault(function.__name__, []).append((*arguments, options))
            return function(*arguments, **options)

        return call

    with contextlib.ExitStack() as stack:
        for name in visualization.__all__:
            if name.endswith("_figure") or name == "embed":
                patched = recorded(getattr(visualization, name))
                stack.enter_context(mock.patch.object(visualization, name, patched))
        return tfvlad("show", *arguments), calls


CLIPS = [f"{name}/test{i}" for name in ("green", "red") for i in range(2)]


@pytest.fixture(scope="module")
def everything(run):
    result, calls = show(run)
    assert result.exit_code == 0, result.errors
    return result, calls


@pytest.fixture(scope="module")
def outputs(run):
    """The model's own outputs for the frames that were drawn on."""
    model = intermediate_outputs(load_model(run))
    return lambda frames: {
        name: value[0] for name, value in model.predict_on_batch(frames[np.newaxis]).items()
    }


class TestTestList:
    def test_files(self, run, everything):
        expected = {
            *("words.png", "tsne_features.png", "tsne_descriptors.png"),
            *(f"{clip}/{name}.png" for clip in CLIPS for name in ("attention", "words", "track")),
        }
        assert files_of(run / "pictures") == expected
        printed = everything[0].output.splitlines()
        assert sorted(printed) == sorted(str(run / "pictures" / name) for name in expected)

    def test_attention_before_and_after_stage_2(self, run, everything, outputs):
        first = intermediate_outputs(keras.models.load_model(run / "stage1.keras"), ["attention"])
        calls = everything[1]["attention_figure"]
        assert len(calls) == 4
        for frames, attention, _ in calls:
            assert frames.shape == (4, 64, 64, 3)
            before = first.predict_on_batch(frames[np.newaxis])["attention"][0]
            np.testing.assert_allclose(attention["after stage 1"], before, atol=1e-5)
            after = outputs(frames)["attention"]
            np.testing.assert_allclose(attention["after stage 2"], after, atol=1e-5)
        assert np.abs(before - after).max() > 1e-4
        titles = [options["title"] for *_, options in calls]
        assert titles == [f"{clip}: {clip.split('/')[0]}" for clip in CLIPS]

    def test_words(self, everything, outputs):
        maps, tracks, (words,) = (
            everything[1][f"{name}_figure"] for name in ("word_map", "word_track", "action_words")
        )
        totals = []
        for (frames, assignments, _), (_, _, tracked, _) in zip(maps, tracks, strict=True):
            expected = outputs(frames)
            np.testing.assert_allclose(assignments, expected["assignments"], atol=1e-4)
            weighted = expected["assignments"] * expected["attention"][..., np.newaxis]
            totals.append(weighted.sum(axis=(0, 1, 2)))
            assert tracked == totals[-1].argmax()
        clips, assignments, chosen, _ = words
        assert clips.shape == (4, 4, 64, 64, 3)
        np.testing.assert_array_equal(assignments[2], maps[2][1])
        np.testing.assert_array_equal(chosen, np.argsort(-np.sum(totals, axis=0)))

    def test_embedding(self, everything, outputs):
        (features, _), (descriptors, _) = everything[1]["embed"]
        (_, owners, _), (_, classes, _) = everything[1]["embedding_figure"]
        clips = everything[1]["action_words_figure"][0][0]
        expected = [outputs(clip) for clip in clips]
        np.testing.assert_allclose(
            descriptors, [found["descriptor"].ravel() for found in expected], atol=1e-4
        )
        assert classes == ["green", "green", "red", "red"]
        # 4 frames of 2 x 2 locations, in any order.
        assert owners == [clip for clip in CLIPS for _ in range(16)]
        for i, found in enumerate(expected):
            locations = found["feature_map"].reshape(16, -1)
            np.testing.assert_allclose(
                np.sort(features[16 * i : 16 * i + 16], axis=0),
                np.sort(locations, axis=0),
                atol=1e-3,
            )

    def test_some_of_the_videos(self, run, tmp_path):
        options = ("--output", tmp_path, "--num-videos", 2, "--what", "track", "--word", 2)
        result, calls = show(run, *options)
        assert result.exit_code == 0, result.errors
        assert files_of(tmp_path) == {"green/test0/track.png", "red/test1/track.png"}
        assert [word for _, _, word, _ in calls["word_track_figure"]] == [2, 2]

    def test_what_the_model_has(self, average, tmp_path):
        result, _ = show(average, "--output", tmp_path)
        assert result.exit_code == 0, result.errors
        assert files_of(tmp_path) == {"tsne_features.png", "tsne_descriptors.png"}


class TestVideos:
    def test_named_and_broken(self, data, run, tmp_path):
        good = [data / "test" / name / "test0.mp4" for name in ("red", "green")]
        broken = write_broken(tmp_path / "half.mp4", "truncated", good[0])
        place = tmp_path / "new"
        options = ("--output", place, "--what", "attention", "--json")
        result, calls = show(run, *good, broken, *options)
        assert result.exit_code == 1
        assert result.errors.splitlines()[-1].startswith(f"tfvlad: {broken}: ")
        report = json.loads(result.output)
        names = ["red/test0", "green/test0"]
        assert report["pictures"] == [str(place / name / "attention.png") for name in names]
        assert [video["path"] for video in report["broken"]] == [str(broken)]
        # The classes are the predicted ones.
        predicted = json.loads(tfvlad("predict", run, *good, "--json").output)["predictions"]
        classes = [rows[0]["class"] for rows in predicted.values()]
        titles = [options["title"] for *_, options in calls["attention_figure"]]
        assert titles == [f"{name}: {c}" for name, c in zip(names, classes, strict=True)]


class TestErrors:
    @pytest.mark.parametrize(
        ("what", "sentence"),
        [
            ("attention", "'average_pooling' has no spatial attention: a TA-VLAD trained with it"),
            ("words", "'average_pooling' has no action words: they belong to a model with VLAD"),
            ("track", "'average_pooling' has no action words"),
        ],
    )
    def test_what_the_model_has_not(self, average, what, sentence):
        assert_one_sentence(tfvlad("show", average, "--what", what), sentence)

    def test_nothing_to_draw(self, data, average):
        video = data / "test" / "red" / "test0.mp4"
        result = tfvlad("show", average, video)
        assert_one_sentence(result, "has no spatial attention")
        result = tfvlad("show", average, video, "--what", "embedding")
        assert_one_sentence(result, "An embedding needs 4 or more videos. Received: 1.")

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"streams": ["rgb", "flow"]}, "is a run of two streams. Give a run of one:"),
            (None, "is a run on features, without frames to draw on. Give a run on videos"),
        ],
    )
    def test_runs_that_are_not_drawn(self, run, tmp_path, changes, sentence):
        config = json.loads((run / "config.json").read_text())
        if changes is None:
            names = ("model", "model_options", "class_names", "multi_label", "data", "training")
            config = {name: config[name] for name in names}
            config |= {"feature_sets": [], "num_steps": [], "chunk_frames": None}
        (tmp_path / "config.json").write_text(json.dumps({**config, **(changes or {})}))
        assert_one_sentence(tfvlad("show", tmp_path), sentence)

    def test_unknown_word(self, data, run, tmp_path):
        video = data / "test" / "red" / "test0.mp4"
        options = ("--what", "track", "--word", 4, "--output", tmp_path)
        result = tfvlad("show", run, video, *options)
        assert result.exit_code == 1
        assert result.errors.splitlines()[-1] == (
            "tfvlad: A word must be a number from 0 to 3. Received: 4."
        )

    def test_stage_1_of_the_other_stack(self, data, run, monkeypatch, tmp_path):
        model = load_model(run)

        def fail(path):
            raise TypeError("its parent module cannot be imported")

        monkeypatch.setattr("tfvlad.cli.run_folder.load_model", lambda folder: model)
        monkeypatch.setattr("keras.models.load_model", fail)
        video = data / "test" / "red" / "test0.mp4"
        result = tfvlad("show", run, video, "--what", "attention", "--output", tmp_path)
        assert_one_sentence(result, "stage1.keras' was written by another version of Keras")


def test_spread():
    assert spread(10, 4) == [0, 3, 6, 9]
    assert spread(3, 8) == [0, 1, 2]
    assert spread(1, 8) == [0]


def test_flow_is_shown_as_speed():
    from tfvlad.cli.pictures import _visible

    clip = np.full((2, 3, 4, 4), 127.5, "float32")
    clip[0, 1, 2] = [127.5 + 30, 127.5 - 40, 127.5 + 30, 127.5 + 40]
    clip[1, 0, 0, 0] += 50
    shown = _visible(clip)
    assert shown.shape == (2, 3, 4, 3)
    assert shown.dtype == np.uint8
    assert (shown[0, 1, 2].tolist(), shown[1, 0, 0].tolist()) == ([255] * 3, [127] * 3)
    assert np.count_nonzero(shown) == 6


def test_choose_takes_what_there_is(run):
    model = load_model(run)
    assert choose(model, (), 3) == ["attention", "words", "track"]
    assert choose(model, ("track",), 1) == ["track"]
