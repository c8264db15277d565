"""`tfvlad watch`: flags, messages and how it ends."""

import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import av
import numpy as np
import pytest

from pipelines.video.codec.decoding import check_video
from tests.tfvlad.runs.run_folders import CLASSES, make_run
from tests.tfvlad_cli.commands import assert_one_sentence, tfvlad
from tests.tfvlad_cli.commands import write_video as write_noise
from tfvlad.live import Moment
from tfvlad_cli.watch_view import open_view

pytestmark = [pytest.mark.usefixtures("eagerly"), pytest.mark.current]

RATE = 10
COMMAND = (sys.executable, "-c", "from tfvlad_cli.main import main; main()")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """10 frames a second, as its training clips are 4 of 10 at 25 a second."""
    folder = tmp_path_factory.mktemp("runs") / "action-vlad"
    make_run(folder, "action-vlad")
    return folder


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """1.5 seconds at 10 frames a second."""
    path = tmp_path_factory.mktemp("videos") / "noise.mp4"
    return write_noise(path, 1, num_frames=15)


def test_json_lines(run, video, tmp_path):
    options = ("--frames-per-second", 5, "--memory-seconds", 0.4, "--seconds", 1.2)
    result = tfvlad("watch", run, video, *options, "--output", tmp_path / "seen.mp4", "--json")
    assert result.exit_code == 0, result.errors
    found = [json.loads(line) for line in result.output.splitlines()]
    assert {round(line["seconds"], 3) for line in found} <= {0.0, 0.2, 0.4, 0.6, 0.8, 1.0}
    assert {one["class"] for one in found[-1]["top"]} == set(CLASSES)
    assert sum(one["probability"] for one in found[-1]["top"]) == pytest.approx(1, abs=1e-5)
    assert check_video(str(tmp_path / "seen.mp4")).frames_per_second == pytest.approx(5)


def test_lines_without_a_terminal(run, video):
    result = tfvlad("watch", run, video)
    assert result.exit_code == 0, result.errors
    shown = result.output.splitlines()
    assert [int(float(line.split()[0])) for line in shown] == [0, 1]
    assert all(line.count("%") == 3 and "green" in line for line in shown)


def test_a_video_that_breaks(run, tmp_path):
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
    result = tfvlad("watch", run, path, "--json", "--output", seen)
    assert result.exit_code == 1
    assert result.errors.startswith(f"tfvlad: {path}: ")
    assert result.errors.count("\n") == 1
    # What came before it has been shown, and written.
    assert json.loads(result.output.splitlines()[-1])["seconds"] > 0.5
    assert check_video(str(seen)).num_frames > 5


@pytest.mark.parametrize("end", ["ctrl-c", pytest.param("closed pipe", marks=pytest.mark.slow)])
def test_ends_cleanly(end, run, tmp_path):
    video = write_noise(tmp_path / "long.mp4", 0, num_frames=300)
    path = tmp_path / "seen.mp4"
    process = subprocess.Popen(
        [*COMMAND, "watch", str(run), str(video), "--json", "--output", str(path)],
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
    assert process.wait(25) == 0
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
def test_a_source_that_is_not_there(run, source, sentence):
    assert_one_sentence(tfvlad("watch", run, source), sentence)


def test_places_are_told_before_tensorflow_is_imported(run, video):
    code = (
        "import sys; from tfvlad_cli.main import cli; sys.argv[0] = 'tfvlad'\n"
        "try: cli()\n"
        "finally: print('tensorflow' in sys.modules)"
    )
    command = [sys.executable, "-c", code, "watch", str(run), str(video), "--output", str(video)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (1, "False\n")
    assert "exists and is left as it is. Choose another `--output`." in result.stderr


def test_arguments_are_told_as_flags(run, video, tmp_path):
    result = tfvlad("watch", run, video, "--output", video)
    assert_one_sentence(
        result, f"'{video}' exists and is left as it is. Choose another `--output`."
    )
    result = tfvlad("watch", run, video, "--output", tmp_path / "none" / "seen.mp4")
    assert_one_sentence(result, "`--output` must lie in an existing folder.")
    make_run(tmp_path / "old", "ta-vlad", clip_frames=None, options={"units": 4})
    result = tfvlad("watch", tmp_path / "old", video)
    assert_one_sentence(result, "Give `--frames-per-second`.")
    options = ("--frames-per-second", 5, "--memory-seconds", 3)
    result = tfvlad("watch", tmp_path / "old", video, *options)
    assert_one_sentence(result, "`--memory-seconds` is of models that sum over time")
    assert_one_sentence(tfvlad("watch", tmp_path, video), "is not a run folder")


def test_bars_in_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(**_terminal_of(sys.stdout)))
    frame, probabilities = np.zeros((32, 48, 3), np.uint8), np.array([0.1, 0.7, 0.2])
    with open_view(as_json=False) as show:
        show(Moment(2.5, frame, tuple(CLASSES), probabilities, None, 8.0, 3))
    shown = capsys.readouterr().out
    assert shown.index("red") < shown.index("blue") < shown.index("green")
    assert "70.0 %" in shown
    assert "2.5 s" in shown
    assert "8.0 frames a second" in shown
    assert "3 dropped" in shown


def _terminal_of(stream):
    names = ("write", "flush", "encoding", "errors", "fileno")
    return {**{name: getattr(stream, name) for name in names}, "isatty": lambda: True}
