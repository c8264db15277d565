import io
import re

import numpy as np
import pytest

from tfvlad.visualization import attention_figure

# Frame i is grey, as bright as 20 i.
FRAMES = np.full((6, 8, 12, 3), 20, "float32") * np.arange(6).reshape(6, 1, 1, 1)


def grid(figure, num_rows):
    """The axes, row by row, of a figure that was drawn: much is wrong only then."""
    figure.savefig(io.BytesIO(), format="png")
    return np.reshape(figure.axes, (num_rows, -1))


def one_hot(*cells):
    """Attention `(T, 2, 3)` on one cell of each frame."""
    maps = np.zeros((len(cells), 6), "float32")
    maps[np.arange(len(cells)), list(cells)] = 0.5
    return maps.reshape(-1, 2, 3)


def warmest_cell(axis):
    heat = axis.images[1].get_array()
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    return 3 * (row // 4) + column // 4


def test_heat_is_over_the_attended_cell():
    figure = attention_figure(FRAMES, one_hot(0, 1, 2, 3, 4, 5), title="wave")
    top, bottom = grid(figure, 2)
    assert [axis.get_title() for axis in top] == [f"frame {i}" for i in range(1, 7)]
    assert [int(axis.images[0].get_array()[0, 0, 0]) for axis in bottom] == list(range(0, 120, 20))
    assert [warmest_cell(axis) for axis in bottom] == list(range(6))
    for axis in bottom:
        assert axis.images[1].get_array().shape == (8, 12)
        assert axis.images[1].get_clim() == (0, 0.5)
    assert all(len(axis.images) == 1 for axis in top)
    assert figure.get_suptitle() == "wave"


def test_a_row_for_each_stage():
    rows = {"stage 1": one_hot(0, 0, 0, 0, 0, 0), "stage 2": one_hot(5, 5, 5, 5, 5, 5)}
    video, first, second = grid(attention_figure(FRAMES, rows, num_shown=3), 3)
    assert [axis.get_title() for axis in video] == ["frame 1", "frame 3", "frame 6"]
    assert [axis.get_ylabel() for axis in (video[0], first[0], second[0])] == [
        *("", "stage 1", "stage 2")
    ]
    assert {warmest_cell(axis) for axis in first} == {0}
    assert {warmest_cell(axis) for axis in second} == {5}


def test_frames_without_attention_stay_cold():
    _, bottom = grid(attention_figure(FRAMES[:2], np.zeros((2, 2, 3))), 2)
    assert all(axis.images[1].get_array().max() == 0 for axis in bottom)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attention": {}}, "`attention` must hold at least one row. Received: none."),
        (
            {"attention": {"a": one_hot(0, 1)}},
            "`frames` must have shape (T, H, W, 3) and `attention` (T, h, w). "
            "Received: frames of shape (6, 8, 12, 3), attention of shape (2, 2, 3).",
        ),
        ({"num_shown": 0}, "`num_shown` must be positive. Received: num_shown=0."),
    ],
)
def test_errors(arguments, message):
    given = {"frames": FRAMES, "attention": one_hot(0, 0, 0, 0, 0, 0), **arguments}
    with pytest.raises(ValueError, match=re.escape(message)):
        attention_figure(**given)
