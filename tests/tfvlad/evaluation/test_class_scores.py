import numpy as np
import pytest

from tfvlad.evaluation import ClassScore, top_classes


def test_most_probable_first_and_equal_ones_in_their_order():
    found = top_classes(["a", "b", "c", "d"], np.array([0.1, 0.4, 0.4, 0.1], "float32"), 3)
    assert [score.class_name for score in found] == ["b", "c", "a"]
    assert found[0] == ClassScore("b", pytest.approx(0.4))
    assert isinstance(found[0].probability, float)


def test_no_more_than_there_are():
    assert top_classes(["a"], [1.0]) == [("a", 1.0)]


def test_errors():
    with pytest.raises(ValueError, match=r"`k` must be a positive integer. Received: k=0."):
        top_classes(["a"], [1.0], 0)
    with pytest.raises(ValueError, match=r"the shape \(2,\), one for each class. .*shape=\(1,\)"):
        top_classes(["a", "b"], [1.0])
