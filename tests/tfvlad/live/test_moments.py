"""What is told and drawn of a moment."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tfvlad.live import Moment

MOMENT = Moment(
    seconds=2.5,
    frame=np.full((32, 48, 3), 100, np.uint8),
    class_names=("green", "red", "blue"),
    probabilities=np.array([0.1, 0.7, 0.2], "float32"),
    attention=None,
    frames_per_second=8.0,
    num_dropped=3,
)


def test_top():
    assert [score.class_name for score in MOMENT.top(2)] == ["red", "blue"]


def test_to_dict():
    assert json.loads(json.dumps(MOMENT.to_dict())) == {
        "seconds": 2.5,
        "top": [
            {"class": "red", "probability": 0.7},
            {"class": "blue", "probability": 0.2},
            {"class": "green", "probability": 0.1},
        ],
        "frames_per_second": 8.0,
        "num_dropped": 3,
    }


def test_repr():
    assert repr(MOMENT) == "<Moment at 2.5 s: red 70.0 %>"


def test_attention_lies_over_the_frame():
    attention = np.zeros((2, 3), "float32")
    attention[1, 2] = 0.9
    plain = MOMENT.annotated()
    picture = replace(MOMENT, attention=attention).annotated()
    assert plain.shape == picture.shape == (448, 672, 3)
    np.testing.assert_array_equal(plain[-1, -1], [100] * 3)
    assert picture[-1, -1].mean() > plain[-1, -1].mean()  # lightened
    assert picture[-1, 0].mean() < plain[-1, 0].mean()  # darkened


@pytest.mark.parametrize("length", [1, 10, 200])
def test_words_fit_the_picture(length):
    names = ("x" * length, "y" * length, "z" * length)
    frame = np.full((448, 448, 3), 100, np.uint8)
    picture = replace(MOMENT, frame=frame, class_names=names).annotated()
    columns = np.flatnonzero((picture[:20] > 150).any(axis=(0, 2)))
    assert len(columns)
    assert columns.max() < 446
    assert (picture[-300:] == 100).all()
