"""Pictures, files and the clip of a video's highlights."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from pipelines.video.codec.decoding import check_video, read_frames
from tfvlad.evaluation import Highlight
from tfvlad.highlights import VideoHighlights
from tfvlad.highlights.video_highlights import check_folder

FILES = {"highlights.json", "extremes.png", "frames.png", "timeline.png"}


@pytest.fixture
def found(long_video, info):
    """All frames were looked at; frame 20 has the highest score."""
    scores = np.ones(27)
    scores[20] = 5
    scores[:3] = 0.5
    return VideoHighlights(
        str(long_video),
        info,
        ("green", "red", "blue"),
        np.array([0.2, 0.7, 0.1]),
        "red",
        (Highlight(0.0, 0.5, 3.0), Highlight(1.0, 1.2, 1.5), Highlight(1.5, 2.5, 2.0)),
        0.6,
        np.arange(27),
        np.arange(27) / 10,
        np.full(27, 1.5),
        np.full(27, 0.75),
        scores,
    )


def of_one_frame(found):
    names = ("frames", "starts", "attention", "chunk_probabilities", "scores")
    return replace(found, moments=(), **{name: getattr(found, name)[:1] for name in names})


def describe(found, folder):
    """What of `save` is quick."""
    (folder / "highlights.json").write_text(json.dumps(found.to_dict()))


class TestDescription:
    def test_to_dict(self, found, long_video):
        described = json.loads(json.dumps(found.to_dict()))
        rows = described.pop("rows")
        assert len(rows) == 27
        assert rows[20] == {
            **{"frame": 20, "start_seconds": 2.0, "attention": 1.5},
            **{"probability": 0.75, "score": 5.0},
        }
        assert described == {
            "video": str(long_video),
            "class": "red",
            "probability": 0.7,
            "top_classes": [
                {"class": "red", "probability": 0.7},
                {"class": "green", "probability": 0.2},
                {"class": "blue", "probability": 0.1},
            ],
            "duration_seconds": 2.7,
            "chunk_seconds": 0.6,
            "intervals": [
                {"start_seconds": 0.0, "end_seconds": 0.5, "score": 3.0},
                {"start_seconds": 1.0, "end_seconds": 1.2, "score": 1.5},
                {"start_seconds": 1.5, "end_seconds": 2.5, "score": 2.0},
            ],
        }

    def test_top(self, found):
        assert found.top(1) == [("red", 0.7)]

    def test_repr(self, found, long_video):
        assert repr(found) == (
            f"<VideoHighlights of '{long_video}': red 70.0 %, 0.0-0.5 s x3.0, 1.0-1.2 s x1.5, "
            "1.5-2.5 s x2.0>"
        )
        assert repr(of_one_frame(found)).endswith("red 70.0 %, no moment stands out>")


class TestFigures:
    def test_timeline(self, found):
        (axis,) = found.timeline().axes
        np.testing.assert_array_equal(axis.lines[0].get_ydata(), found.scores)
        assert len(axis.patches) == 3

    def test_frames(self, found, long_video, info):
        axes = found.frames_figure().axes
        titles = [axis.get_title() for axis in axes[:8]]
        assert titles == ["1", "5", "8", "12", "16", "20", "23", "27"]
        image = read_frames(str(long_video), [26], info=info)[0]
        np.testing.assert_array_equal(axes[7].images[0].get_array(), image)

    def test_extremes(self, found):
        """The highest score, and those a quarter of a chunk apart from it and from each other."""
        axes = found.extremes().axes
        assert [axis.get_title() for axis in axes[:4]] == ["4", "6", "8", "21"]
        # Frames 1 and 3 have the lowest scores and lie more than 0.15 seconds apart.
        assert [axis.get_title() for axis in axes[4:6]] == ["1", "3"]
        means = [float(axis.get_xlabel()) for axis in axes]
        assert max(means) == means[3] == pytest.approx(5 / found.scores.mean(), abs=1e-3)

    def test_extremes_of_one_frame(self, found):
        with pytest.raises(ValueError, match=r"A single frame of .*long.mp4 was looked at"):
            of_one_frame(found).extremes()


class TestSave:
    def test_files(self, found, tmp_path):
        place = tmp_path / "new" / "long"
        written = found.save(place)
        assert {path.name for path in written} == FILES == {*os.listdir(place)}
        assert {path.parent for path in written} == {place}
        assert json.loads((place / "highlights.json").read_text()) == found.to_dict()

    def test_of_one_frame(self, found, tmp_path):
        of_one_frame(found).save(tmp_path)
        assert {*os.listdir(tmp_path)} == FILES - {"extremes.png"}

    def test_replaces_its_own_files_and_keeps_others(self, found, tmp_path):
        describe(found, tmp_path)
        (tmp_path / "highlight.mp4").write_text("a clip")
        replace(found, class_name="green").save(str(tmp_path))
        assert json.loads((tmp_path / "highlights.json").read_text())["class"] == "green"
        assert (tmp_path / "highlight.mp4").read_text() == "a clip"

    def test_leaves_the_highlights_of_another_video(self, found, tmp_path):
        describe(found, tmp_path)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        sentence = r"holds the highlights of .*long.mp4 and is left as it is. .* of other.mp4\."
        with pytest.raises(ValueError, match=sentence):
            replace(found, path="other.mp4").save(tmp_path)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_leaves_a_folder_of_other_things(self, found, tmp_path):
        (tmp_path / "highlight.mp4").write_text("mine")
        with pytest.raises(ValueError, match=r"is not empty .* it has no highlights.json"):
            found.save(tmp_path)
        assert os.listdir(tmp_path) == ["highlight.mp4"]

    def test_the_video_may_be_named_in_another_way(self, found, tmp_path, monkeypatch):
        describe(found, tmp_path)
        monkeypatch.chdir(os.path.dirname(found.path))
        check_folder(tmp_path, "long.mp4")

    @pytest.mark.parametrize("content", ["{", "[]", "{}"])
    def test_a_file_of_another_program(self, content, tmp_path):
        (tmp_path / "highlights.json").write_text(content)
        with pytest.raises(ValueError, match=r"was not written by this package"):
            check_folder(tmp_path, "long.mp4")


class TestWriteClip:
    def test_best_come_first_and_the_last_is_shortened_about_its_peak(self, found, tmp_path):
        path = tmp_path / "clip.mp4"
        path.write_text("an earlier one")
        chosen = found.write_clip(path, 0.9)
        np.testing.assert_allclose(chosen, [(0, 0.5), (1.8, 2.2)])
        assert check_video(str(path)).num_frames == 9

    def test_all_fit(self, found, tmp_path):
        chosen = found.write_clip(tmp_path / "clip.mp4")
        np.testing.assert_allclose(chosen, [(0, 0.5), (1, 1.2), (1.5, 2.5)])

    def test_errors(self, found, tmp_path):
        with pytest.raises(ValueError, match=r"`max_seconds` must be positive. .*max_seconds=0"):
            found.write_clip(tmp_path / "clip.mp4", 0)
        with pytest.raises(ValueError, match=r"No moment of red .* A lower `threshold` finds more"):
            of_one_frame(found).write_clip(tmp_path / "clip.mp4")
        video = shutil.copy(found.path, tmp_path)
        content = (tmp_path / "long.mp4").read_bytes()
        with pytest.raises(ValueError, match=r"`path` must not be the video itself"):
            replace(found, path=video).write_clip(tmp_path / "long.mp4")
        assert (tmp_path / "long.mp4").read_bytes() == content
