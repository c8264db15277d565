"""`tfvlad train`, `tfvlad evaluate` and `tfvlad predict`: flags, messages and exit codes."""

import json
from unittest import mock

import pytest
import tensorflow as tf

import tfvlad as library
from tests.tfvlad_cli.commands import assert_one_sentence, tfvlad, write_broken, write_parts

pytestmark = pytest.mark.usefixtures("eagerly", "small_networks")

SMALL = (
    *("--backbone", "resnet18", "--weights", "none", "--image-size", 32, "--frames", 2),
    *("--clusters", 4, "--units", 4, "--epochs", 1, 0, "--cached-crops", 1, "--batch-size", 4),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = write_parts(tmp_path_factory.mktemp("videos"), num_train=4, num_test=2)
    write_broken(
        folder / "train" / "red" / "half.mp4", "truncated", folder / "train/red/train0.mp4"
    )
    return folder


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """The folder of a run, what its training printed, and what the same command printed then."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    # What it switches on cannot be switched off again: it stays out of this process.
    with mock.patch.object(tf.config.experimental, "enable_op_determinism"):
        results = [tfvlad("train", data, folder, *SMALL, *last) for last in (("--json",), ())]
    for result in results:
        assert result.exit_code == 0, result.errors
    return folder, *results


class TestTrain:
    def test_json_is_all_that_is_printed(self, trained):
        folder, result, _ = trained
        (run,) = json.loads(result.output)["runs"]
        assert run == json.loads((folder / "result.json").read_text())
        assert (run["split"], run["seed"], run["broken"]) == (1, 0, 1)

    def test_what_is_told(self, data, trained):
        _, result, _ = trained
        assert f"left out: {data / 'train' / 'red' / 'half.mp4'}: " in result.errors
        counts = "2 classes, one label a clip: 6 training, 2 validation, 4 test clips\n"
        assert counts in result.errors

    def test_the_same_command_again_prints_a_table(self, trained):
        _, first, second = trained
        assert "Test list, %" in second.output
        top1 = json.loads(first.output)["runs"][0]["stages"][0]["top1"]
        assert f"{100 * top1:.1f} [" in second.output

    def test_flags_are_settings(self, data, tmp_path):
        flags = (
            *("--model", "ta-vlad", "--alpha", "auto", "--temporal", "separate-grus"),
            *("--no-intra-normalize", "--bidirectional", "--no-attention", "--no-cache"),
            *("--epochs", 3, 4, "--learning-rates", 0.1, 0.2, "--weights", "none"),
            *("--optimizer", "rectified-adam", "--test-crops", 5, "--frames", 12),
            *("--split", 2, "--split", 3, "--seed", 7, "--lists", data, "--max-broken", 3),
        )
        with mock.patch("tfvlad.studies.repeat") as repeat:
            repeat.return_value.to_dict.return_value = {"runs": []}
            result = tfvlad("train", data, tmp_path / "run", *flags, "--json")
        assert result.exit_code == 0, result.errors
        assert repeat.call_args == mock.call(
            str(data),
            str(tmp_path / "run"),
            splits=(2, 3),
            seeds=(7,),
            lists=str(data),
            max_broken=3,
            model="ta-vlad",
            alpha="auto",
            temporal="separate_grus",
            intra_normalize=False,
            bidirectional=True,
            attention=False,
            num_cached_crops=None,
            epochs=(3, 4),
            learning_rates=(0.1, 0.2),
            weights=None,
            optimizer="rectified_adam",
            test_crops=5,
            num_frames=12,
        )

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            (("--test-data", "DATA", "--lists", "DATA"), "`--lists` or `--test-data`"),
            (("--split", 1, "--split", 2), "`--split` needs `--lists`"),
            (("--model", "action-vlad", "--temporal", "flattened-gru"), "`--temporal` has no eff"),
            (("--freed-block", "layer9"), "`--freed-block` must be one of stem, "),
            (("--no-cache", "--cached-crops", 2), "--cached-crops and --no-cache exclude each"),
            (("--weights", "imagenet"), "Give `--weights` torchvision's or timm's file"),
        ],
    )
    def test_messages_name_the_flags(self, data, tmp_path, options, sentence):
        options = [data / "test" if option == "DATA" else option for option in options]
        with mock.patch.object(tf.config.experimental, "enable_op_determinism"):
            result = tfvlad("train", data, tmp_path / "run", *SMALL, *options)
        assert_one_sentence(result, sentence)

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            (("--epochs", 0, 1), "0 is not in the range x>=1"),
            (("--alpha", "sharp"), "'sharp' is neither a positive number nor \"auto\""),
            (("--alpha", -1), "'-1' is neither a positive number"),
            (("--validation-fraction", 1), "1.0 is not in the range 0<x<1"),
            (("--dropout", 1), "1.0 is not in the range 0<=x<1"),
            (("--learning-rates", 0, 1), "0.0 is not in the range x>0"),
            (("--weights", "w.h5"), "File 'w.h5' does not exist"),
            (("--test-crops", 3), "'3' is not one of '1', '5', '10'"),
        ],
    )
    def test_values_out_of_range(self, data, tmp_path, options, sentence):
        result = tfvlad("train", data, tmp_path / "run", *options)
        assert result.exit_code == 2
        assert sentence in result.errors.splitlines()[-1]


class TestEvaluate:
    def test_own_test_list(self, trained, tmp_path):
        folder, first, _ = trained
        result = tfvlad("evaluate", folder, "--output", tmp_path / "new", "--json")
        assert result.exit_code == 0, result.errors
        expected = json.loads(first.output)["runs"][0]["stages"][0]
        assert json.loads(result.output)["top1"] == expected["top1"]
        result = tfvlad("evaluate", folder, "--output", tmp_path / "other")
        assert "ta-vlad" in result.output
        assert f"{100 * expected['top1']:.1f}" in result.output

    def test_flags_are_arguments(self, data, trained, tmp_path):
        folder, _, _ = trained
        flags = (
            *("--test-crops", 10, "--test-clips", 2, "--one-bag", "--lists", data, "--split", 3),
            *("--flow", data, "--output", tmp_path, "--max-broken", 1, "--test-chunks", 4),
            *("--attended", data, "--controls"),
        )
        with mock.patch.object(library.Run, "evaluate") as evaluate:
            evaluate.return_value.to_dict.return_value = {}
            result = tfvlad("evaluate", folder, data, *flags, "--json")
        assert result.exit_code == 0, result.errors
        named = {name: str(data) for name in ("lists", "flow", "attended")}
        assert evaluate.call_args == mock.call(
            str(data),
            **named,
            split=3,
            test_crops=10,
            test_clips=2,
            one_bag=True,
            test_chunks=4,
            controls=True,
            output=str(tmp_path),
            max_broken=1,
        )

    def test_controls(self, trained, tmp_path):
        result = tfvlad("evaluate", trained[0], "--controls", "--output", tmp_path)
        assert result.exit_code == 0, result.errors
        told = json.loads((tmp_path / "controls.json").read_text())
        assert "Does order matter?" in result.output
        assert "one frame" in result.output
        assert result.output.splitlines()[-1] == told["summary"]

    def test_messages_name_the_flags(self, trained):
        result = tfvlad("evaluate", trained[0], "--split", 1)
        assert_one_sentence(result, "`--split` needs `DATA`")


class TestPredict:
    def test_text(self, data, trained):
        videos = [data / "test" / name / "test0.mp4" for name in ("red", "green")]
        result = tfvlad("predict", trained[0], *videos)
        assert result.exit_code == 0, result.errors
        lines = result.output.splitlines()
        assert [lines[0], lines[3]] == [str(video) for video in videos]
        assert {line.split()[-1] for line in lines[1:3]} == {"green", "red"}
        assert sum(float(line.split()[0]) for line in lines[1:3]) == pytest.approx(100, abs=0.2)

    def test_json_and_a_broken_video(self, data, trained):
        good, broken = data / "test" / "red" / "test0.mp4", data / "train" / "red" / "half.mp4"
        result = tfvlad("predict", trained[0], good, broken, "--json", "--top", 1)
        assert result.exit_code == 1
        found = json.loads(result.output)
        assert found == library.load(trained[0]).predict([good, broken]).to_dict(1)
        assert result.errors.splitlines()[-1].startswith(f"tfvlad: {broken}: ")
