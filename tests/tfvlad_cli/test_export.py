"""`tfvlad export`: flags and messages."""

import inspect
import json

import pytest

import export
from export import publishing
from export.device.precision import PRECISIONS
from export.parity import LIMITS, Parity, ParityError
from tests.tfvlad.runs.run_folders import make_run
from tests.tfvlad_cli.commands import assert_one_sentence, tfvlad, write_video
from tfvlad_cli.export import export as command

pytestmark = pytest.mark.current

PARITY = Parity(
    num_clips=2,
    largest_difference=0.01,
    mean_difference=0.005,
    top1_agreement=1.0,
    clear_top1_agreement=1.0,
    signatures={"classify": 0.01},
    precision="float32",
    limit={"largest_difference": 1e-4},
    bytes=1_500_000,
    latency_ms=7.2,
    num_threads=2,
)


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


@pytest.fixture
def calls(monkeypatch):
    """What the command asks of the library."""
    calls = []

    def taking(name):
        def write(*arguments, **options):
            calls.append((name, arguments, options))
            return export.Export(arguments[1], PARITY, "given", {"CONV_2D": 2})

        return write

    for name in ("saved_model", "litert"):
        monkeypatch.setattr(export, name, taking(name))
    return calls


def test_a_line_or_json(run, calls, tmp_path):
    path = str(tmp_path / "model.tflite")
    result = tfvlad("export", run, path, "--to", "litert")
    assert result.output == (
        f"{path}: 1.5 MB, largest difference 0.01, top-1 agreement 100% on 2 given clips, 7 ms a "
        "clip\n"
    )
    assert calls == [("litert", ((str(run),), path), {})]
    result = tfvlad("export", run, path, "--to", "saved-model", "--json")
    report = json.loads(result.output)
    assert (report["path"], report["num_clips"], report["ops"]) == (path, 2, {"CONV_2D": 2})
    assert calls[1] == ("saved_model", ((str(run),), path), {})


def test_options(run, calls, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("left\nright\n")
    videos = [str(write_video(tmp_path / f"{i}.mp4", 0)) for i in range(2)]
    shared = ("--class-names", names, "--tolerance", 0.5)
    shared += ("--videos", videos[0], "--videos", videos[1])
    fusing = ("--weights", 0.25, 0.75, "--on", "probabilities")
    expected = {
        "class_names": str(names),
        "tolerance": 0.5,
        "videos": tuple(videos),
        "weights": (0.25, 0.75),
        "on": "probabilities",
    }
    own = ("--to", "litert", "--precision", "int8", "--streaming")
    result = tfvlad("export", run, run, "out.tflite", *own, *shared, *fusing)
    assert result.exit_code == 0, result.errors
    own = ("--to", "saved-model", "--version", 3)
    result = tfvlad("export", run, run, "served", *own, *shared, *fusing)
    assert result.exit_code == 0, result.errors
    two = (str(run), str(run))
    assert calls == [
        ("litert", (two, "out.tflite"), {**expected, "precision": "int8", "streaming": True}),
        ("saved_model", (two, "served"), {**expected, "version": 3}),
    ]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--to", "saved-model", "--precision", "int8"), "--precision has no effect on a SavedMod"),
        (("--to", "saved-model", "--streaming"), "--streaming has no effect on a SavedModel"),
        (("--to", "litert", "--version", 3), "--version has no effect on a LiteRT file"),
    ],
)
def test_options_of_the_other_target(run, tmp_path, options, sentence):
    assert_one_sentence(tfvlad("export", run, tmp_path / "out", *options), sentence)


def test_messages_speak_of_flags(tmp_path):
    """Those of the library name its arguments."""
    make_run(tmp_path / "run", "average-pooling")
    litert = ("export", tmp_path / "run", tmp_path / "model.tflite", "--to", "litert")
    result = tfvlad(*litert, "--weights", 1)
    assert_one_sentence(result, "`--weights` has no effect on a single model. Leave it out.")
    result = tfvlad(*litert, "--precision", "int8")
    assert result.exit_code == 1
    assert result.errors.endswith("are not at hand. Give `--videos`.\n")
    result = tfvlad(*litert[:2], tmp_path / "model.bin", *litert[3:])
    assert_one_sentence(result, "`PATH` must end in .tflite")
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


def test_a_failed_proof_is_one_sentence(run, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise ParityError("The export differs: allow more with `tolerance`.")

    monkeypatch.setattr(export, "saved_model", fails)
    result = tfvlad("export", run, tmp_path / "served", "--to", "saved-model")
    assert_one_sentence(result, "allow more with `--tolerance`.")


def test_choices_and_shown_defaults_are_those_of_the_library():
    options = {parameter.name: parameter for parameter in command.params}
    assert tuple(options["precision"].type.choices) == PRECISIONS
    default = inspect.signature(publishing.litert).parameters["precision"].default
    assert options["precision"].help.endswith(f"[default: {default}]")
    limits = {name: limit for name, (_, limit) in LIMITS.items()}
    assert limits == {"float32": 1e-4, "float16": 0.03, "dynamic": 0.15, "int8": 0.15}
    for text in ("float32 (1e-4)", "(0.03 in float16, 0.15 in dynamic and int8)"):
        assert text in options["tolerance"].help
    taken = set()
    for function in (publishing.saved_model, publishing.litert):
        taken |= set(inspect.signature(function).parameters)
    # Clips in memory are for Python.
    assert taken - {"clips"} == set(options) - {"target", "as_json"}


@pytest.mark.slow
def test_a_whole_export(tmp_path):
    make_run(tmp_path / "run", "average-pooling")
    video = write_video(tmp_path / "video.mp4", 0)
    options = ("--to", "litert", "--streaming", "--videos", video, "--json")
    result = tfvlad("export", tmp_path / "run", tmp_path / "model.tflite", *options)
    assert result.exit_code == 0, result.errors
    report = json.loads(result.output)
    told = json.loads((tmp_path / "model.parity.json").read_text())
    assert report == {**told, "path": str(tmp_path / "model.tflite"), "broken": []}
    assert report["signatures"].keys() == {"stream"}
