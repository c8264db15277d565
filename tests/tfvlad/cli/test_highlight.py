"""From videos to highlights, with a run on features and with one on videos."""

import json
import re
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from pipelines.annotations import VideoRecord
from pipelines.augmentation import fixed_crops
from pipelines.clip_sampling import dense_windows, uniform_indices
from pipelines.decoding import check_video, read_frames
from pipelines.encoding import join_videos
from pipelines.features.clips import FeatureClipSource
from pipelines.streaming import WindowStream
from tests.tfvlad.cli.commands import assert_one_sentence, tfvlad, write_broken, write_video
from tfvlad.cli import highlight_run
from tfvlad.cli.highlight import clock_time
from tfvlad.cli.highlight_files import write_clip
from tfvlad.cli.highlight_run import ChunkInput, ChunkModel, ChunkPredictions, load_chunk_model
from tfvlad.cli.highlight_scores import VideoHighlights, confidences, find_highlights
from tfvlad.cli.run_folder import load_model
from tfvlad.evaluation import Highlight
from tfvlad.models import frame_attributions, intermediate_outputs

pytestmark = pytest.mark.usefixtures("eagerly")

NETWORK = ("--network", "resnet18", "--weights", "none", "--image-size", 64)
ATTENTION = (
    *("--model", "attention-lstm", "--steps", 3, "--attended-steps", 4, "--units", 4),
    *("--matching-units", 4, "--max-epochs", 1, "--batch-size", 4),
)
CLIP = (
    *("--model", "average-pooling", "--backbone", "resnet18", "--weights", "none"),
    *("--image-size", 64, "--frames", 3, "--epochs", 1, 0, "--batch-size", 4),
)
FILES = {"highlights.json", "extremes.png", "frames.png", "timeline.png"}


def train(data, run, *options):
    # What it switches on cannot be switched off again: it stays out of this process.
    with mock.patch.object(tf.config.experimental, "enable_op_determinism"):
        result = tfvlad("train", data, run, *options)
    assert result.exit_code == 0, result.errors
    return run


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Clips of 8 frames."""
    folder = tmp_path_factory.mktemp("videos")
    for color, name in enumerate(("green", "red")):
        for i in range(5):
            write_video(folder / name / f"{i}.mp4", 1 - color, num_frames=8, seed=i)
    return folder


@pytest.fixture(scope="module")
def sets(videos, tmp_path_factory):
    """Feature sets of other layers and frame steps."""
    folder = tmp_path_factory.mktemp("features")
    for name, layer, step in (("pooled", "pooled", 1), ("scores", "scores", 2)):
        options = ("--layer", layer, "--frame-step", step, "--no-flipped")
        result = tfvlad("features", videos, folder / name, *NETWORK, *options)
        assert result.exit_code == 0, result.errors
    return folder / "pooled", folder / "scores"


@pytest.fixture(scope="module")
def run(sets, tmp_path_factory):
    """An attention LSTM on chunks of whole clips, two feature sets."""
    folder = tmp_path_factory.mktemp("feature-run") / "run"
    return train(sets[0], folder, *ATTENTION, "--attended", sets[1], "--sampling", "uniform")


@pytest.fixture(scope="module")
def clip_run(videos, tmp_path_factory):
    return train(videos, tmp_path_factory.mktemp("clip-run") / "run", *CLIP)


@pytest.fixture(scope="module")
def long_video(videos, tmp_path_factory):
    """27 frames at 10 a second: chunks of 8 frames begin at 0, 4, ... 16 and 19."""
    parts = [videos / name / "0.mp4" for name in ("green", "red", "green")]
    joined = tmp_path_factory.mktemp("long") / "long.mp4"
    join_videos(
        [*parts, write_video(joined.parent / "end.mp4", 2, num_frames=3)],
        joined,
        frames_per_second=10,
    )
    return joined


@pytest.fixture(scope="module")
def highlighted(run, long_video, tmp_path_factory):
    """A long video, and one of a single frame."""
    folder = tmp_path_factory.mktemp("highlights")
    short = write_video(folder / "short.mp4", 0, num_frames=1)
    options = ("--output", folder, "--threshold", 0.5, "--clip", "--max-clip-seconds", 0.9)
    result = tfvlad("highlight", run, long_video, short, *options)
    assert result.exit_code == 0, result.errors
    return folder, result


def description(folder, name="long"):
    return json.loads((folder / name / "highlights.json").read_text())


class TestCommand:
    def test_writes_files(self, highlighted):
        found = {path.name for path in (highlighted[0] / "long").iterdir()}
        assert found == {*FILES, "highlight.mp4"}

    def test_prints_intervals(self, highlighted):
        folder, result = highlighted
        written = description(folder)
        name, percent = written["class"], f"{100 * written['probability']:.1f} %"
        lines = result.output.splitlines()
        assert lines[0].endswith(f"long.mp4: {name} {percent}, see {folder / 'long'}")
        count = len(written["intervals"])
        assert count > 0
        for line in lines[1 : 1 + count]:
            assert re.fullmatch(rf"  0:0\d\.\d - 0:0\d\.\d  {name}  x\d\.\d", line)
        assert lines[1 + count].endswith(f"see {folder / 'short'}")
        assert lines[2 + count :] == ["  no moment stands out; a lower --threshold shows more"]

    def test_describes_rows_and_intervals(self, highlighted):
        written = description(highlighted[0])
        assert written["duration_seconds"] == pytest.approx(2.7)
        assert written["chunk_seconds"] == pytest.approx(0.8)
        assert sum(row["probability"] for row in written["top_classes"]) == pytest.approx(1)
        assert written["top_classes"][0] == {
            name: written[name] for name in ("class", "probability")
        }
        rows = written["rows"]
        assert [row["frame"] for row in rows] == [*range(0, 28, 2)]
        # Every row stands for the time around it.
        middles = [(first + 1) / 10 for first in range(0, 26, 2)]
        assert [row["start_seconds"] for row in rows] == pytest.approx([0, *middles])
        for interval in written["intervals"]:
            assert 0 <= interval["start_seconds"] < interval["end_seconds"] <= 2.7

    def test_video_shorter_than_a_chunk(self, highlighted):
        written = description(highlighted[0], "short")
        assert [row["frame"] for row in written["rows"]] == [0]
        assert written["chunk_seconds"] == pytest.approx(0.1)
        assert written["intervals"] == []
        found = {path.name for path in (highlighted[0] / "short").iterdir()}
        assert found == FILES - {"extremes.png"}

    def test_cuts_a_clip(self, highlighted):
        info = check_video(str(highlighted[0] / "long" / "highlight.mp4"))
        assert 0.2 <= info.duration_seconds <= 1.0

    def test_class_and_broken_video(self, run, highlighted, long_video, tmp_path):
        broken = write_broken(tmp_path / "broken.mp4", "text", long_video)
        other = description(highlighted[0])["top_classes"][1]["class"]
        options = ("--output", tmp_path / "out", "--class", other, "--json")
        result = tfvlad("highlight", run, broken, long_video, *options)
        assert result.exit_code == 1
        assert f"tfvlad: {broken}: " in result.errors
        printed = json.loads(result.output)
        assert [video["path"] for video in printed["broken"]] == [str(broken)]
        (found,) = printed["highlights"].values()
        written = description(tmp_path / "out")
        assert found == {name: value for name, value in written.items() if name != "rows"}
        assert (found["video"], found["class"]) == (str(long_video), other)
        assert found["probability"] == found["top_classes"][1]["probability"]
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["long"]

    def test_models_without_weights(self, run, long_video, tmp_path):
        config = json.loads((run / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**config, "model": "plain-lstm"}))
        result = tfvlad("highlight", tmp_path, long_video, "--output", tmp_path / "out")
        assert_one_sentence(result, "is a run of plain-lstm, which gives no weights to frames")

    def test_unknown_class(self, run, long_video, tmp_path):
        options = ("--output", tmp_path, "--class", "blue")
        result = tfvlad("highlight", run, long_video, *options)
        assert_one_sentence(result, "--class must be one of green, red. Received: blue.")

    def test_no_run(self, long_video, tmp_path):
        result = tfvlad("highlight", tmp_path, long_video, "--output", tmp_path / "out")
        assert_one_sentence(result, "is not a run folder")

    def test_videos_of_the_same_name(self, run, videos, tmp_path):
        pair = [videos / name / "0.mp4" for name in ("green", "red")]
        result = tfvlad("highlight", run, *pair, "--output", tmp_path)
        assert_one_sentence(result, f"would both write to {tmp_path / '0'}.")

    def test_run_of_an_earlier_version(self, run, long_video, tmp_path):
        old = tmp_path / "old"
        old.mkdir()
        for name in ("config.json", "model.keras", "model.weights.h5"):
            (old / name).write_bytes((run / name).read_bytes())
        result = tfvlad("highlight", old, long_video, "--output", tmp_path / "out")
        assert_one_sentence(result, "does not say how long its training clips are")


class TestFeatureRun:
    def test_chunks_are_those_of_training(self, run, videos, sets):
        """A video as long as a chunk is the clip that `FeatureClipSource` reads."""
        model = load_chunk_model(run)
        assert model.chunk_frames == 8
        record = VideoRecord(str(sets[0] / "red" / "0.mp4.h5"), (0,))
        folders = [str(folder) for folder in sets]
        source = FeatureClipSource(
            [record], model.class_names, folders, num_steps=(3, 4), chunk_frames=None
        )
        (inputs, _), *_ = source.dataset()
        outputs = intermediate_outputs(load_model(run), ["attention", "logits"])(list(inputs))
        found = model.predictions(str(videos / "red" / "0.mp4"), 8)
        np.testing.assert_allclose(
            found.weights[..., 0], outputs["attention"].numpy().mean(axis=1), atol=1e-5
        )
        np.testing.assert_allclose(found.probabilities, np.exp(outputs["logits"]), atol=1e-5)
        assert found.frames.tolist() == [[0, 2, 4, 6]]

    def test_video_shorter_than_a_chunk_starts_again(self, run, videos, sets):
        """As `FeatureClipSource` has it where the model was trained on chunks."""
        model = replace(load_chunk_model(run), chunk_frames=20, repeats=True)
        record = VideoRecord(str(sets[0] / "red" / "0.mp4.h5"), (0,))
        folders = [str(folder) for folder in sets]
        source = FeatureClipSource(
            [record], model.class_names, folders, num_steps=(3, 4), chunk_frames=20
        )
        (inputs, _), *_ = source.dataset()
        outputs = intermediate_outputs(load_model(run), ["logits"])(list(inputs))
        found = model.predictions(str(videos / "red" / "0.mp4"), 8)
        np.testing.assert_allclose(found.probabilities, np.exp(outputs["logits"]), atol=1e-5)
        assert found.frames.max() < 8

    def test_chunks_of_a_long_video(self, run, long_video):
        model = load_chunk_model(run)
        info = check_video(str(long_video))
        crops = fixed_crops(73, 73, 64)
        frames = read_frames(str(long_video), range(27), crops=crops, image_size=64, info=info)[0]
        starts = np.array([0, 4, 8, 12, 16, 19])[:, np.newaxis]
        # Of the frames 1, 3, 5 and 7 of a chunk, the even one, or the one before.
        attended = (starts + np.array([1, 3, 5, 7])) // 2 * 2
        inputs = [
            model.inputs[0].network(frames)[starts + np.array([1, 4, 6])],
            model.inputs[1].network(frames)[attended],
        ]
        outputs = intermediate_outputs(load_model(run), ["attention", "logits"])(inputs)
        found = model.predictions(str(long_video), 27)
        np.testing.assert_allclose(
            found.weights[..., 0], outputs["attention"].numpy().mean(axis=1), atol=1e-5
        )
        np.testing.assert_allclose(found.probabilities, np.exp(outputs["logits"]), atol=1e-5)
        np.testing.assert_array_equal(found.frames, attended)


class TestClipRun:
    def test_attributions_of_every_chunk(self, clip_run, long_video):
        model = load_chunk_model(clip_run)
        assert model.chunk_frames == 8
        found = model.predictions(str(long_video), 27)
        info = check_video(str(long_video))
        wanted = [[s + offset for offset in (1, 4, 6)] for s in (0, 4, 8, 12, 16, 19)]
        assert found.frames.tolist() == wanted
        options = {"crops": fixed_crops(73, 73, 64), "image_size": 64, "info": info}
        clips = np.stack([read_frames(str(long_video), chunk, **options)[0] for chunk in wanted])
        network = load_model(clip_run)
        for c in range(2):
            expected, logits = frame_attributions(network, clips, c)
            np.testing.assert_allclose(found.weights[..., c], expected, atol=1e-3)
        np.testing.assert_allclose(found.probabilities, tf.nn.softmax(logits), atol=1e-4)

    def test_highlights(self, clip_run, long_video, tmp_path):
        result = tfvlad("highlight", clip_run, long_video, "--output", tmp_path)
        assert result.exit_code == 0, result.errors
        assert {path.name for path in (tmp_path / "long").iterdir()} == FILES


def means(windows):
    """A network: the mean colours of a frame, or of a window's frames."""
    return windows.mean(axis=(-3, -2)).reshape(len(windows), -1).astype("float32")


class TestChunkModel:
    def test_one_pass_where_all_inputs_have_the_same_features(self, long_video, monkeypatch):
        streams = []

        def stream(*arguments, **options):
            streams.append(options["window_numbers"])
            return WindowStream(*arguments, **options)

        monkeypatch.setattr(highlight_run, "WindowStream", stream)
        one = ChunkInput(means, 3, 1, 1, (32, 32), 36)
        inputs = [one, replace(one, num_steps=4)]
        batches = []

        def predict(steps):
            batches.append([one.shape for one in steps])
            return steps[1].mean(axis=-1, keepdims=True), steps[0][:, 0]

        model = ChunkModel(["0", "1", "2"], True, 6, False, inputs, predict, batch_size=3)
        counts = []
        found = model.predictions(str(long_video), 27, counts.append)
        assert counts == [3, 3, 2]
        assert batches[-1] == [(2, 3, 3), (2, 4, 3)]
        chunks = dense_windows(27, 6, 3)
        wanted = [chunks[:, uniform_indices(6, steps)] for steps in (3, 4)]
        np.testing.assert_array_equal(found.frames, wanted[1])
        assert len(streams) == 1
        assert streams[0].tolist() == sorted({*wanted[0].ravel(), *wanted[1].ravel()})
        images = read_frames(
            str(long_video), range(27), crops=fixed_crops(36, 36, 32), image_size=32
        )
        expected = means(images[0])[found.frames].mean(axis=-1)
        np.testing.assert_allclose(found.weights[..., 0], expected, rtol=1e-5)


class TestChunkInput:
    def test_keeps_few_rows(self, long_video):
        """Each wanted window is computed once, and no more are kept than a chunk and a batch."""
        computed = []

        def network(frames):
            computed.append(len(frames))
            return means(frames)

        one = ChunkInput(network, 4, 1, 1, (32, 32), 36)
        rows = one.rows(dense_windows(27, 8, 4), 27)
        reader = one.read(str(long_video), rows)
        for chunk in rows:
            assert next(reader).shape == (4, 3)
            assert len(reader.gi_frame.f_locals["recent"]) <= 16 + len(chunk)
        assert sum(computed) == len(np.unique(rows))

    def test_windows_of_frames(self, long_video):
        one = ChunkInput(lambda windows: means(windows)[:, :3], 2, 4, 3, (32, 32), 36)
        rows = one.rows(np.arange(16)[np.newaxis], 27)
        assert rows.tolist() == [[1, 3]]
        (steps,) = one.read(str(long_video), rows)
        images = read_frames(str(long_video), [4, 12], crops=fixed_crops(36, 36, 32), image_size=32)
        np.testing.assert_allclose(steps, means(images[0]), rtol=1e-5)


def predictions(frames, weights, probabilities):
    return ChunkPredictions(np.array(frames), np.array(weights), np.array(probabilities))


def example_model(num_classes=2, multi_label=False, chunk_frames=4):
    names = [str(i) for i in range(num_classes)]
    return ChunkModel(names, multi_label, chunk_frames, False, [], None, 1)


class TestFindHighlights:
    def test_scores_by_hand(self, long_video):
        info = check_video(str(long_video))
        found = find_highlights(
            predictions(
                [[0, 2], [2, 4]], [[[1.0], [3.0]], [[2.0], [2.0]]], [[0.75, 0.25], [1.0, 0.0]]
            ),
            info,
            example_model(),
        )
        assert found.class_index == 0
        np.testing.assert_allclose(found.probabilities, [0.875, 0.125])
        assert found.frames.tolist() == [0, 2, 4]
        np.testing.assert_allclose(found.starts, [0, 0.1, 0.3])
        np.testing.assert_allclose(found.attention, [0.5, 1.25, 1])
        np.testing.assert_allclose(found.chunk_probabilities, [0.75, 0.875, 1])
        # Relative attention times 0.5 and 1, the probabilities above chance.
        np.testing.assert_allclose(found.scores, [0.25, (0.75 + 1) / 2, 1])

    def test_weights_of_the_class(self, long_video):
        weights = [[[1.0, 0.0], [-1.0, 2.0]]]
        found = find_highlights(
            predictions([[0, 2]], weights, [[0.1, 0.9]]),
            check_video(str(long_video)),
            example_model(),
        )
        assert found.class_index == 1
        np.testing.assert_allclose(found.attention, [0, 2])

    @pytest.mark.parametrize(
        ("given", "num_classes", "multi_label", "expected"),
        [
            ([0.25, 0.5, 1.0], 2, False, [0, 0, 1]),
            ([0.1, 0.4], 4, False, [0, 0.2]),
            ([0.1, 0.2], 4, False, [0.1, 0.2]),
            ([0.1, 0.9], 4, True, [0.1, 0.9]),
            ([1.0], 1, False, [1.0]),
        ],
    )
    def test_confidences(self, given, num_classes, multi_label, expected):
        found = confidences(np.array(given), num_classes, multi_label)
        np.testing.assert_allclose(found, expected)


class TestWriteClip:
    def test_best_come_first_and_the_last_is_shortened_about_its_peak(self, long_video, tmp_path):
        starts = np.arange(27) / 10
        scores = np.ones(27)
        scores[20] = 5
        found = VideoHighlights(
            *(0, np.ones(1), 0.8, np.arange(27), starts, scores, scores, scores),
            [Highlight(0.0, 0.5, 3.0), Highlight(1.0, 1.2, 1.5), Highlight(1.5, 2.5, 2.0)],
        )
        chosen = write_clip(tmp_path / "clip.mp4", found, str(long_video), 0.9)
        np.testing.assert_allclose(chosen, [(0, 0.5), (1.8, 2.2)])
        assert check_video(str(tmp_path / "clip.mp4")).num_frames == 9


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00.0"), (75.25, "1:15.2"), (59.99, "0:59.9"), (3661, "1:01:01.0")]
)
def test_clock_time(seconds, shown):
    assert clock_time(seconds) == shown
