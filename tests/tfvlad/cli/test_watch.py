"""`tfvlad watch` on videos that play in real time."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace

import av
import numpy as np
import pytest
import tensorflow as tf

from pipelines.decoding import check_video, read_frames
from pipelines.streaming import WindowStream
from tests.tfvlad.cli.commands import assert_one_sentence, tfvlad
from tests.tfvlad.cli.commands import write_video as write_noise
from tfvlad import backbones, models
from tfvlad.cli.extraction import build_network, describe
from tfvlad.cli.run_folder import FeatureRunConfig, RunConfig
from tfvlad.cli.watch_view import Moment, annotated, open_view

pytestmark = pytest.mark.current

CLASSES = ["green", "red", "blue"]
SIZE, NUM_FRAMES, RATE = 32, 4, 10
COMMAND = (sys.executable, "-c", "from tfvlad.cli.main import main; main()")


def make_run(folder, name, *, sampling="uniform", clip_frames=10, **changes):
    """A run folder of random weights, as training leaves it."""
    backbone = backbones.small_cnn_backbone(backbones.small_cnn(5, image_size=SIZE))
    builder = getattr(models, name.replace("-", "_"))
    sizes = {"num_clusters": 4} if "vlad" in name else {}
    options = {**sizes, **changes.pop("options", {})}
    model = builder(backbone, len(CLASSES), num_frames=NUM_FRAMES, **options)
    kernel, bias = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([20 * kernel, bias])
    config = {
        "model": name,
        "model_options": options,
        "backbone": "small_cnn",
        "weights": None,
        "class_names": CLASSES,
        "multi_label": False,
        "num_frames": NUM_FRAMES,
        "image_size": SIZE,
        "sampling": sampling,
        "short_side": 40,
        "freed_block": "block4",
        "data": {},
        "training": {},
    }
    RunConfig(**{**config, **changes}).save(folder)
    model.save(folder / "model.keras")
    stages = {"stages": [{"top1": 0.5}]}
    result = stages if clip_frames is None else {**stages, "clip_frames": clip_frames}
    (folder / "result.json").write_text(json.dumps(result))
    return folder, model


@pytest.fixture(scope="module")
def action_vlad(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "action-vlad", "action-vlad")


@pytest.fixture(scope="module")
def ta_vlad(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "ta-vlad"
    return make_run(folder, "ta-vlad", options={"units": 8, "alpha": 20.0})


@pytest.fixture(scope="module")
def feature_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "attention-lstm"
    extractor = build_network("resnet18", "pooled", "none", SIZE)
    described = describe(extractor, "resnet18", "pooled", "none", 1)
    described |= {"flipped": False, "dtype": "float32", "format": "hdf5"}
    options = {"units": 4, "matching_units": 4}
    FeatureRunConfig(
        model="attention-lstm",
        model_options=options,
        class_names=CLASSES,
        multi_label=False,
        feature_sets=[described, described],
        num_steps=[NUM_FRAMES, NUM_FRAMES],
        chunk_frames=20,
        data={},
        training={},
    ).save(folder)
    channels = extractor.num_channels
    model = models.attention_lstm(
        3, channels, channels, num_steps=NUM_FRAMES, num_attended=NUM_FRAMES, **options
    )
    model.save(folder / "model.keras")
    return folder, models.end_to_end(model, extractor, extractor, num_frames=NUM_FRAMES)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """1.5 seconds at 10 frames a second."""
    path = tmp_path_factory.mktemp("videos") / "noise.mp4"
    return write_noise(path, 1, num_frames=15)


@pytest.fixture(scope="module")
def dawn(tmp_path_factory):
    """1.5 seconds that grow lighter: the frames' weights matter."""
    path = tmp_path_factory.mktemp("videos") / "dawn.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for i in range(15):
            image = np.random.default_rng(i).integers(0, 256, (64, 64, 3)) * (i + 1) / 15
            frame = av.VideoFrame.from_ndarray(image.astype("uint8"), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def lines(result):
    assert result.exit_code == 0, result.errors
    return [json.loads(line) for line in result.output.splitlines()]


def probabilities(scores):
    return tf.nn.softmax(scores).numpy()


def top(row):
    return [name for _, name in sorted(zip(-row, CLASSES, strict=True))]


def frames_of(video, short_side=40):
    stream = WindowStream(
        str(video), frame_step=1, image_size=SIZE, short_side=short_side, batch_windows=15
    )
    return next(stream).windows[:, 0].astype("float32")


def numbers(found):
    """Of the frames that were looked at: a busy machine drops some."""
    exact = RATE * np.array([line["seconds"] for line in found])
    np.testing.assert_allclose(exact, exact.round(), atol=1e-6)
    return exact.round().astype(int)


def assert_shown(line, expected):
    assert [one["class"] for one in line["top"]] == top(expected)
    found = [one["probability"] for one in line["top"]]
    np.testing.assert_allclose(found, sorted(expected, reverse=True), atol=2e-3)


def test_follows_a_video_in_real_time(ta_vlad, video):
    folder, model = ta_vlad
    start = time.monotonic()
    found = lines(tfvlad("watch", folder, video, "--json"))
    assert time.monotonic() - start > 1.4
    # The training clips are 10 frames of 25 a second, of which the model sees 4: 10 a second.
    seen = frames_of(video)[numbers(found)]
    assert len(seen) + found[-1]["num_dropped"] == 15
    whole = models.with_num_frames(model, len(seen))(seen[np.newaxis])
    assert_shown(found[-1], probabilities(whole)[0])


@pytest.mark.parametrize("pause", [0, 0.3])
def test_sums_over_time_fade(action_vlad, dawn, pause, monkeypatch):
    """By the second, however few frames a slow machine sees."""

    @contextmanager
    def slow_view(class_names, *, as_json):
        with open_view(class_names, as_json=as_json) as show:
            yield lambda moment: (show(moment), time.sleep(pause))

    monkeypatch.setattr("tfvlad.cli.watch_view.open_view", slow_view)
    folder, model = action_vlad
    options = ("--frames-per-second", 5, "--memory-seconds", 0.4, "--json")
    found = lines(tfvlad("watch", folder, dawn, *options))
    seen = numbers(found)
    assert set(seen) <= set(range(0, 15, 2))
    assert not pause or 3 <= len(seen) <= 6
    maps = model.get_layer("backbone")(frames_of(dawn)[np.newaxis, seen])
    ages = (seen[-1] - seen).reshape(1, -1, 1, 1) / RATE
    weights = 0.5 ** (ages / 0.4) * np.ones(maps.shape[:-1])
    descriptor, _ = model.get_layer("vlad")(maps, tf.constant(weights, tf.float32))
    assert_shown(found[-1], probabilities(model.get_layer("logits")(descriptor))[0])


def test_a_run_on_features(feature_run, video):
    folder, model = feature_run
    found = lines(tfvlad("watch", folder, video, "--json"))
    # 4 steps in chunks of 20 frames: 5 a second.
    assert set(numbers(found)) <= set(range(0, 15, 2))
    last = numbers(found)[-NUM_FRAMES:]
    seen = frames_of(video, short_side=round(SIZE * 256 / 224))[last]
    assert_shown(found[-1], probabilities(model(seen[np.newaxis]))[0])


def test_lines_without_a_terminal(ta_vlad, video):
    result = tfvlad("watch", ta_vlad[0], video)
    assert result.exit_code == 0, result.errors
    shown = result.output.splitlines()
    assert [line.split()[0] for line in shown] == ["0.0", "1.0"]
    assert all(line.count("%") == 3 and "green" in line for line in shown)


def test_seconds_end_it(ta_vlad, video):
    found = lines(tfvlad("watch", ta_vlad[0], video, "--seconds", 0.5, "--json"))
    assert found[-1]["seconds"] < 0.5


@pytest.mark.parametrize("kind", ["ta_vlad", "action_vlad"])
def test_writes_what_was_seen(kind, video, tmp_path, request):
    folder, _ = request.getfixturevalue(kind)
    path = tmp_path / "seen.mp4"
    options = ("--output", path, "--frames-per-second", RATE)
    assert tfvlad("watch", folder, video, *options).exit_code == 0
    info = check_video(str(path))
    # A dropped frame repeats the one before it: the times stay.
    assert info.num_frames == 15
    assert info.frames_per_second == pytest.approx(RATE)
    assert (info.width, info.height) == (448, 448)
    picture = read_frames(str(path), [14])[0]
    band = picture[:40]
    assert (band < 40).mean() > 0.5  # black
    assert (band > 200).mean() > 0.02  # with words
    assert os.listdir(tmp_path) == ["seen.mp4"]
    refused = tfvlad("watch", folder, video, *options)
    assert_one_sentence(refused, f"'{path}' exists and is left as it is.")


def test_a_video_that_breaks(ta_vlad, tmp_path):
    whole = tmp_path / "whole.mp4"
    with av.open(str(whole), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for i in range(30):
            image = np.random.default_rng(i).integers(0, 256, (64, 64, 3)).astype("uint8")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    path, seen = tmp_path / "half.mp4", tmp_path / "seen.mp4"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    result = tfvlad("watch", ta_vlad[0], path, "--json", "--output", seen)
    assert result.exit_code == 1
    assert result.errors.startswith(f"tfvlad: {path}: ")
    assert result.errors.count("\n") == 1
    # What came before it has been shown, and written.
    assert json.loads(result.output.splitlines()[-1])["seconds"] > 0.5
    assert check_video(str(seen)).num_frames > 5


@pytest.mark.parametrize("end", ["ctrl-c", pytest.param("closed pipe", marks=pytest.mark.slow)])
def test_ends_cleanly(end, ta_vlad, tmp_path):
    video = write_noise(tmp_path / "long.mp4", 0, num_frames=300)
    path = tmp_path / "seen.mp4"
    process = subprocess.Popen(
        [*COMMAND, "watch", str(ta_vlad[0]), str(video), "--json", "--output", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    for _ in range(5):
        assert "seconds" in json.loads(process.stdout.readline())
    if end == "ctrl-c":
        process.send_signal(signal.SIGINT)
    else:
        process.stdout.close()
    assert process.wait(10) == 0
    assert "Traceback" not in process.stderr.read()
    assert 5 <= check_video(str(path)).num_frames < 100


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("none.mp4", "none.mp4: No such file or directory"),
        ("/dev/video99", "/dev/video99: No such file or directory"),
        ("http://127.0.0.1:9/live.m3u8", "http://127.0.0.1:9/live.m3u8: Connection refused"),
    ],
)
def test_a_source_that_is_not_there(ta_vlad, source, sentence):
    assert_one_sentence(tfvlad("watch", ta_vlad[0], source), sentence)


def test_runs_that_cannot_be_watched(tmp_path, video, ta_vlad):
    both, _ = make_run(tmp_path / "both", "action-vlad", streams=["rgb", "flow"])
    sentence = "is a run on optical flow, which is not computed live"
    assert_one_sentence(tfvlad("watch", both, video), sentence)
    backwards, _ = make_run(tmp_path / "back", "ta-vlad", options={"bidirectional": True})
    sentence = "cannot stream: it is bidirectional"
    assert_one_sentence(tfvlad("watch", backwards, video), sentence)
    old, _ = make_run(tmp_path / "old", "action-vlad", clip_frames=None)
    sentence = "does not say how long its training clips are. Give --frames-per-second."
    assert_one_sentence(tfvlad("watch", old, video), sentence)
    sentence = "--memory-seconds is of action-vlad, average-pooling, max-pooling; ta-vlad forgets"
    assert_one_sentence(tfvlad("watch", ta_vlad[0], video, "--memory-seconds", 3), sentence)
    assert_one_sentence(tfvlad("watch", tmp_path, video), "is not a run folder")


def test_chunks_of_consecutive_frames_are_watched_at_their_rate(tmp_path, video):
    folder, _ = make_run(tmp_path / "run", "ta-vlad", sampling="chunk", clip_frames=None)
    found = lines(tfvlad("watch", folder, video, "--json"))
    # 25 a second, of a video that has 10.
    assert np.diff([line["seconds"] for line in found]).min() == pytest.approx(0.1)


def test_output_in_no_folder(ta_vlad, video, tmp_path):
    result = tfvlad("watch", ta_vlad[0], video, "--output", tmp_path / "none" / "seen.mp4")
    assert_one_sentence(result, "--output must lie in an existing folder.")


def moment(**changes):
    frame = np.full((32, 48, 3), 100, np.uint8)
    values = {
        "seconds": 2.5,
        "frame": frame,
        "probabilities": np.array([0.1, 0.7, 0.2]),
        "attention": None,
        "frames_per_second": 8.0,
        "num_dropped": 3,
    }
    return Moment(**{**values, **changes})


def test_bars_in_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(**_terminal_of(sys.stdout)))
    with open_view(CLASSES, as_json=False) as show:
        show(moment())
    shown = capsys.readouterr().out
    assert shown.index("red") < shown.index("blue") < shown.index("green")
    assert "70.0 %" in shown
    assert "2.5 s" in shown
    assert "8.0 frames a second" in shown
    assert "3 dropped" in shown


def _terminal_of(stream):
    names = ("write", "flush", "encoding", "errors", "fileno")
    return {**{name: getattr(stream, name) for name in names}, "isatty": lambda: True}


def test_attention_lies_over_the_frame():
    attention = np.zeros((2, 3), "float32")
    attention[1, 2] = 0.9
    plain = annotated(moment(), CLASSES)
    picture = annotated(moment(attention=attention), CLASSES)
    assert plain.shape == picture.shape == (448, 672, 3)
    np.testing.assert_array_equal(plain[-1, -1], [100] * 3)
    assert picture[-1, -1].mean() > plain[-1, -1].mean()  # lightened
    assert picture[-1, 0].mean() < plain[-1, 0].mean()  # darkened


@pytest.mark.parametrize("length", [1, 10, 200])
def test_words_fit_the_picture(length):
    names = ["x" * length, "y" * length, "z" * length]
    picture = annotated(moment(frame=np.full((448, 448, 3), 100, np.uint8)), names)
    columns = np.flatnonzero((picture[:20] > 150).any(axis=(0, 2)))
    assert len(columns)
    assert columns.max() < 446
    assert (picture[-300:] == 100).all()
