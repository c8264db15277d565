"""Runs on a stream of optical flow, and on two streams."""

import json
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

import tfvlad
from pipelines import extract_flow
from tests.tfvlad_cli import commands
from tests.tfvlad_cli.commands import write_parts, write_video
from tfvlad.runs.clip_sources import flow_folder

pytestmark = pytest.mark.usefixtures("eagerly", "small_networks")

SMALL = {
    **{"backbone": "resnet18", "weights": None, "image_size": 32, "num_frames": 2},
    **{"num_clusters": 4, "epochs": (1, 0), "num_cached_crops": 1, "batch_size": 4},
}


def train(data, folder, **options):
    # What it switches on cannot be switched off again: it stays out of this process.
    with mock.patch.object(tf.config.experimental, "enable_op_determinism"):
        return tfvlad.train(data, folder, **{**SMALL, **options})


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_parts(tmp_path_factory.mktemp("data") / "videos", num_train=4, num_test=2)


@pytest.fixture(scope="module")
def flow(videos):
    folder = videos.parent / "flow"
    extract_flow(videos, folder, method="dis", short_side=40)
    return folder


@pytest.fixture(scope="module")
def runs(videos, flow, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    stack = {"stack_frames": 3}
    return {
        "flow": train(flow, folder / "flow", model="action-vlad", stream="flow", **stack),
        "early": train(
            videos, folder / "early", model="two-stream", flow=flow, fusion="early", **stack
        ),
    }


def scores_of(folder):
    with np.load(folder / "scores.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize(
    ("name", "streams", "shapes"),
    [
        ("flow", ("flow",), [(None, 2, 32, 32, 6)]),
        ("early", ("rgb", "flow"), [(None, 2, 32, 32, 3), (None, 2, 32, 32, 6)]),
    ],
)
def test_runs(runs, name, streams, shapes):
    run = runs[name]
    assert run.settings.streams == streams
    assert run.config.flow["method"] == "dis"
    assert [tuple(x.shape) for x in run.model.inputs] == shapes
    tested = scores_of(run.folder)
    assert sorted(tested["clips"]) == ["green/test0", "green/test1", "red/test0", "red/test1"]
    assert tested["logits"].shape == (4, 2)


@pytest.mark.parametrize("name", ["flow", "early"])
def test_predict_computes_the_flow(runs, videos, name):
    paths = [videos / "test" / label / "test0.mp4" for label in ("red", "green")]
    tested = scores_of(runs[name].folder)
    for found in runs[name].predict(paths):
        clip = "/".join(found.path.split("/")[-2:]).removesuffix(".mp4")
        (row,) = np.flatnonzero(tested["clips"] == clip)
        logits = tested["logits"][row]
        expected = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(found.probabilities, expected, atol=0.01)


@pytest.mark.parametrize("name", ["flow", "early"])
def test_evaluate_as_one_bag(runs, tmp_path, name):
    views = {"test_crops": 5, "test_clips": 2}
    runs[name].evaluate(**views, one_bag=True, output=tmp_path / "bag")
    runs[name].evaluate(**views, output=tmp_path / "mean")
    told = json.loads((tmp_path / "bag" / "evaluation.json").read_text())
    assert (told["test_crops"], told["test_clips"], told["one_bag"]) == (5, 2, True)
    bag, mean = (scores_of(tmp_path / place)["logits"] for place in ("bag", "mean"))
    assert np.abs(bag - mean).max() > 1e-4


@pytest.mark.parametrize("name", ["flow", "early"])
def test_controls(runs, tmp_path, name):
    """A frame never meets the flow of another one: ActionVLAD's sum over time is the same."""
    found = runs[name].evaluate(controls=True, output=tmp_path)
    assert not found.controls.reads_order
    logits = [scores_of(place)["logits"] for place in (tmp_path, tmp_path / "one_frame")]
    assert np.abs(logits[0] - logits[1]).max() > 1e-6


def test_evaluate_other_folders(runs, videos, flow, tmp_path):
    run = runs["early"]
    run.evaluate(videos / "test", flow=flow / "test", output=tmp_path)
    np.testing.assert_allclose(
        scores_of(tmp_path)["logits"], scores_of(run.folder)["logits"], atol=0.02
    )
    with pytest.raises(ValueError, match=r"A two-stream model needs `flow` beside `data`\."):
        run.evaluate(videos / "test")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "two-stream"}, r"A two-stream model needs `flow`, a folder that"),
        ({"flow": "FLOW"}, r"`flow` has no effect on model='ta-vlad'\. .* Leave it out\."),
        (
            {"model": "two-stream", "flow": "FLOW", "test_data": "FLOW"},
            r"`test_data` has no effect on model='two-stream', whose flow lies beside",
        ),
        ({"aggregate_at": "layer9"}, r"`layer` must be one of pooled, "),
        (
            {"backbone": "vgg16", "aggregate_at": "fc7", "weights": "imagenet"},
            r"There is nothing to download for fc7\. Give `weights`",
        ),
    ],
)
def test_settings_that_do_not_fit(videos, flow, tmp_path, options, message):
    options = {name: flow if value == "FLOW" else value for name, value in options.items()}
    with pytest.raises(ValueError, match=message):
        train(videos, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


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
    found = runs["flow"].predict([good, short])
    assert [answer.path for answer in found] == [str(good)]
    assert [video.path for video in found.broken] == [str(short)]


def test_flow_of_videos(videos, tmp_path):
    """Videos in the place of their flow."""
    with pytest.raises(ValueError, match=r"optical flow"):
        train(videos, tmp_path / "run", stream="flow")


@pytest.mark.current
@pytest.mark.slow
def test_export(videos, runs, tmp_path):
    """A model of two streams, and the fusion of two runs, proved on clips of both streams."""
    rgb = train(videos, tmp_path / "rgb", model="action-vlad").folder
    flow, early = runs["flow"].folder, runs["early"].folder
    for number, models in enumerate(([early], [rgb, flow])):
        target = tmp_path / f"served{number}"
        result = commands.tfvlad("export", *models, target, "--to", "saved-model", "--json")
        assert result.exit_code == 0, result.errors
        report = json.loads(result.output)
        assert (report["clips"], report["num_clips"]) == ("given", 2)
        loaded = tf.saved_model.load(report["path"])
        _, taken = loaded.signatures["encoded_frames"].structured_input_signature
        assert {name: tuple(spec.shape) for name, spec in taken.items()} == {
            "frames": (None, 2),
            "flow": (None, 2, 6),
        }
