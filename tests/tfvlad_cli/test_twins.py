"""Every command and its call from Python give the same, on made videos."""

import filecmp
import json
from unittest import mock

import pytest
import tensorflow as tf

import tfvlad as library
import tuning
from pipelines import extract_flow, verify
from tests.tfvlad_cli.commands import tfvlad, write_parts, write_video
from tfvlad import studies

pytestmark = pytest.mark.usefixtures("eagerly", "small_networks")

FLAGS = (
    *("--backbone", "resnet18", "--weights", "none", "--image-size", 32, "--frames", 2),
    *("--clusters", 4, "--epochs", 1, 0, "--cached-crops", 1, "--batch-size", 4),
)
SETTINGS = {
    **{"backbone": "resnet18", "weights": None, "image_size": 32, "num_frames": 2},
    **{"num_clusters": 4, "epochs": (1, 0), "num_cached_crops": 1, "batch_size": 4},
}


def run_command(*arguments):
    # What a training switches on cannot be switched off again: it stays out of this process.
    with mock.patch.object(tf.config.experimental, "enable_op_determinism"):
        result = tfvlad(*arguments)
    assert result.exit_code == 0, result.errors
    return result


def same(printed, returned):
    """What `--json` prints is what the call's `to_dict` returns."""
    assert json.loads(printed.output) == json.loads(json.dumps(returned))


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_parts(tmp_path_factory.mktemp("data") / "videos", num_train=4, num_test=2)


@pytest.fixture(scope="module")
def runs(videos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for model in ("average-pooling", "action-vlad"):
        run_command("train", videos, folder / model, "--model", model, *FLAGS)
    return folder


def test_train(videos, runs):
    """The call goes on with the command's run: all settings are the same, and nothing is left."""
    folder = runs / "action-vlad"
    before = (folder / "model.keras").stat().st_mtime_ns
    run = library.train(videos, folder, model="action-vlad", **SETTINGS)
    assert (folder / "model.keras").stat().st_mtime_ns == before
    again = run_command("train", videos, folder, "--model", "action-vlad", *FLAGS, "--json")
    same(again, {"runs": [run.result]})


def test_repeated_training(videos, tmp_path):
    options = ("--model", "average-pooling", *FLAGS, "--seed", 0, "--seed", 1)
    printed = run_command("train", videos, tmp_path / "runs", *options, "--json")
    settings = {"model": "average-pooling", **SETTINGS}
    runs = studies.repeat(videos, tmp_path / "runs", seeds=[0, 1], **settings)
    same(printed, runs.to_dict())


def test_verify(videos):
    assert json.loads(run_command("verify", videos, "--json").output) == verify([videos]).to_dict()


def test_evaluate(runs, tmp_path):
    printed = run_command(
        *("evaluate", runs / "action-vlad", "--test-clips", 2, "--output", tmp_path / "a"),
        *("--controls", "--json"),
    )
    found = library.load(runs / "action-vlad").evaluate(
        test_clips=2, controls=True, output=tmp_path / "b"
    )
    same(printed, found.to_dict())
    assert filecmp.cmp(tmp_path / "a" / "per_class.csv", tmp_path / "b" / "per_class.csv")


def test_predict(videos, runs):
    paths = sorted((videos / "test" / "red").iterdir())
    printed = run_command("predict", runs / "action-vlad", *paths, "--json", "--top", 2)
    same(printed, library.load(runs / "action-vlad").predict(paths).to_dict(2))


def test_highlight(runs, tmp_path):
    video = write_video(tmp_path / "long.mp4", 0, num_frames=12)
    run_command(
        *("highlight", runs / "action-vlad", video, "--output", tmp_path / "a"),
        *("--threshold", 1.1, "--class", "green"),
    )
    found = library.load(runs / "action-vlad").highlight(video, threshold=1.1, class_name="green")
    found.save(tmp_path / "b")
    places = tmp_path / "a" / "long", tmp_path / "b"
    names = {path.name for path in places[0].iterdir()}
    assert names >= {"highlights.json", "timeline.png", "frames.png"}
    assert names == {path.name for path in places[1].iterdir()}
    for name in names:
        assert filecmp.cmp(places[0] / name, places[1] / name, shallow=False), name


def test_show(videos, runs, tmp_path):
    video = videos / "test" / "red" / "test0.mp4"
    printed = run_command(
        *("show", runs / "action-vlad", video, "--what", "words", "--output", tmp_path / "a"),
        "--json",
    )
    pictures = library.load(runs / "action-vlad").show([video], what=["words"])
    saved = [str(path) for path in pictures.save(tmp_path / "b")]
    written = json.loads(printed.output)["pictures"]
    assert [path.replace("/a/", "/b/") for path in written] == saved
    for one, other in zip(written, saved, strict=True):
        assert filecmp.cmp(one, other, shallow=False)


def test_watch(videos, runs):
    video = videos / "test" / "red" / "test0.mp4"
    printed = run_command("watch", runs / "action-vlad", video, "--frames-per-second", 5, "--json")
    lines = [json.loads(line) for line in printed.output.splitlines()]
    moments = list(library.load(runs / "action-vlad").watch(video, frames_per_second=5))
    assert [set(line) for line in lines] == [set(one.to_dict()) for one in moments]
    assert lines[-1]["top"][0]["class"] == moments[-1].top(1)[0].class_name


def test_compare(runs):
    pair = runs / "average-pooling", runs / "action-vlad"
    printed = json.loads(run_command("compare", *pair, "--json").output)
    (found,) = studies.compare(pair).differences
    assert [printed["first"], printed["second"]] == [found.first_top1, found.top1]
    assert printed["interval"] == list(found.difference)[1:]


def test_fuse(runs, tmp_path):
    pair = runs / "average-pooling", runs / "action-vlad"
    flags = ("--weights", 0.3, 0.7, "--on", "probabilities", "--output", tmp_path / "a.npz")
    printed = run_command("fuse", *pair, *flags, "--json")
    fusion = studies.fuse(pair, weights=[0.3, 0.7], on="probabilities")
    same(printed, fusion.to_dict())


def test_features_and_flow(videos, tmp_path):
    """The calls find what the commands have written whole, and of the same settings."""
    flags = ("--network", "resnet18", "--weights", "none", "--image-size", 32, "--no-flipped")
    printed = run_command("features", videos / "test", tmp_path / "features", *flags, "--json")
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "features").rglob("*.h5")}
    found = library.extract_features(
        videos / "test",
        tmp_path / "features",
        network="resnet18",
        weights=None,
        image_size=32,
        flipped=False,
    )
    same(printed, found.to_dict())
    assert {path: path.stat().st_mtime_ns for path in files} == files
    flags = ("--method", "farneback", "--short-side", 32)
    printed = run_command("flow", videos / "test", tmp_path / "flow", *flags, "--json")
    found = extract_flow(videos / "test", tmp_path / "flow", method="farneback", short_side=32)
    same(printed, found.to_dict())


def test_ablation(videos, tmp_path):
    variants = ("--variant", "average-pooling", "--variant", "action-vlad:clusters=3")
    printed = run_command("ablation", videos, tmp_path / "study", *variants, *FLAGS, "--json")
    changes = {**studies.VARIANTS["action-vlad"].changes, "num_clusters": 3}
    chosen = ["average-pooling", studies.Variant("action-vlad:clusters=3", changes)]
    same(printed, studies.ablation(videos, tmp_path / "study", chosen, **SETTINGS).to_dict())


def test_demo(tmp_path):
    """A demo that is finished is not made again."""
    with mock.patch("tfvlad.studies.demo") as demo:
        demo.return_value = studies.Demo(tmp_path, {}, ())
        result = tfvlad("demo", tmp_path, "--seed", 3, "--json")
    assert result.exit_code == 0, result.errors
    assert demo.call_args == mock.call(str(tmp_path), seed=3)
    same(result, {})


@pytest.mark.current
@pytest.mark.parametrize(
    ("target", "function", "flags", "arguments"),
    [
        ("saved-model", "saved_model", ("--version", 3), {"version": 3}),
        (
            "litert",
            "litert",
            ("--precision", "int8", "--streaming", "--videos", "HERE", "--tolerance", 0.2),
            {"precision": "int8", "streaming": True, "videos": ("HERE",), "tolerance": 0.2},
        ),
    ],
)
def test_export(runs, videos, tmp_path, target, function, flags, arguments):
    """What the calls write is tested with them: the command only translates."""
    here = {"HERE": str(videos), ("HERE",): (str(videos),)}
    with mock.patch(f"export.{function}") as write:
        write.return_value.to_dict.return_value = {"path": "there"}
        printed = run_command(
            *("export", runs / "action-vlad", tmp_path / "there", "--to", target),
            *(here.get(flag, flag) for flag in flags),
            "--json",
        )
    same(printed, {"path": "there"})
    ((model, path), given) = write.call_args
    assert [str(one) for one in (model if isinstance(model, tuple) else [model])] == [
        str(runs / "action-vlad")
    ]
    assert str(path) == str(tmp_path / "there")
    assert given == {name: here.get(value, value) for name, value in arguments.items()}


def test_tune(videos, tmp_path):
    """The call goes on with the command's search, and finds nothing left to try."""
    flags = ("--model", "action-vlad", *FLAGS, "--max-trials", 1, "--patience", 2)
    printed = run_command("tune", videos, tmp_path / "search", *flags, "--json")
    settings = {"model": "action-vlad", **SETTINGS, "patience": 2}
    with mock.patch.object(tf.config.experimental, "enable_op_determinism"):
        found = tuning.tune(videos, tmp_path / "search", max_trials=1, **settings)
    same(printed, found.to_dict()["best"])
    assert found.run.settings.num_clusters == 4
