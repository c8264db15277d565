"""Pictures of small runs."""

import contextlib
from unittest import mock

import keras
import numpy as np
import pytest
from matplotlib.figure import Figure

from pipelines.lists.annotations import read_folder
from pipelines.video.info import BrokenVideoError
from tests.tfvlad.runs.run_folders import make_run
from tests.tfvlad_cli.commands import write_broken, write_parts
from tfvlad import visualization
from tfvlad.models import intermediate_outputs
from tfvlad.runs import Pictures, Run
from tfvlad.runs.answers.pictures import choose, spread
from tfvlad.runs.config import FeatureRunConfig
from tfvlad.runs.data import write_lists

pytestmark = [pytest.mark.usefixtures("eagerly"), pytest.mark.current]

CLASSES = ["green", "red"]
CLIPS = [f"{name}/test{i}" for name in CLASSES for i in range(2)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_parts(tmp_path_factory.mktemp("videos"), num_train=0, num_test=2)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """TA-VLAD after two stages."""
    place = tmp_path_factory.mktemp("runs")
    for name in ("first", "last"):
        options = {"units": 4, "alpha": 20.0}
        make_run(place / name, "ta-vlad", options=options, class_names=[*CLASSES, "blue"])
    (place / "first" / "model.keras").rename(place / "last" / "stage1.keras")
    (place / "last" / "stage2.keras").touch()
    records = read_folder(str(data / "test")).records
    write_lists(place / "last" / "lists.csv", {"test": records}, CLASSES)
    return Run(place / "last")


@pytest.fixture(scope="module")
def average(tmp_path_factory):
    """Average pooling after one stage."""
    folder = tmp_path_factory.mktemp("runs") / "average"
    make_run(folder, "average-pooling")
    return Run(folder)


def drawn(pictures):
    """Draw them all: what was given to each function that draws."""
    calls = {}

    def recorded(name, function):
        def call(*arguments, **options):
            calls.setdefault(name, []).append((*arguments, options))
            return function(*arguments, **options)

        return call

    functions = {
        name: getattr(visualization, name)
        for name in visualization.__all__
        if name.endswith("_figure")
    }
    # t-SNE itself takes long.
    functions["embed"] = lambda vectors: vectors[:, :2]
    with contextlib.ExitStack() as stack:
        for name, function in functions.items():
            patched = recorded(name, function)
            stack.enter_context(mock.patch.object(visualization, name, patched))
        found = pictures()
        assert all(isinstance(figure, Figure) for figure in found.values())
    return found, calls


@pytest.fixture(scope="module")
def everything(run):
    return drawn(run.show)


@pytest.fixture(scope="module")
def outputs(run):
    """The model's own outputs for the frames that were drawn on."""
    model = intermediate_outputs(run.model)
    return lambda frames: {
        name: value[0] for name, value in model.predict_on_batch(frames[np.newaxis]).items()
    }


class TestTestList:
    def test_names(self, everything):
        assert list(everything[0]) == [
            *(f"{clip}/{name}" for clip in CLIPS for name in ("attention", "words", "track")),
            *("words", "tsne_features", "tsne_descriptors"),
        ]
        assert everything[0].broken == ()

    def test_attention_before_and_after_stage_2(self, run, everything, outputs):
        first = intermediate_outputs(
            keras.models.load_model(run.folder / "stage1.keras"), ["attention"]
        )
        calls = everything[1]["attention_figure"]
        assert len(calls) == 4
        for frames, maps, _ in calls:
            assert frames.shape == (4, 32, 32, 3)
            before = first.predict_on_batch(frames[np.newaxis])["attention"][0]
            np.testing.assert_allclose(maps["after stage 1"], before, atol=1e-5)
            after = outputs(frames)["attention"]
            np.testing.assert_allclose(maps["after stage 2"], after, atol=1e-5)
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
        assert clips.shape == (4, 4, 32, 32, 3)
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
        number = expected[0]["feature_map"][..., 0].size
        assert owners == [clip for clip in CLIPS for _ in range(number)]
        assert features.shape == (4 * number, expected[0]["feature_map"].shape[-1])

    def test_some_of_the_videos(self, run):
        found, calls = drawn(lambda: run.show(what="track", word=2, num_videos=2))
        assert list(found) == ["green/test0/track", "red/test1/track"]
        assert [word for _, _, word, _ in calls["word_track_figure"]] == [2, 2]


class TestVideos:
    def test_named_and_broken(self, data, run, tmp_path):
        good = [data / "test" / name / "test0.mp4" for name in ("red", "green")]
        broken = write_broken(tmp_path / "half.mp4", "truncated", good[0])
        found, calls = drawn(lambda: run.show([*good, str(broken)], what=["attention"]))
        names = ["red/test0", "green/test0"]
        assert list(found) == [f"{name}/attention" for name in names]
        ((path, reason),) = [(video.path, video.reason) for video in found.broken]
        assert path == str(broken)
        assert reason
        # The classes are the predicted ones.
        model = run.model
        for name, (frames, _, options) in zip(names, calls["attention_figure"], strict=True):
            top = model.predict_on_batch(frames[np.newaxis]).argmax()
            assert options["title"] == f"{name}: {[*CLASSES, 'blue'][top]}"

    def test_attention_of_one(self, data, run):
        video = data / "test" / "red" / "test0.mp4"
        figure = run.attention(video)
        assert isinstance(figure, Figure)
        labels = [axis.get_ylabel() for axis in figure.axes]
        assert "after stage 1" in labels
        assert "after stage 2" in labels

    def test_none_can_be_read(self, data, run, tmp_path):
        video = data / "test" / "red" / "test0.mp4"
        broken = write_broken(tmp_path / "text.mp4", "text", video)
        with pytest.raises(BrokenVideoError, match=rf"No video can be decoded: {broken} \("):
            run.attention(broken)


class TestErrors:
    @pytest.fixture(autouse=True)
    def a_video(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "a.mp4").touch()

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ({"what": "attention"}, "'average_pooling' has no spatial attention: a TA-VLAD"),
            ({"what": "words"}, "'average_pooling' has no action words: they belong to a model"),
            ({"what": ["track"]}, "'average_pooling' has no action words"),
            ({}, "has no spatial attention"),
            ({"what": "embedding"}, "An embedding needs 4 or more videos. Received: 1."),
            ({"what": ["heat", "track"]}, "`what` must be among attention, .* Received: heat."),
            ({"num_videos": 3}, "`num_videos` has no effect on videos that are named. Received:"),
        ],
    )
    def test_what_the_model_has_not(self, average, options, sentence):
        with pytest.raises(ValueError, match=sentence):
            average.show(["a.mp4"], **options)

    def test_number_of_videos(self, average):
        sentence = "`num_videos` must be a positive integer. Received: num_videos=0."
        with pytest.raises(ValueError, match=sentence):
            average.show(num_videos=0)

    def test_a_video_that_does_not_exist(self, average):
        with pytest.raises(ValueError, match=r"The video does not exist: none\.mp4\."):
            average.show(["a.mp4", "none.mp4"])

    def test_words(self, run):
        sentence = "`word` must be a number from 0 to 3. Received: word=4."
        with pytest.raises(ValueError, match=sentence):
            run.show(["a.mp4"], word=4)
        with pytest.raises(ValueError, match="`word` has no effect without 'track' among `what`"):
            run.show(["a.mp4"], what="attention", word=1)

    def test_runs_that_are_not_drawn(self, tmp_path):
        make_run(tmp_path / "both", "average-pooling", streams=["rgb", "flow"])
        with pytest.raises(ValueError, match=r"is a run of two streams. Give a run of a single"):
            Run(tmp_path / "both").show("a.mp4")
        run = Run(tmp_path / "both")
        run.config = mock.Mock(FeatureRunConfig)
        with pytest.raises(ValueError, match="is a run on features, without frames to draw on"):
            run.show("a.mp4")

    def test_stage_1_of_the_other_stack(self, run, monkeypatch):
        def fail(path):
            raise TypeError("its parent module cannot be imported")

        assert run.model
        monkeypatch.setattr("keras.models.load_model", fail)
        with pytest.raises(ValueError, match=r"stage1.keras' was written by another version of"):
            run.attention("a.mp4")


class TestPictures:
    def test_is_drawn_when_it_is_asked_for(self):
        calls = []
        drawings = {name: lambda name=name: calls.append(name) or Figure() for name in ("a", "b")}
        pictures = Pictures(drawings)
        assert (len(pictures), list(pictures), calls) == (2, ["a", "b"], [])
        assert isinstance(pictures["b"], Figure)
        assert calls == ["b"]
        with pytest.raises(KeyError):
            pictures["c"]

    def test_save(self, tmp_path):
        pictures = Pictures({"kick/a/words": Figure, "words": Figure})
        written = pictures.save(tmp_path / "new")
        assert written == [tmp_path / "new" / "kick/a/words.png", tmp_path / "new" / "words.png"]
        for path in written:
            assert path.read_bytes().startswith(b"\x89PNG")
        (tmp_path / "new" / "mine.txt").touch()
        assert pictures.save(str(tmp_path / "new")) == written

    def test_repr(self, run):
        assert repr(Pictures({"a/track": Figure, "words": Figure})) == "<Pictures a/track, words>"
        broken = [mock.sentinel.broken]
        assert repr(Pictures({"words": Figure}, broken)) == "<Pictures words, 1 broken videos>"


def test_spread():
    assert spread(10, 4) == [0, 3, 6, 9]
    assert spread(3, 8) == [0, 1, 2]
    assert spread(1, 8) == [0]


def test_choose_takes_what_there_is(run):
    model = run.model
    assert choose(model, None, 3) == ("attention", "words", "track")
    assert choose(model, "track", 1) == ("track",)
