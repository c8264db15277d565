"""Optical flow, a flow stream and two streams, by the commands."""

import json
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tfvlad.cli.commands import assert_one_sentence, tfvlad, write_parts, write_video
from tfvlad.cli.clip_sources import flow_folder

pytestmark = pytest.mark.usefixtures("eagerly")

SMALL = (
    *("--backbone", "resnet18", "--weights", "none", "--image-size", 32, "--frames", 2),
    *("--clusters", 4, "--epochs", 1, 0, "--cached-crops", 1, "--batch-size", 4),
    *("--stack-frames", 3),
)


def train(data, run, *options):
    # What it switches on cannot be switched off again: it stays out of this process.
    with mock.patch.object(tf.config.experimental, "enable_op_determinism"):
        return tfvlad("train", data, run, *SMALL, *options)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_parts(tmp_path_factory.mktemp("data") / "videos", num_train=4, num_test=2)


@pytest.fixture(scope="module")
def flow(videos):
    result = tfvlad("flow", videos, videos.parent / "flow", "--method", "dis", "--short-side", 40)
    assert result.exit_code == 0, result.errors
    return videos.parent / "flow"


@pytest.fixture(scope="module")
def runs(videos, flow, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, data, options in (
        ("flow", flow, ("--model", "action-vlad", "--stream", "flow")),
        ("early", videos, ("--model", "two-stream", "--flow", flow, "--fusion", "early")),
    ):
        result = train(data, folder / name, *options)
        assert result.exit_code == 0, result.errors
    return folder


def scores_of(folder):
    with np.load(folder / "scores.npz") as arrays:
        return dict(arrays)


def test_runs(runs):
    for name, streams, shapes in (
        ("flow", ["flow"], [(None, 2, 32, 32, 6)]),
        ("early", ["rgb", "flow"], [(None, 2, 32, 32, 3), (None, 2, 32, 32, 6)]),
    ):
        config = json.loads((runs / name / "config.json").read_text())
        assert config["streams"] == streams
        assert config["flow"]["method"] == "dis"
        model = keras.models.load_model(runs / name / "model.keras")
        assert [tuple(x.shape) for x in model.inputs] == shapes
        tested = scores_of(runs / name)
        assert sorted(tested["clips"]) == ["green/test0", "green/test1", "red/test0", "red/test1"]
        assert tested["logits"].shape == (4, 2)


@pytest.mark.parametrize("name", ["flow", "early"])
def test_predict_computes_the_flow(runs, videos, name):
    paths = [videos / "test" / label / "test0.mp4" for label in ("red", "green")]
    result = tfvlad("predict", runs / name, *paths, "--json")
    assert result.exit_code == 0, result.errors
    tested = scores_of(runs / name)
    for path, found in json.loads(result.output)["predictions"].items():
        (row,) = np.flatnonzero(tested["clips"] == "/".join(path.split("/")[-2:])[: -len(".mp4")])
        logits = tested["logits"][row]
        expected = np.exp(logits.max()) / np.exp(logits).sum()
        assert found[0]["probability"] == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("name", ["flow", "early"])
def test_evaluate_as_one_bag(runs, tmp_path, name):
    views = ("--test-crops", 5, "--test-clips", 2)
    result = tfvlad("evaluate", runs / name, *views, "--one-bag", "--output", tmp_path / "bag")
    assert result.exit_code == 0, result.errors
    result = tfvlad("evaluate", runs / name, *views, "--output", tmp_path / "mean")
    assert result.exit_code == 0, result.errors
    told = json.loads((tmp_path / "bag" / "evaluation.json").read_text())
    assert (told["test_crops"], told["test_clips"], told["one_bag"]) == (5, 2, True)
    bag, mean = (scores_of(tmp_path / place)["logits"] for place in ("bag", "mean"))
    assert np.abs(bag - mean).max() > 1e-4


def test_evaluate_other_folders(runs, videos, flow, tmp_path):
    arguments = ("evaluate", runs / "early", videos / "test")
    result = tfvlad(*arguments, "--flow", flow / "test", "--output", tmp_path)
    assert result.exit_code == 0, result.errors
    np.testing.assert_allclose(
        scores_of(tmp_path)["logits"], scores_of(runs / "early")["logits"], atol=0.02
    )
    assert_one_sentence(tfvlad(*arguments), "needs both DATA and --flow")


def test_fuse_runs(runs):
    result = tfvlad("fuse", runs / "flow", runs / "early", "--weights", "0.25", "0.75", "--json")
    assert result.exit_code == 0, result.errors
    both = [scores_of(runs / name) for name in ("flow", "early")]
    fused = 0.25 * both[0]["logits"] + 0.75 * both[1]["logits"]
    top1 = np.mean(fused.argmax(axis=-1) == both[0]["labels"])
    assert f"{top1}" in result.output or f"{100 * top1:.2f}" in result.output


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--model", "two-stream"), "--model two-stream needs --flow"),
        (("--flow", "FLOW"), "--flow has no effect on --model ta-vlad"),
        (("--model", "max-pooling", "--temporal", "flattened-gru"), "--temporal has no effect"),
        (("--model", "action-vlad", "--freeze-attention"), "--freeze-attention has no effect"),
        (("--model", "average-pooling", "--fixed-centers"), "--fixed-centers has no effect"),
        (("--aggregate-at", "layer9"), "`layer` must be one of pooled, "),
    ],
)
def test_options_that_do_not_fit(videos, flow, tmp_path, options, sentence):
    options = [flow if option == "FLOW" else option for option in options]
    streams = () if "two-stream" in options else ("--stream", "rgb")
    with mock.patch("tests.tfvlad.cli.test_streams.SMALL", SMALL[:-2]):
        result = train(videos, tmp_path / "run", *streams, *options)
    assert_one_sentence(result, sentence)
    assert not (tmp_path / "run").exists()


def test_stack_frames_are_of_flow(videos, tmp_path):
    result = train(videos, tmp_path / "run")
    assert_one_sentence(result, "--stack-frames has no effect on --stream rgb")


def test_flow_has_no_colours(flow, tmp_path):
    result = train(flow, tmp_path / "run", "--stream", "flow", "--color-jitter", 0.2)
    assert_one_sentence(result, "--color-jitter has no effect on --stream flow")


def test_one_bag_is_refused_before_the_training(flow, tmp_path):
    options = ("--stream", "flow", "--units", 4, "--test-crops", 5, "--one-bag")
    result = train(flow, tmp_path / "run", *options)
    assert_one_sentence(result, "reads the frames in their order (shared_gru)")
    assert not (tmp_path / "run").exists()


def test_dense_layers_have_no_download(videos, tmp_path):
    options = ("--backbone", "vgg16", "--aggregate-at", "fc7", "--epochs", 1, 0)
    with mock.patch("tests.tfvlad.cli.test_streams.SMALL", ()):
        result = train(videos, tmp_path / "run", *options)
    assert_one_sentence(result, "There is nothing to download for fc7: give --weights")


@pytest.mark.parametrize(
    ("path", "data", "expected"),
    [
        ("/x/videos/run/1.avi", "/x/videos", "/flow/run/1"),
        ("/x/videos/run/clip.avi.mp4", "/x/videos", "/flow/run/clip.avi"),
        ("/x/videos/run/frames.1", "/x/videos", "/flow/run/frames.1"),
    ],
)
def test_flow_folder(path, data, expected):
    assert flow_folder(path, data, "/flow") == expected


def test_flow_folder_of_a_list(tmp_path):
    (tmp_path / "list.csv").touch()
    video = str(tmp_path / "videos" / "1.mp4")
    assert flow_folder(video, str(tmp_path / "list.csv"), "/flow") == "/flow/videos/1"
    with pytest.raises(ValueError, match="does not lie there"):
        flow_folder("/elsewhere/1.mp4", str(tmp_path / "list.csv"), "/flow")


def test_a_video_without_flow_is_named_and_the_others_predicted(runs, videos, tmp_path):
    good = videos / "test" / "red" / "test0.mp4"
    short = write_video(tmp_path / "one_frame.mp4", 0, num_frames=1)
    result = tfvlad("predict", runs / "flow", good, short, "--json")
    assert result.exit_code == 1
    report = json.loads(result.output)
    assert list(report["predictions"]) == [str(good)]
    assert [video["path"] for video in report["broken"]] == [str(short)]


def test_flow_of_videos(videos, tmp_path):
    """Videos in the place of their flow."""
    result = train(videos, tmp_path / "run", "--stream", "flow")
    assert result.exit_code == 1
    assert "tfvlad flow" in result.errors.splitlines()[-1]


@pytest.mark.current
@pytest.mark.slow
def test_export(videos, runs, tmp_path):
    """A model of two streams, and the fusion of two runs, proved on clips of both streams."""
    with mock.patch("tests.tfvlad.cli.test_streams.SMALL", SMALL[:-2]):
        result = train(videos, tmp_path / "rgb", "--model", "action-vlad")
    assert result.exit_code == 0, result.errors
    for number, models in enumerate(([runs / "early"], [tmp_path / "rgb", runs / "flow"])):
        target = tmp_path / f"served{number}"
        result = tfvlad("export", *models, target, "--to", "saved-model", "--json")
        assert result.exit_code == 0, result.errors
        report = json.loads(result.output)
        assert (report["clips"], report["num_clips"]) == ("given", 2)
        loaded = tf.saved_model.load(report["path"])
        _, taken = loaded.signatures["encoded_frames"].structured_input_signature
        assert {name: tuple(spec.shape) for name, spec in taken.items()} == {
            "frames": (None, 2),
            "flow": (None, 2, 6),
        }
