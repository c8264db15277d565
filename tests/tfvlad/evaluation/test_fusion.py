import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.helpers import normal
from tfvlad.evaluation import (
    ScoreFile,
    align_files,
    class_probabilities,
    fuse_scores,
    top_k_accuracy,
)

MODELS = [3 * normal(6, 4, seed=n) for n in range(3)]
WEIGHTS = [0.2, 0.5, 0.7]


def softmax(row):
    exponentials = [np.exp(value) for value in row]
    return np.array([value / sum(exponentials) for value in exponentials])


class TestFuseScores:
    def test_logits_are_added_as_they_are(self):
        expected = 0.2 * MODELS[0] + 0.5 * MODELS[1] + 0.7 * MODELS[2]
        np.testing.assert_allclose(fuse_scores(MODELS, WEIGHTS), expected, rtol=1e-5)
        np.testing.assert_allclose(
            fuse_scores(MODELS), np.mean(np.float64(MODELS), axis=0), atol=1e-12
        )

    def test_probabilities(self):
        fused = fuse_scores(MODELS, WEIGHTS, on="probabilities")
        for row, *rows in zip(fused, *np.float64(MODELS), strict=True):
            mean = sum(w * softmax(r) for w, r in zip(WEIGHTS, rows, strict=True)) / sum(WEIGHTS)
            np.testing.assert_allclose(np.exp(row), mean)
        np.testing.assert_allclose(class_probabilities(fused).sum(axis=1), 1)

    def test_multi_label_probabilities(self):
        fused = fuse_scores(MODELS, WEIGHTS, on="probabilities", multi_label=True)
        sigmoids = [1 / (1 + np.exp(-np.float64(model))) for model in MODELS]
        mean = sum(w * p for w, p in zip(WEIGHTS, sigmoids, strict=True)) / sum(WEIGHTS)
        np.testing.assert_allclose(class_probabilities(fused, multi_label=True), mean)
        # A sigmoid of 40 rounds to 1, whose logit would be infinite.
        far = fuse_scores([[[40.0]], [[41.0]]], on="probabilities", multi_label=True)
        np.testing.assert_allclose(far, np.log(2) + 40 - np.log(1 + np.exp(-1)))

    def test_normalized(self):
        fused = fuse_scores(MODELS[:2], [0.75, 0.25], on="normalized")
        for row, first, second in zip(fused, *np.float64(MODELS[:2]), strict=True):
            expected = 0.75 * first / np.sqrt((first**2).sum())
            expected += 0.25 * second / np.sqrt((second**2).sum())
            np.testing.assert_allclose(row, expected)
        np.testing.assert_array_equal(fuse_scores([np.zeros((1, 3))], on="normalized"), [[0] * 3])
        np.testing.assert_allclose(
            fuse_scores([100 * MODELS[0], MODELS[1]], on="normalized"),
            fuse_scores(MODELS[:2], on="normalized"),
            rtol=1e-5,
        )

    def test_a_weight_of_0_leaves_a_model_out(self):
        broken = np.full((6, 4), -np.inf)
        for on in ("logits", "probabilities", "normalized"):
            fused = fuse_scores([MODELS[0], broken], [2, 0], on)
            np.testing.assert_array_equal(fused, fuse_scores(MODELS[:1], [2], on))

    def test_log_probabilities_of_0(self):
        fused = fuse_scores([[[0.0, -np.inf]], [[-np.inf, -np.inf]]], on="logits")
        np.testing.assert_array_equal(fused, [[-np.inf, -np.inf]])
        fused = fuse_scores([[[0.0, -np.inf]], [[-np.inf, 0.0]]], on="probabilities")
        np.testing.assert_allclose(np.exp(fused), [[0.5, 0.5]])

    @pytest.mark.parametrize("on", ["logits", "probabilities", "normalized"])
    @given(
        models=hnp.arrays(np.float64, (2, 3, 4), elements=st.floats(-9, 9)),
        weights=st.tuples(st.floats(0.1, 1), st.floats(0.1, 1)),
    )
    def test_order_of_the_models_does_not_matter(self, on, models, weights):
        np.testing.assert_allclose(
            fuse_scores(models, weights, on),
            fuse_scores(models[::-1], weights[::-1], on),
            atol=1e-12,
        )

    @pytest.mark.parametrize(
        ("scores", "options", "message"),
        [
            ([], {}, "at least one model. Received: none"),
            ([normal(2, 3), normal(2, 4)], {}, r"have one shape .*\[\(2, 3\), \(2, 4\)\]"),
            ([normal(3)], {}, r"one shape \(num_clips, num_classes\).*\[\(3,\)\]"),
            ([[[0.0]], [[np.nan]]], {}, "NaN in row 0 of model 2"),
            ([[[0.0]], [[np.inf]], [[-np.inf]]], {}, "Infinite scores .* row 0 when fused on log"),
            ([[[-np.inf] * 2]], {"on": "probabilities"}, "no number of row 0 .* probabilities"),
            (MODELS, {"weights": [1, 2]}, "one for each of the 3 models. Received: 2 weights"),
            (MODELS, {"weights": [1, -2, 1]}, r"not negative .*Received: \[1\.0, -2\.0, 1\.0\]"),
            (MODELS, {"weights": [0, 0, 0]}, "not all 0"),
            (MODELS, {"weights": [1, np.nan, 0]}, "must be finite"),
            (MODELS, {"on": "scores"}, "one of logits, probabilities, normalized.*'scores'"),
        ],
    )
    def test_errors(self, scores, options, message):
        with pytest.raises(ValueError, match=message):
            fuse_scores(scores, **options)


@pytest.mark.parametrize(("on", "expected"), [("logits", "66.73"), ("probabilities", "64.12")])
def test_published_late_fusion(data_folder, on, expected):
    from tfvlad.evaluation import read_scores

    folder = data_folder / "hmdb51_logits"
    streams = [read_scores(folder / f"{name}_split1.h5").scores for name in ("rgb", "flow")]
    lines = (folder / "test_split1.txt").read_text().splitlines()
    labels = [int(line.split()[-1]) for line in lines]
    accuracies = [f"{100 * top_k_accuracy(scores, labels):.2f}" for scores in streams]
    assert accuracies == ["51.37", "58.95"]
    fused = fuse_scores(streams, [0.333, 0.667], on)
    assert f"{100 * top_k_accuracy(fused, labels):.2f}" == expected


class TestAlignFiles:
    def test_rows_are_matched_by_name(self):
        first = ScoreFile(np.array([[1.0], [2], [3]]), ("a", "b", "c"), np.array([0, 0, 0]))
        second = ScoreFile(np.array([[30.0], [10], [20]]), ("c", "a", "b"))
        one, other = align_files([first, second])
        assert one is first
        np.testing.assert_array_equal(other.scores, [[10], [20], [30]])
        assert other.clips == first.clips

    def test_files_without_names(self):
        files = [ScoreFile(normal(2, 3)), ScoreFile(normal(2, 3, seed=1))]
        assert align_files(files) == files

    @pytest.mark.parametrize(
        ("second", "message"),
        [
            (ScoreFile(normal(2, 2)), "Some of the score files name their clips"),
            (ScoreFile(normal(2, 2), ("a", "x")), "1 clips .* missing in file 2, first: b"),
            (ScoreFile(normal(3, 2), ("a", "x", "b")), "1 clips .* missing in file 1, first: x"),
            (ScoreFile(normal(2, 3), ("a", "b")), r"shapes \(2, 2\) of file 1 and \(2, 3\) of f"),
            (
                ScoreFile(normal(2, 2), ("b", "a"), np.array([0, 1])),
                "File 2 has other labels than file 1",
            ),
            (
                ScoreFile(normal(2, 2), ("a", "b"), class_names=("y", "x")),
                "File 2 has other class_names than file 1",
            ),
        ],
    )
    def test_errors(self, second, message):
        first = ScoreFile(normal(2, 2), ("a", "b"), np.array([0, 1]), ("x", "y"))
        with pytest.raises(ValueError, match=message):
            align_files([first, second])
