"""From what a model makes of chunks to highlights."""

import numpy as np
import pytest

from pipelines.video.info import BrokenVideoError
from tfvlad.highlights import (
    ChunkInput,
    ChunkModel,
    ChunkPredictions,
    find_highlights,
    highlight,
)
from tfvlad.highlights.finding import confidences


def brightness(steps):
    """Weights: how bright the frames are; scores of the second class that no chunk doubts."""
    bright = steps[0].mean(axis=-1, keepdims=True)
    return bright, np.tile([0.0, 5.0], (len(bright), 1))


def example_model(predict=None, num_classes=2, chunk_frames=4):
    means = ChunkInput(
        lambda frames: frames.mean(axis=(1, 2)), chunk_frames, 1, 1, (32, 32), short_side=36
    )
    names = tuple(f"class {i}" for i in range(num_classes))
    return ChunkModel(names, False, chunk_frames, False, [means], predict, 2)


def predictions(frames, weights, probabilities):
    return ChunkPredictions(np.array(frames), np.array(weights), np.array(probabilities))


class TestHighlight:
    def test_of_a_file(self, long_video):
        found = highlight(example_model(brightness), long_video, threshold=1.1)
        assert found.path == str(long_video)
        assert found.class_name == "class 1"
        assert found.probability == pytest.approx(1 / (1 + np.exp(-5)))
        assert found.frames.tolist() == [*range(27)]
        # Where it grows bright: a chunk's frames are compared with each other alone.
        ((start, end, score),) = found.moments
        assert (start, end) == (pytest.approx(1.35), pytest.approx(1.55))
        assert score > 1.1

    def test_of_a_class(self, long_video):
        found = highlight(example_model(brightness), long_video, "class 0", 99)
        assert found.class_name == "class 0"
        assert found.probability == pytest.approx(1 - 1 / (1 + np.exp(-5)))
        assert found.moments == ()

    def test_a_broken_video(self, tmp_path):
        path = tmp_path / "broken.mp4"
        path.write_text("this is no video")
        with pytest.raises(BrokenVideoError, match=f"^{path}: "):
            highlight(example_model(brightness), path)

    def test_arguments_are_checked_before_the_video_is_read(self):
        sentence = "`class_name` must be one of class 0, class 1. Received: class_name=blue."
        with pytest.raises(ValueError, match=sentence):
            highlight(example_model(), "none.mp4", "blue")
        sentence = "`threshold` must not be negative. Received: threshold=-1."
        with pytest.raises(ValueError, match=sentence):
            highlight(example_model(), "none.mp4", threshold=-1)


class TestFindHighlights:
    def test_scores_by_hand(self, info):
        found = find_highlights(
            predictions(
                [[0, 2], [2, 4]], [[[1.0], [3.0]], [[2.0], [2.0]]], [[0.75, 0.25], [1.0, 0.0]]
            ),
            example_model(),
            "long.mp4",
            info,
        )
        assert found.class_name == "class 0"
        np.testing.assert_allclose(found.probabilities, [0.875, 0.125])
        assert found.chunk_seconds == pytest.approx(0.4)
        assert found.frames.tolist() == [0, 2, 4]
        np.testing.assert_allclose(found.starts, [0, 0.1, 0.3])
        np.testing.assert_allclose(found.attention, [0.5, 1.25, 1])
        np.testing.assert_allclose(found.chunk_probabilities, [0.75, 0.875, 1])
        # Relative attention times 0.5 and 1, the probabilities above chance.
        np.testing.assert_allclose(found.scores, [0.25, (0.75 + 1) / 2, 1])

    def test_weights_of_the_class(self, info):
        weights = [[[1.0, 0.0], [-1.0, 2.0]]]
        found = find_highlights(
            predictions([[0, 2]], weights, [[0.1, 0.9]]), example_model(), "long.mp4", info
        )
        assert found.class_name == "class 1"
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
