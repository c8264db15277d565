import io
import re

import numpy as np
import pytest
from matplotlib.colors import to_hex

from tests.tuning.results.test_trials import make_trial
from tuning.results.figures import heat_map, pareto


def search(clusters=(16, 32, 64, 128), units=(64, 128, 256, 512)):
    """A trial for each pair; the best has K = 64 and U = 256."""
    pairs = [(k, u) for k in clusters for u in units]
    return [
        make_trial(
            number,
            values={"num_clusters": k, "units": u},
            val_top1=0.6 - abs(np.log2(k / 64)) / 50 - abs(np.log2(u / 256)) / 40,
            parameters=k * 512 + 3 * u * (u + 512),
        )
        for number, (k, u) in enumerate(pairs)
    ]


def draw(figure):
    """Draws a figure and returns its first axes."""
    figure.savefig(io.BytesIO(), format="png")
    return figure.axes[0]


def texts(axis):
    return [text.get_text() for text in axis.texts]


def tick_labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


class TestHeatMap:
    def test_cells(self):
        trials = search()
        axis = draw(heat_map(trials[::-1]))
        assert tick_labels(axis.yaxis) == ["16", "32", "64", "128"]
        assert tick_labels(axis.xaxis) == ["64", "128", "256", "512"]
        means = np.array([100 * trial.metrics["val_top1"] for trial in trials]).reshape(4, 4)
        np.testing.assert_allclose(axis.images[0].get_array(), means)
        where = {text.get_position(): text.get_text() for text in axis.texts}
        assert where == {(j, i): f"{means[i, j]:.1f}" for i in range(4) for j in range(4)}
        assert (axis.get_xlabel(), axis.get_ylabel()) == ("units", "num_clusters")
        assert axis.patches[0].get_xy() == (1.5, 1.5)  # K = 64, U = 256

    def test_shared_and_empty_cells(self):
        trials = [
            make_trial(0, values={"num_clusters": 8, "units": 4}, val_top1=0.5),
            make_trial(1, values={"num_clusters": 8, "units": 4}, val_top1=0.7),
            make_trial(2, values={"num_clusters": 8, "units": 2}, val_top1=0.65),
            make_trial(3, values={"num_clusters": 16, "units": 2}, val_top1=0.1),
            make_trial(4, values={"num_clusters": 16, "units": 4}, status="failed"),
            make_trial(5, values={"num_clusters": 16, "units": 4}, val_top1=float("nan")),
            make_trial(6, values={"num_clusters": 32}, val_top1=1.0),
        ]
        axis = draw(heat_map(trials))
        assert sorted(texts(axis)) == ["10.0", "60.0\n(2 trials)", "65.0"]
        assert axis.images[0].get_array().mask.tolist() == [[False, False], [False, True]]
        assert axis.patches[0].get_xy() == (-0.5, -0.5)

    def test_other_values_and_measure(self):
        names = {"optimizer": ["sgd", "adam"], "bidirectional": [True, False]}
        trials = [
            make_trial(i, values={"optimizer": optimizer, "bidirectional": both}, speed=10.25 + i)
            for i, (optimizer, both) in enumerate(
                (optimizer, both)
                for optimizer in names["optimizer"]
                for both in names["bidirectional"]
            )
        ]
        figure = heat_map(trials, rows="optimizer", columns="bidirectional", measure="speed")
        axis = draw(figure)
        assert tick_labels(axis.yaxis) == ["adam", "sgd"]
        assert tick_labels(axis.xaxis) == ["False", "True"]
        assert sorted(texts(axis)) == ["10.2", "11.2", "12.2", "13.2"]
        assert figure.axes[1].get_ylabel() == "speed"

    @pytest.mark.parametrize(
        ("trials", "message"),
        [
            ([], "No completed trial has a finite `val_top1`: nothing to draw."),
            (
                [make_trial(0, values={"units": 2}, val_top1=0.5)],
                "No completed trial has both `num_clusters` and `units`: nothing to draw.",
            ),
        ],
    )
    def test_errors(self, trials, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            heat_map(trials)


class TestPareto:
    def test_front(self):
        trials = [
            make_trial(0, val_top1=0.9, parameters=30_000),
            make_trial(1, val_top1=0.5, parameters=10_000),
            make_trial(2, val_top1=0.4, parameters=20_000),
            make_trial(3, parameters=5_000),
        ]
        axis = draw(pareto(trials))
        points = axis.collections[0].get_offsets().tolist()
        assert points == [[30_000, 90], [10_000, 50], [20_000, 40]]
        (line,) = axis.lines
        assert line.get_drawstyle() == "steps-post"
        assert line.get_xydata().tolist() == [[10_000, 50], [30_000, 90]]
        assert {text.get_text(): text.xy for text in axis.texts} == {
            "01": (10_000, 50),
            "00": (30_000, 90),
        }
        assert to_hex(line.get_color()) != to_hex(axis.collections[0].get_facecolor()[0])
        assert (axis.get_xlabel(), axis.get_ylabel()) == ("parameters", "validation top-1, %")
        assert axis.get_xscale() == "linear"
        assert "20k" in tick_labels(axis.xaxis)

    @pytest.mark.parametrize(
        ("costs", "scale", "shown"),
        [
            ((100_000, 2_000_000), "log", ["100k", "200k", "500k", "1M", "2M"]),
            ((2, 40), "log", ["2", "5", "10", "20"]),
            ((20, 60), "linear", ["20", "30", "40", "50", "60"]),
            ((0, 60), "linear", ["0", "20", "40", "60"]),
        ],
    )
    def test_scale_of_costs(self, costs, scale, shown):
        trials = [make_trial(i, val_mAP=0.5 + i / 9, cost=cost) for i, cost in enumerate(costs)]
        axis = draw(pareto(trials, measure="val_mAP", cost="cost"))
        assert axis.get_xscale() == scale
        assert set(shown) <= set(tick_labels(axis.xaxis))
        assert axis.get_ylabel() == "validation mAP, %"

    def test_error(self):
        message = "No completed trial has a finite `val_top1` and `litert_ms`: nothing to draw."
        with pytest.raises(ValueError, match=re.escape(message)):
            pareto([make_trial(0, val_top1=0.5)], cost="litert_ms")
