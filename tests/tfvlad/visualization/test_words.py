import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from matplotlib.colors import to_rgb

from tfvlad.visualization import (
    action_words_figure,
    word_map_figure,
    word_shares,
    word_track_figure,
)

# Maps of 2 x 4 cells over frames of 8 x 16 pixels; three words.
WINNERS = np.array([[[0, 0, 1, 1], [0, 0, 1, 1]], [[0, 1, 1, 1], [2, 1, 1, 1]]])
ASSIGNMENTS = np.eye(3, dtype="float32")[WINNERS]
FRAMES = np.random.default_rng(0).integers(0, 256, (2, 8, 16, 3)).astype("uint8")


def drawn(figure):
    """Draws the figure: much is wrong only when it is drawn."""
    figure.savefig(io.BytesIO(), format="png")
    return figure


class TestShares:
    @given(
        arrays.arrays("float32", (2, 3, 2, 4, 3), elements=st.floats(0.125, 1, width=32)),
        arrays.arrays("float32", (2, 3, 2, 4), elements=st.floats(0.125, 1, width=32)),
    )
    def test_is_a_weighted_mean(self, assignments, attention):
        found = word_shares(assignments, attention)
        for clip, frame in np.ndindex(2, 3):
            weights = attention[clip, frame].ravel().astype("float64")
            expected = np.average(assignments[clip, frame].reshape(8, 3), axis=0, weights=weights)
            np.testing.assert_allclose(found[clip, frame], expected, rtol=1e-4)
        uniform = word_shares(assignments, np.ones((2, 3, 2, 4), "float32"))
        np.testing.assert_allclose(word_shares(assignments), uniform, rtol=1e-4)

    def test_of_known_maps(self):
        np.testing.assert_allclose(word_shares(ASSIGNMENTS), [[0.5, 0.5, 0], [0.125, 0.75, 0.125]])


class TestActionWords:
    def clips(self):
        """Of three clips, in clip i one region of 2 x 2 cells belongs to word 1 by 0.5 + 0.2 i."""
        frames = np.zeros((3, 2, 16, 24, 3), "uint8")
        assignments = np.zeros((3, 2, 4, 6, 2), "float32")
        for i, (frame, row, column) in enumerate([(0, 0, 0), (1, 2, 4), (0, 1, 3)]):
            assignments[i, frame, row : row + 2, column : column + 2, 1] = 0.5 + 0.2 * i
            rows, columns = slice(4 * row, 4 * row + 8), slice(4 * column, 4 * column + 8)
            frames[i, frame, rows, columns] = 50 + i
        assignments[..., 0] = 1 - assignments[..., 1]
        return frames, assignments

    def test_best_region_of_each_clip_in_order(self):
        figure = drawn(action_words_figure(*self.clips(), [1], region_cells=2, title="words"))
        shown = [axis.images[0].get_array() for axis in figure.axes]
        assert [axis.get_xlabel() for axis in figure.axes] == ["0.90", "0.70", "0.50"]
        assert figure.axes[0].get_ylabel() == "word 1"
        for image, value in zip(shown, (52, 51, 50), strict=True):
            np.testing.assert_array_equal(image, np.full((8, 8, 3), value))
        assert figure.get_suptitle() == "words"

    def test_a_row_for_each_word(self):
        figure = drawn(action_words_figure(*self.clips(), [1, 0], num_regions=2, region_cells=2))
        axes = np.reshape(figure.axes, (2, 2))
        assert [axis.get_ylabel() for axis in axes[:, 0]] == ["word 1", "word 0"]
        assert [axis.get_xlabel() for axis in axes[0]] == ["0.90", "0.70"]
        assert [axis.get_xlabel() for axis in axes[1]] == ["1.00", "1.00"]

    def test_small_map_gives_whole_frames(self):
        assignments = np.ones((1, 2, 1, 1, 1), "float32")
        (axis,) = drawn(action_words_figure(FRAMES[np.newaxis], assignments, [0])).axes
        np.testing.assert_array_equal(axis.images[0].get_array(), FRAMES[0])

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"words": []}, "`words` must name at least one word. Received: none."),
            ({"words": [3]}, "A word must be a number from 0 to 2. Received: 3."),
            ({"words": [-1]}, "A word must be a number from 0 to 2. Received: -1."),
            ({"num_regions": 0}, "`num_regions` must be positive. Received: num_regions=0."),
            ({"region_cells": 0}, "`region_cells` must be positive. Received: region_cells=0."),
            (
                {"clips": FRAMES},
                "`clips` must have shape (n, T, H, W, 3) and `assignments` (n, T, h, w, K). "
                "Received: clips of shape (2, 8, 16, 3), assignments of shape (1, 2, 2, 4, 3).",
            ),
        ],
    )
    def test_errors(self, arguments, message):
        given = {
            "clips": FRAMES[np.newaxis],
            "assignments": ASSIGNMENTS[np.newaxis],
            "words": [0],
            **arguments,
        }
        with pytest.raises(ValueError, match=re.escape(message)):
            action_words_figure(**given)


class TestWordMap:
    def test_colors_tell_the_words(self):
        black = np.zeros_like(FRAMES)
        figure = drawn(word_map_figure(black, ASSIGNMENTS, title="map"))
        legend = {
            text.get_text(): np.array(to_rgb(handle.get_color()))
            for text, handle in zip(
                figure.legends[0].get_texts(), figure.legends[0].legend_handles, strict=True
            )
        }
        # Word 1 has ten cells, word 0 five, word 2 one.
        assert list(legend) == ["word 1", "word 0", "word 2"]
        for axis, winners in zip(figure.axes[2:], WINNERS, strict=True):
            image = axis.images[0].get_array()
            for (row, column), word in np.ndenumerate(winners):
                block = image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
                expected = (0.65 * 255 * legend[f"word {word}"]).astype("uint8")
                assert (np.abs(block.astype(int) - expected) <= 1).all()

    def test_words_beyond_ten_are_grey(self):
        winners = np.repeat(np.arange(12), np.arange(12, 0, -1)).reshape(1, 6, 13)
        figure = drawn(word_map_figure(np.zeros((1, 6, 13, 3)), np.eye(12)[winners]))
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert labels == [f"word {word}" for word in range(10)]
        image = figure.axes[1].images[0].get_array()
        assert (image[winners[0] >= 10] == int(0.65 * 0.75 * 255)).all()
        assert len({tuple(color) for color in image.reshape(-1, 3).tolist()}) == 11

    def test_errors(self):
        message = (
            "`frames` must have shape (T, H, W, 3) and `assignments` (T, h, w, K). "
            "Received: frames of shape (1, 8, 16, 3), assignments of shape (2, 2, 4, 3)."
        )
        with pytest.raises(ValueError, match=re.escape(message)):
            word_map_figure(FRAMES[:1], ASSIGNMENTS)
        with pytest.raises(ValueError, match=r"must be positive\. Received: num_shown=0\."):
            word_map_figure(FRAMES, ASSIGNMENTS, num_shown=0)


class TestWordTrack:
    def test_overlay_and_share(self):
        figure = drawn(word_track_figure(FRAMES, ASSIGNMENTS, 0, title="track"))
        *pairs, line = figure.axes
        for axis, winners, frame in zip(pairs[1::2], WINNERS, FRAMES, strict=True):
            np.testing.assert_array_equal(axis.images[0].get_array(), frame)
            heat = axis.images[1].get_array().reshape(2, 4, 4, 4).mean(axis=(1, 3))
            np.testing.assert_array_equal(heat > 0.5, winners == 0)
            assert axis.images[1].get_clim() == (0, 1)
        np.testing.assert_allclose(line.lines[0].get_xydata(), [(1, 0.5), (2, 0.125)])
        assert line.get_ylabel() == "share of word 0"

    def test_errors(self):
        with pytest.raises(ValueError, match=r"a number from 0 to 2\. Received: 3\."):
            word_track_figure(FRAMES, ASSIGNMENTS, 3)
        with pytest.raises(ValueError, match="`frames` must have shape"):
            word_track_figure(FRAMES, ASSIGNMENTS[0], 0)
