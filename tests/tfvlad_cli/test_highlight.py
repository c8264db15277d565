"""`tfvlad highlight`: flags, messages and files."""

import json
import re
import shutil

import numpy as np
import pytest

from pipelines.video.codec.decoding import check_video
from pipelines.video.codec.encoding import write_video
from pipelines.video.info import VideoInfo
from tests.tfvlad.runs.run_folders import make_run
from tests.tfvlad_cli.commands import assert_one_sentence, tfvlad, write_broken
from tfvlad.evaluation import Highlight
from tfvlad.highlights import VideoHighlights
from tfvlad.runs import Run
from tfvlad_cli.highlight import clock_time

pytestmark = [pytest.mark.usefixtures("eagerly"), pytest.mark.current]

FILES = {"highlights.json", "extremes.png", "frames.png", "timeline.png"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    make_run(folder, "average-pooling")
    return folder


@pytest.fixture(scope="module")
def long_video(tmp_path_factory):
    """27 frames at 10 a second."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    frames = np.random.default_rng(0).integers(0, 256, (27, 64, 64, 3)).astype("uint8")
    write_video(path, frames, 10)
    return path


@pytest.fixture(scope="module")
def highlighted(run, long_video, tmp_path_factory):
    """A long video, and one of a single frame."""
    folder = tmp_path_factory.mktemp("highlights")
    short = folder / "short.mp4"
    write_video(short, np.zeros((1, 64, 64, 3), "uint8"), 10)
    options = ("--output", folder, "--threshold", 0, "--clip", "--max-clip-seconds", 0.9)
    result = tfvlad("highlight", run, long_video, short, *options)
    assert result.exit_code == 0, result.errors
    return folder, result


def description(folder, name="long"):
    return json.loads((folder / name / "highlights.json").read_text())


def test_writes_files(highlighted):
    assert {path.name for path in (highlighted[0] / "long").iterdir()} == {*FILES, "highlight.mp4"}
    found = {path.name for path in (highlighted[0] / "short").iterdir()}
    assert found == FILES - {"extremes.png"}


def test_prints_intervals(highlighted):
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


def test_cuts_a_clip(highlighted):
    info = check_video(str(highlighted[0] / "long" / "highlight.mp4"))
    assert 0.2 <= info.duration_seconds <= 1.0


def test_class_and_broken_video(run, highlighted, long_video, tmp_path):
    broken = write_broken(tmp_path / "broken.mp4", "text", long_video)
    other = description(highlighted[0])["top_classes"][1]["class"]
    options = ("--output", tmp_path / "out", "--class", other, "--json")
    result = tfvlad("highlight", run, broken, long_video, *options)
    assert result.exit_code == 1
    assert f"tfvlad: {broken}: " in result.errors
    printed = json.loads(result.output)
    ((path, reason),) = [video.values() for video in printed["broken"]]
    assert path == str(broken)
    assert reason
    assert path not in reason
    (found,) = printed["highlights"].values()
    written = description(tmp_path / "out")
    assert found == {name: value for name, value in written.items() if name != "rows"}
    assert (found["video"], found["class"]) == (str(long_video), other)
    assert found["probability"] == found["top_classes"][1]["probability"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["long"]


def test_unknown_class(run, long_video, tmp_path):
    result = tfvlad("highlight", run, long_video, "--output", tmp_path, "--class", "pink")
    assert_one_sentence(
        result, "`--class` must be one of green, red, blue. Received: class_name=pink."
    )


def test_no_run(long_video, tmp_path):
    result = tfvlad("highlight", tmp_path, long_video, "--output", tmp_path / "out")
    assert_one_sentence(result, "is not a run folder")


def test_folders_of_other_things(run, long_video, tmp_path):
    """Refused before the model is loaded."""
    mine = tmp_path / "long" / "highlight.mp4"
    mine.parent.mkdir()
    mine.write_text("mine")
    unfinished = tmp_path / "run"
    unfinished.mkdir()
    shutil.copy(run / "config.json", unfinished)
    result = tfvlad("highlight", unfinished, long_video, "--output", tmp_path, "--clip")
    assert_one_sentence(result, f"'{mine.parent}' is not empty and is left as it is")
    assert mine.read_text() == "mine"


def test_videos_of_the_same_name(run, tmp_path):
    pair = [tmp_path / name / "0.mp4" for name in ("green", "red")]
    for path in pair:
        path.parent.mkdir()
        path.touch()
    result = tfvlad("highlight", run, *pair, "--output", tmp_path)
    assert_one_sentence(result, f"would both write to {tmp_path / '0'}.")


def test_length_of_no_clip(run, long_video, tmp_path):
    options = ("--output", tmp_path, "--max-clip-seconds", 3)
    result = tfvlad("highlight", run, long_video, *options)
    assert_one_sentence(result, "`--max-clip-seconds` has no effect without `--clip`.")


def test_defaults_are_those_of_the_library():
    shown = tfvlad("highlight", "--help").output
    assert "[default: 1.5]" in shown
    for method in (Run.highlight, Run.highlight_all):
        assert method.__kwdefaults__["threshold"] == 1.5
    assert "[default: 30.0]" in shown
    assert VideoHighlights.write_clip.__defaults__ == (30.0,)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00.0"), (75.25, "1:15.2"), (59.99, "0:59.9"), (3661, "1:01:01.0")]
)
def test_clock_time(seconds, shown):
    assert clock_time(seconds) == shown


@pytest.mark.parametrize(
    ("unit", "line"), [("seconds", "0:01.5 - 0:03.0"), ("features", "1.5 - 3.0 features")]
)
def test_units(unit, line, run, tmp_path, monkeypatch):
    """Positions in an array without times are no seconds."""
    (tmp_path / "a.npy").touch()
    info = VideoInfo(8, 2, 0, 0)
    rows = [np.arange(4.0)] * 4
    found = VideoHighlights(
        *("a.npy", info, ("red",), np.ones(1), "red", (Highlight(1.5, 3.0, 2.0),), 2.0),
        *(np.arange(4), *rows),
        of_array=True,
        unit=unit,
    )
    monkeypatch.setattr(Run, "highlight_all", lambda *_, **__: iter([(tmp_path, found)]))
    result = tfvlad("highlight", run, tmp_path / "a.npy", "--output", tmp_path / "out")
    assert result.exit_code == 0, result.errors
    assert result.output.splitlines()[1] == f"  {line}  red  x2.0"
