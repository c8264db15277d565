import io
import re

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from tfvlad.visualization import (
    class_gain_figure,
    extreme_frames_figure,
    timeline_figure,
    weighted_frames_figure,
)

# Frame i is grey, as bright as 20 i.
FRAMES = np.full((6, 8, 12, 3), 20, "float32") * np.arange(6).reshape(6, 1, 1, 1)
WEIGHTS = np.array([0.1, 0.3, 0.0, 0.2, 0.35, 0.05])


def drawn(figure):
    """Draws the figure: much is wrong only when it is drawn."""
    figure.savefig(io.BytesIO(), format="png")
    return figure


def images(figure):
    return [axis.images[0].get_array() for axis in figure.axes]


def border(axis):
    return next(iter({to_rgb(spine.get_edgecolor()) for spine in axis.spines.values()}))


class TestExtremeFrames:
    def test_highest_are_green_and_lowest_red(self):
        figure = drawn(extreme_frames_figure(FRAMES, WEIGHTS, num_shown=2, title="wave"))
        assert [int(image[0, 0, 0]) // 20 for image in images(figure)] == [1, 4, 2, 5]
        assert [axis.get_title() for axis in figure.axes] == ["2", "5", "3", "6"]
        assert [axis.get_xlabel() for axis in figure.axes] == ["0.300", "0.350", "0.000", "0.050"]
        greens = [g > r for r, g, _ in map(border, figure.axes)]
        assert greens == [True, True, False, False]
        assert figure.get_suptitle() == "wave"

    @pytest.mark.parametrize(("num_frames", "num_axes"), [(2, 2), (3, 2), (6, 6)])
    def test_no_frame_is_both(self, num_frames, num_axes):
        figure = extreme_frames_figure(FRAMES[:num_frames], np.ones(num_frames))
        assert len(figure.axes) == num_axes
        titles = [axis.get_title() for axis in figure.axes]
        assert len(set(titles)) == num_axes

    def test_frame_numbers(self):
        numbers = [16 * i for i in range(6)]
        figure = extreme_frames_figure(FRAMES, WEIGHTS, frame_numbers=numbers, num_shown=1)
        assert [axis.get_title() for axis in figure.axes] == ["64", "32"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                {"weights": WEIGHTS[:5]},
                "`frames` must have shape (T, H, W, 3) and `weights` (T,). "
                "Received: frames of shape (6, 8, 12, 3), weights of shape (5,).",
            ),
            (
                {"frame_numbers": [1, 2]},
                "`frame_numbers` must be 6, one for each frame. Received: 2.",
            ),
            ({"num_shown": 0}, "`num_shown` must be positive. Received: num_shown=0."),
            (
                {"frames": FRAMES[:1], "weights": WEIGHTS[:1]},
                "`frames` must be two or more. Received: 1.",
            ),
        ],
    )
    def test_errors(self, arguments, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            extreme_frames_figure(**{"frames": FRAMES, "weights": WEIGHTS, **arguments})


class TestWeightedFrames:
    def test_lightened_and_darkened(self):
        frames = np.full((4, 8, 12, 3), 100, "uint8")
        figure = drawn(weighted_frames_figure(frames, [0.0, 0.25, 0.125, 0.625]))
        assert len(figure.axes) == 8
        shown = [int(image[0, 0, 0]) for image in images(figure)]
        # Without weight a fifth, the mean as it is, half the mean 0.6, the highest half white.
        assert shown == [100, 100, 100, 100, 20, 100, 60, 178]
        labels = [axis.get_xlabel() for axis in figure.axes]
        assert labels == ["", "", "", "", "0.000", "0.250", "0.125", "0.625"]

    def test_a_row_for_each_model(self):
        weights = {"objects": WEIGHTS, "scenes": WEIGHTS[::-1]}
        numbers = range(100, 106)
        figure = drawn(weighted_frames_figure(FRAMES, weights, numbers, num_shown=3))
        grid = np.reshape(figure.axes, (3, 3))
        assert [axis.get_title() for axis in grid[0]] == ["100", "102", "105"]
        assert [axis.get_ylabel() for axis in grid[:, 0]] == ["video", "objects", "scenes"]
        assert [axis.get_xlabel() for axis in grid[1]] == ["0.100", "0.000", "0.050"]
        assert [axis.get_xlabel() for axis in grid[2]] == ["0.050", "0.200", "0.100"]

    @pytest.mark.parametrize("weights", [np.zeros(6), np.ones(6) / 6])
    def test_uniform_weights_change_nothing(self, weights):
        shown = images(weighted_frames_figure(FRAMES, weights))
        np.testing.assert_array_equal(shown[:6], shown[6:])

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"weights": {}}, "`weights` must hold at least one row. Received: none."),
            ({"weights": {"a": WEIGHTS[:2]}}, "Received: frames of shape (6, 8, 12, 3), weights"),
            (
                {"weights": WEIGHTS - 0.2},
                "`weights` must not be negative. Received: -0.2 (of attributions, give the "
                "positive part).",
            ),
            ({"num_shown": 0}, "`num_shown` must be positive. Received: num_shown=0."),
        ],
    )
    def test_errors(self, arguments, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            weighted_frames_figure(**{"frames": FRAMES, "weights": WEIGHTS, **arguments})


class TestTimeline:
    def test_line_and_spans(self):
        figure = drawn(timeline_figure([0, 1, 2, 3], [1, 5, 2, 0], [(1.0, 2.0, 2.5), (3.0, 3.5)]))
        (axis,) = figure.axes
        line, mean = axis.lines
        np.testing.assert_array_equal(line.get_xydata(), [(0, 1), (1, 5), (2, 2), (3, 0)])
        assert mean.get_ydata() == [2, 2]
        spans = [
            patch.get_extents().transformed(axis.transData.inverted()) for patch in axis.patches
        ]
        np.testing.assert_allclose([span.intervalx for span in spans], [(1, 2), (3, 3.5)])

    def test_errors(self):
        message = (
            "`seconds` and `scores` must have the same shape (num_rows,). "
            "Received: seconds of shape (2,), scores of shape (1,)."
        )
        with pytest.raises(ValueError, match=re.escape(message)):
            timeline_figure([0, 1], [1])


class TestClassGain:
    def test_largest_on_top(self):
        names = ["a", "b", "c", "d"]
        figure = drawn(class_gain_figure(names, [0.1, np.nan, 0.3, -0.2], 2))
        (axis,) = figure.axes
        assert [bar.get_width() for bar in axis.patches] == [0.1, 0.3]
        assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "c"]
        assert [text.get_text() for text in axis.texts] == ["+0.1", "+0.3"]

    @pytest.mark.parametrize(
        ("gains", "top", "message"),
        [
            ([1, 2], 5, "`gains` must have shape (1,), one for each class. Received: shape=(2,)."),
            ([1], 0, "`top` must be positive. Received: top=0."),
        ],
    )
    def test_errors(self, gains, top, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            class_gain_figure(["a"], gains, top)
