"""The proof of an export: it must find what is wrong."""

import numpy as np
import pytest
import tensorflow as tf

from export import parity
from export.parity import ParityError, check_parity, compare_probabilities, made_clips
from tests.helpers import tiny_backbone
from tfvlad.models import ClipModel, average_pooling

SHAPE = (3, 8, 8, 3)


class Means(tf.Module):
    """Shares of the colours of a clip: a model of three classes without weights."""

    @tf.function(input_signature=[tf.TensorSpec((1, *SHAPE), tf.uint8, name="frames")])
    def classify(self, frames):
        means = tf.reduce_mean(tf.cast(frames, tf.float32), (1, 2, 3))
        return {"probabilities": means / tf.reduce_sum(means, -1, keepdims=True)}


@pytest.fixture
def artifact(tmp_path):
    """A LiteRT file of `Means`: it runs without the seconds that TensorFlow takes to begin."""
    means = Means()
    tf.saved_model.save(means, str(tmp_path / "saved"), {"classify": means.classify})
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(tmp_path / "saved"), signature_keys=["classify"]
    )
    path = tmp_path / "model.tflite"
    path.write_bytes(converter.convert())
    return path


def answer(clip):
    means = clip["frames"].astype("float64").mean((1, 2, 3))[0]
    return means / means.sum()


@pytest.fixture(scope="module")
def clips():
    rng = np.random.default_rng(0)
    return [{"frames": rng.integers(1, 256, SHAPE).astype("uint8")} for _ in range(5)]


def test_comparison_by_hand():
    expected = np.array([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25], [0.9, 0.05, 0.05], [0.5, 0.3, 0.2]])
    answered = np.array([[0.6, 0.3, 0.1], [0.3, 0.45, 0.25], [0.9, 0.05, 0.05], [0.5, 0.3, 0.2]])
    found = compare_probabilities(expected, answered)
    assert found.num_clips == 4
    assert found.largest_difference == pytest.approx(0.1)
    assert found.mean_difference == pytest.approx(0.05)
    # The second clip flips; its margin of 0.05 is the smallest.
    assert found.top1_agreement == 0.75
    assert found.clear_top1_agreement == 1.0


def test_report_of_an_equal_artifact(artifact, clips):
    report = check_parity(artifact, answer, clips)
    assert report.largest_difference < 1e-6
    assert report.top1_agreement == report.clear_top1_agreement == 1.0
    assert report.precision == "float32"
    assert report.limit == {"largest_difference": 1e-4}
    assert report.bytes == artifact.stat().st_size
    assert 0 < report.latency_ms < 1e4
    assert list(report.signatures) == ["classify"]


@pytest.fixture
def answers(monkeypatch, clips):
    """Sets what the artifact seems to have answered."""

    def set_answers(probabilities):
        found = {"classify": np.asarray(probabilities)}, np.ones(len(clips))
        monkeypatch.setattr(parity, "run_artifact", lambda *arguments: found)

    return set_answers


def test_another_answer_is_an_error(tmp_path, clips, answers):
    answers([answer({"frames": clip["frames"][np.newaxis]})[[1, 0, 2]] for clip in clips])
    with pytest.raises(ParityError, match=r"largest difference .* on 5 clips, more than 0\.0001"):
        check_parity(tmp_path, answer, clips)
    assert check_parity(tmp_path, answer, clips, tolerance=0.5).largest_difference > 1e-3


def test_reduced_precision_is_judged_by_the_mean(tmp_path, clips, answers):
    expected = np.stack([answer({"frames": clip["frames"][np.newaxis]}) for clip in clips])
    expected[0] += [0.1, -0.1, 0]  # one clip of five: 0.02 in the mean
    answers(expected)
    report = check_parity(tmp_path, answer, clips, precision="float16")
    assert report.limit == {"mean_difference": 0.03}
    assert report.largest_difference == pytest.approx(0.1)
    expected[1] += [0.1, -0.1, 0]
    answers(expected)
    with pytest.raises(ParityError, match=r"float16 export differs.*mean difference 0\.04"):
        check_parity(tmp_path, answer, clips, precision="float16")


def test_answers_that_are_no_numbers(tmp_path, clips, answers):
    answers(np.full((5, 3), np.nan))
    with pytest.raises(ParityError, match="int8 export gives numbers that are not finite"):
        check_parity(tmp_path, answer, clips, precision="int8")


def test_a_model_that_gives_no_numbers(tmp_path, clips, answers):
    answers([answer({"frames": clip["frames"][np.newaxis]}) for clip in clips])
    with pytest.raises(ParityError, match="The model gives numbers that are not finite"):
        check_parity(tmp_path, lambda clip: np.full(3, np.nan), clips)
    with pytest.raises(ParityError, match="more than nan"):
        check_parity(tmp_path, answer, clips, tolerance=float("nan"))


def test_every_signature_is_proved(tmp_path, clips, monkeypatch):
    expected = np.stack([answer({"frames": clip["frames"][np.newaxis]}) for clip in clips])
    found = {"serving_default": expected, "stream": expected[0] + [0.001, -0.001, 0]}
    monkeypatch.setattr(parity, "run_artifact", lambda *arguments: (found, np.ones(5)))
    with pytest.raises(ParityError, match=r"largest difference 0\.001 of 'stream'"):
        check_parity(tmp_path, answer, clips)


def test_an_artifact_that_does_not_run(tmp_path, clips):
    artifact = tmp_path / "model.tflite"
    artifact.write_bytes(b"no model")
    with pytest.raises(ParityError, match=r"does not run \(exit code 1\): ValueError: .+"):
        check_parity(artifact, answer, clips)


def test_made_clips():
    model = average_pooling(tiny_backbone(), 3, num_frames=4)
    clip_model = ClipModel(model, ("a", "b", "c"), short_side=32)
    clips = made_clips(clip_model, 3)
    assert [clip["frames"].shape for clip in clips] == [(4, 32, 32, 3)] * 3
    assert {clip["frames"].dtype for clip in clips} == {np.dtype("uint8")}
    assert len({clip["frames"].tobytes() for clip in clips}) == 3
    again = made_clips(clip_model, 3)
    assert all(np.array_equal(a["frames"], b["frames"]) for a, b in zip(clips, again, strict=True))
