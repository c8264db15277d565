"""From arrays of any program to models that answer for arrays."""

import json
import shutil
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

import tfvlad
from pipelines import import_features
from pipelines.features.clips import FeatureClipSource
from pipelines.lists.records import VideoRecord
from pipelines.video.index import BrokenVideo
from pipelines.video.info import BrokenVideoError
from tfvlad import studies
from tfvlad.evaluation import class_probabilities
from tfvlad.runs import Run
from tfvlad.runs.data import holds_arrays
from tfvlad.studies import repetition
from tfvlad.training import predict_on_features

pytestmark = pytest.mark.usefixtures("eagerly")

SMALL = {"num_steps": 3, "chunk_frames": 12, "units": 4, "max_epochs": 2, "batch_size": 4}
ATTENDING = {**SMALL, "num_attended": 3, "matching_units": 4}
FRAMES = {"frame_step": 4, "frames_per_second": 8}  # two rows a second


def clip(color, num_rows, seed, num_channels=5):
    """Noise, and in its middle third the channel of the class."""
    rows = np.random.default_rng([seed, color]).normal(0, 0.1, (num_rows, num_channels))
    rows[num_rows // 3 : 2 * num_rows // 3, color] += 3
    return rows.astype("float32")


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arrays")
    for color, name in enumerate(("green", "red")):
        (folder / name).mkdir()
        for i in range(6):
            np.save(folder / name / f"p{i}_{name}_s1.npy", clip(color, 3 + i, i))
    return folder


@pytest.fixture(scope="module")
def features(arrays, tmp_path_factory):
    place = tmp_path_factory.mktemp("sets")
    return import_features(arrays, place / "timed", **FRAMES, progress=False).folder


def train(data, folder, **options):
    # What it switches on cannot be switched off again: it stays out of this process.
    with mock.patch.object(tf.config.experimental, "enable_op_determinism"):
        return tfvlad.train(data, folder, **options)


@pytest.fixture(scope="module")
def run(features, tmp_path_factory):
    return train(features, tmp_path_factory.mktemp("runs") / "lstm", **ATTENDING)


@pytest.fixture
def match(tmp_path):
    """20 rows, ten seconds; red from row 6 to 13."""
    np.save(tmp_path / "match.npy", clip(1, 20, 9))
    return str(tmp_path / "match.npy")


def test_players_stay_in_one_list(run):
    rows = [line.split(",") for line in (run.folder / "lists.csv").read_text().splitlines()[1:]]
    parts = {}
    for path, *_, part in rows:
        parts.setdefault(path.split("/")[-1].split("_")[0], set()).add(part)
    assert len(parts) == 6
    assert all(len(found) == 1 for found in parts.values())
    assert set.union(*parts.values()) == {"train", "validation", "test"}


def changed(run, data=None, **changes):
    """The run as of a set that was imported otherwise, or two of them."""
    found = Run(run.folder)
    sets = tuple({**one, **changes} for one in run.config.feature_sets)
    found.config = replace(run.config, feature_sets=sets, data=data or run.config.data)
    return found


def test_a_baseline(features, match, tmp_path):
    run = train(features, tmp_path / "run", model="plain-lstm", **SMALL)
    assert run.predict(match)[0].probabilities.sum() == pytest.approx(1)
    with pytest.raises(ValueError, match="which gives no weights to frames"):
        run.highlight(match)


class TestDirectly:
    """A folder of arrays is what a training may be given too."""

    def test_one_call(self, arrays, match, tmp_path):
        settings = {**ATTENDING, "chunk_frames": 48, "max_epochs": 1}
        run = train(arrays, tmp_path / "run", **settings)
        assert run.config.data.data == str(tmp_path / "run" / "features")
        assert run.result["stages"][-1]["num_clips"] > 0
        assert run.highlight(match).unit == "features"
        stamp = (run.folder / "model.keras").stat().st_mtime_ns
        again = train(arrays, tmp_path / "run", **settings)
        assert (again.folder / "model.keras").stat().st_mtime_ns == stamp
        single = studies.repeat(arrays, tmp_path / "run", **settings)
        assert single[0].result == run.result

    def test_several_seeds_share_the_set(self, arrays, tmp_path):
        with (
            mock.patch.object(repetition, "train_in") as train_in,
            mock.patch.object(repetition, "check_trainings"),
            mock.patch.object(repetition, "Run"),
        ):
            for _ in range(2):
                studies.repeat(arrays, tmp_path / "runs", seeds=(0, 1), **ATTENDING)
        found = {call.args[0].data for call in train_in.call_args_list}
        assert found == {str(tmp_path / "runs" / "features")}

    def test_many_broken_arrays(self, arrays, tmp_path):
        folder = shutil.copytree(arrays, tmp_path / "arrays")
        for number in range(11):
            (folder / f"broken{number}.npy").write_bytes(b"no array")
        message = (
            r"11 of \d+ arrays are broken, more than a tenth: see the warning\. Mend or remove"
        )
        with pytest.raises(ValueError, match=message):
            train(folder, tmp_path / "run", **ATTENDING)

    def test_what_is_refused(self, arrays, tmp_path):
        plain = {"model": "plain-lstm"}
        with pytest.raises(ValueError, match="holds extracted features, and ta-vlad learns from"):
            train(arrays, tmp_path / "run", model="ta-vlad")
        with pytest.raises(ValueError, match="`units` must be"):
            train(arrays, tmp_path / "run", units=0)
        assert not (tmp_path / "run").exists()
        (tmp_path / "notes.txt").touch()
        for call in (train, studies.repeat):
            with pytest.raises(ValueError, match="not empty and does not hold a run"):
                call(arrays, tmp_path, **ATTENDING)
        with pytest.raises(ValueError, match=r"holds arrays of features\. Make a feature set of"):
            studies.ablation(arrays, tmp_path / "study", [studies.Variant("plain", plain)])

    def test_videos_are_no_arrays(self, tmp_path):
        (tmp_path / "green").mkdir()
        np.save(tmp_path / "green" / "a.npy", clip(0, 3, 0))
        assert holds_arrays(tmp_path)
        assert not holds_arrays(tmp_path / "green" / "a.npy")
        (tmp_path / "green" / "a.mp4").touch()
        assert not holds_arrays(tmp_path)


class TestPredict:
    def test_equals_the_test(self, run, arrays, features):
        path = arrays / "red" / "p4_red_s1.npy"
        (found,) = run.predict(path)
        record = VideoRecord(str(features / "red" / "p4_red_s1.h5"), (1,))
        source = FeatureClipSource(
            [record], run.class_names, [features] * 2, num_steps=(3, 3), chunk_frames=12
        )
        scores = predict_on_features(run.model, source, num_chunks=40, flipped=False)
        np.testing.assert_allclose(
            found.probabilities, class_probabilities(scores)[0], rtol=1e-5, atol=1e-6
        )
        assert found.path == str(path)

    def test_broken_arrays(self, run, match, tmp_path):
        np.save(tmp_path / "other.npy", np.ones((4, 3)))
        (tmp_path / "clip.mp4").touch()
        found = run.predict([tmp_path / "other.npy", match, tmp_path / "clip.mp4"])
        assert [one.path for one in found] == [match]
        first, second = found.broken
        assert first == BrokenVideo(
            str(tmp_path / "other.npy"), "its rows have 3 channels, and the model takes 5"
        )
        assert second.reason.startswith("it is no file of arrays (")
        assert len(run.predict(tmp_path / "other.npy")) == 0


class TestEvaluate:
    def test_another_set(self, run, arrays, tmp_path):
        folder = import_features(arrays, tmp_path / "set", frame_step=4, progress=False).folder
        found = run.evaluate(folder, output=tmp_path / "evaluation")
        assert found.report.metrics["num_clips"] == 12

    @pytest.mark.parametrize(
        ("num_channels", "frame_step", "message"),
        [(5, 8, "frame_step is 8, and 4 there"), (6, 4, "num_channels is 6, and 5 there")],
    )
    def test_other_features(self, num_channels, frame_step, message, run, tmp_path):
        for color, name in enumerate(("green", "red")):
            (tmp_path / "arrays" / name).mkdir(parents=True)
            np.save(tmp_path / "arrays" / name / "a.npy", clip(color, 9, 0, num_channels))
        options = {"frame_step": frame_step, "progress": False}
        folder = import_features(tmp_path / "arrays", tmp_path / "set", **options).folder
        with pytest.raises(ValueError, match=message):
            run.evaluate(folder, output=tmp_path / "evaluation")


class TestHighlight:
    def test_seconds(self, run, match, tmp_path):
        found = run.highlight(match, class_name="red", threshold=1.0)
        assert (found.of_array, found.unit) == (True, "seconds")
        assert found.info.duration_seconds == 10
        assert found.chunk_seconds == 1.5
        # Every row was looked at; it lasts half a second.
        assert found.frames.tolist() == list(range(2, 80, 4))
        np.testing.assert_allclose(found.starts, np.arange(20) / 2)
        for start, end, _ in found.moments:
            assert 0 <= start < end <= 10
        described = json.loads(json.dumps(found.to_dict()))
        assert described["duration_seconds"] == 10
        written = found.save(tmp_path / "highlights")
        assert [path.name for path in written] == ["highlights.json", "timeline.png"]
        assert json.loads(written[0].read_text()) == described

    def test_scores_are_the_attention(self, run, match):
        found = run.highlight(match, class_name="red")
        seen = tfvlad.models.intermediate_outputs(run.model, ["attention"])
        rows = np.load(match)[None, :3]  # the first chunk, and half of it of the second
        weights = seen([rows, rows])["attention"].numpy().mean(axis=1)[0]
        np.testing.assert_allclose(found.attention[0], weights[0] / weights.mean(), rtol=1e-4)

    def test_positions_where_no_times_are_known(self, run, match):
        untimed = changed(run, frames_per_second=None)
        found = untimed.highlight(match, class_name="red", threshold=0)
        assert found.unit == "features"
        np.testing.assert_allclose(found.starts, np.arange(20))
        described = found.to_dict()
        assert described["duration_features"] == 20
        assert described["chunk_features"] == 3
        assert [list(row) for row in described["intervals"]] == [
            ["start_features", "end_features", "score"]
        ]
        assert "start_features" in described["rows"][0]
        assert "seconds" not in json.dumps(described)
        assert " features x" in repr(found)
        assert found.timeline().axes[0].get_xlabel() == "features"

    def test_several(self, run, match, tmp_path):
        (tmp_path / "bad.npy").write_bytes(b"text")
        paths = [match, tmp_path / "bad.npy"]
        (_, broken), (folder, found) = run.highlight_all(paths, tmp_path / "out", threshold=0)
        assert broken.path == str(tmp_path / "bad.npy")
        assert broken.reason.startswith("it cannot be read (")
        assert (found.path, folder) == (match, tmp_path / "out" / "match")
        assert {path.name for path in folder.iterdir()} == {"highlights.json", "timeline.png"}
        with pytest.raises(ValueError, match="`clip` has no effect on arrays of features"):
            next(run.highlight_all(match, tmp_path / "out", clip=True))

    def test_what_needs_frames(self, run, match, tmp_path):
        found = run.highlight(match, threshold=0)
        for draw in (found.frames_figure, found.extremes, lambda: found.write_clip("a.mp4")):
            with pytest.raises(ValueError, match=r"match\.npy is an array of features: there are"):
                draw()
        with pytest.raises(BrokenVideoError, match=r"^a\.mp4: it is no file of arrays"):
            run.highlight("a.mp4")


def test_a_named_array(run, tmp_path):
    path = tmp_path / "match.npz"
    np.savez(path, rgb=clip(1, 20, 9), flow=np.zeros((6, 2)))
    (broken,) = run.predict(path).broken
    assert broken.reason.endswith("its arrays: flow, rgb")
    named = changed(run, layer="rgb")
    assert len(named.predict(path)) == 1
    assert named.highlight(path).info.num_frames == 80


def test_two_sets_of_arrays(run, features, arrays, match, tmp_path):
    other = import_features(arrays, tmp_path / "other", **FRAMES, progress=False).folder
    both = changed(run, data=replace(run.config.data, attended=str(other)))
    for ask in (both.predict, both.highlight):
        with pytest.raises(ValueError, match="The model takes two arrays of each clip, and one is"):
            ask(match)
    found = both.evaluate(features, attended=other, output=tmp_path / "evaluation")
    assert found.report.metrics["num_clips"] == 12


def test_what_needs_a_network(run):
    with pytest.raises(ValueError, match="was trained on imported arrays, and the network that"):
        _ = run.clip_model
