import io
import re

import numpy as np
import pytest
from matplotlib.colors import to_hex

from tests.helpers import normal
from tfvlad.visualization import embed, embedding_figure


class TestEmbed:
    def test_clusters_stay_together(self):
        labels = np.repeat(np.arange(3), 20)
        centers = 20 * normal(3, 80, seed=1)
        points = embed(centers[labels] + normal(60, 80))
        assert points.shape == (60, 2)
        distances = np.linalg.norm(points[:, np.newaxis] - points, axis=-1)
        np.fill_diagonal(distances, np.inf)
        np.testing.assert_array_equal(labels[distances.argmin(axis=1)], labels)
        same = labels[:, np.newaxis] == labels
        assert distances[~same].min() > distances[same & np.isfinite(distances)].mean()

    def test_seed(self):
        vectors = normal(12, 5)
        np.testing.assert_array_equal(embed(vectors), embed(vectors))
        assert np.abs(embed(vectors) - embed(vectors, seed=1)).max() > 0.1

    @pytest.mark.parametrize("shape", [(4, 100), (5, 1), (7, 2)])
    def test_few_points_and_channels(self, shape):
        points = embed(normal(*shape))
        assert points.shape == (shape[0], 2)
        assert np.isfinite(points).all()

    @pytest.mark.parametrize(
        ("vectors", "message"),
        [
            (
                normal(3, 5),
                "`vectors` must have shape (n, D) with n of 4 or more. Received: shape=",
            ),
            (normal(5), "Received: shape=(5,)."),
            (np.full((4, 2), np.nan), "`vectors` must be finite. Received: NaN or infinity."),
        ],
    )
    def test_errors(self, vectors, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            embed(vectors)


def groups(figure):
    """Points and color of each name."""
    figure.savefig(io.BytesIO(), format="png")
    return {
        group.get_label(): (group.get_offsets().tolist(), to_hex(group.get_facecolor()[0]))
        for group in figure.axes[0].collections
    }


class TestFigure:
    def test_a_color_for_each_name(self):
        points = np.arange(8).reshape(4, 2)
        figure = embedding_figure(points, ["run", "dive", "run", "wave"], title="classes")
        found = groups(figure)
        assert {name: where for name, (where, _) in found.items()} == {
            "dive": [[2, 3]],
            "run": [[0, 1], [4, 5]],
            "wave": [[6, 7]],
        }
        assert len({color for _, color in found.values()}) == 3
        assert [t.get_text() for t in figure.legends[0].get_texts()] == ["dive", "run", "wave"]
        assert figure.get_suptitle() == "classes"

    @pytest.mark.parametrize(("count", "has_legend"), [(30, True), (31, False)])
    def test_many_names(self, count, has_legend):
        figure = embedding_figure(normal(count, 2), [f"video {i:02}" for i in range(count)])
        found = groups(figure)
        assert len(found) == len({color for _, color in found.values()}) == count
        assert bool(figure.legends) == has_legend

    def test_errors(self):
        message = (
            "`points` must have shape (n, 2) and `labels` n names. "
            "Received: points of shape (4, 2), 3 labels."
        )
        with pytest.raises(ValueError, match=re.escape(message)):
            embedding_figure(normal(4, 2), ["a", "b", "c"])
