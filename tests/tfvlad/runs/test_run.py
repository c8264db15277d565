"""A run from Python: trained, loaded, asked."""

import json
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

import tfvlad
from tests.logs import warned
from tests.tfvlad_cli.commands import write_broken, write_parts, write_video
from tfvlad.backbones import resnet18
from tfvlad.backbones.catalog import BACKBONES
from tfvlad.evaluation import evaluate_scores
from tfvlad.runs.model_files import load_model

pytestmark = pytest.mark.usefixtures("eagerly", "small_networks")

SMALL = {
    **{"backbone": "resnet18", "weights": None, "image_size": 32, "num_frames": 2, "batch_size": 4},
    **{"num_clusters": 4, "units": 4, "epochs": (1, 0), "num_cached_crops": 1},
}


def train(data, folder, **options):
    # What it switches on cannot be switched off again: it stays out of this process.
    with mock.patch.object(tf.config.experimental, "enable_op_determinism"):
        return tfvlad.train(data, folder, **{**SMALL, **options})


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = write_parts(tmp_path_factory.mktemp("videos"), num_train=4, num_test=2)
    source = folder / "train" / "red" / "train0.mp4"
    write_broken(folder / "train" / "red" / "half.mp4", "truncated", source)
    return folder


@pytest.fixture(scope="module")
def run(videos, tmp_path_factory):
    return train(videos, tmp_path_factory.mktemp("runs") / "run", epochs=(1, 1))


class TestTrain:
    def test_what_a_run_knows(self, run):
        assert run.class_names == ("green", "red")
        assert not run.multi_label
        assert (run.settings.model, run.settings.num_frames) == ("ta-vlad", 2)
        assert run.model.output_shape == (None, 2)
        assert repr(run) == (
            f"Run('{run.folder}': ta-vlad, 2 classes, "
            f"test top-1 {100 * run.report.metrics['top1']:.1f} %)"
        )
        assert run.result["stages"][-1] == run.report.metrics
        assert [stage["num_clips"] for stage in run.result["stages"]] == [4, 4]

    def test_the_report_is_read_once_of_each_file_of_scores(self, run, videos, tmp_path):
        copy = tfvlad.load(shutil.copytree(run.folder, tmp_path / "copy"))
        with mock.patch("tfvlad.runs.run_folder.evaluate_scores", wraps=evaluate_scores) as made:
            first = copy.report
            assert copy.report is first
            assert made.call_count == 1
            copy.evaluate(output=copy.folder, test_crops=5)
            assert copy.report is not first
            assert made.call_count == 2
        (tmp_path / "copy" / "scores.npz").unlink()
        assert copy.report is None

    def test_loading(self, run):
        loaded = tfvlad.load(str(run.folder))
        assert loaded.config == run.config
        frames = np.random.default_rng(0).uniform(0, 255, (1, 2, 32, 32, 3)).astype("float32")
        np.testing.assert_array_equal(
            loaded.model.predict_on_batch(frames), run.model.predict_on_batch(frames)
        )

    def test_settings_as_an_object(self, videos, run):
        settings = tfvlad.VideoSettings(**{**SMALL, "epochs": (1, 1)})
        before = (run.folder / "state.npz").stat().st_mtime_ns
        again = tfvlad.train(videos, run.folder, settings)
        assert again.settings == settings
        assert (run.folder / "state.npz").stat().st_mtime_ns == before

    def test_a_finished_run_is_only_tested_again_where_it_is_seen_otherwise(self, videos, run):
        copy = run.folder.with_name("copy")
        shutil.copytree(run.folder, copy)
        with mock.patch("tfvlad.runs.training.video_training.fit_in_stages") as fitted:
            train(videos, copy, epochs=(1, 1))
            assert not fitted.called
            train(videos, copy, epochs=(1, 1), test_clips=2)
            assert fitted.called
        found = tfvlad.load(copy)
        assert (found.result["views"]["test_clips"], found.settings.test_clips) == (2, 2)

    def test_other_settings(self, videos, run):
        message = (
            r"holds a run with other settings and is left as it is "
            r"\(settings\.num_clusters: 4 there, 5 here\)\. Choose another folder, or the same"
        )
        with pytest.raises(ValueError, match=message):
            train(videos, run.folder, epochs=(1, 1), num_clusters=5)

    def test_a_folder_of_other_things(self, videos, tmp_path):
        (tmp_path / "thesis.tex").touch()
        with pytest.raises(
            ValueError, match=r"is not empty and does not hold a run: it has no con"
        ):
            train(videos, tmp_path)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"lists": "nowhere"}, r"`lists` must exist\. Received: lists='nowhere'\."),
            ({"split": 2}, r"`split` needs `lists`, the official lists\. Received: split=2\."),
            ({"split": 0}, r"`split` must be a whole number, at least 1\. Received: split=0\."),
            ({"weights": "w.h5"}, r'`weights` must be a file that exists, "imagenet" or None\. '),
            ({"flow": "."}, r"`flow` has no effect on model='ta-vlad'\."),
            ({"attended": "."}, r"`attended` has no effect on model='ta-vlad'\."),
            ({"model": "two-stream"}, r"A two-stream model needs `flow`, a folder that"),
            (
                {"cache": ".", "num_cached_crops": None},
                r"`cache` has no effect on a training ",
            ),
            ({"freed_block": "layer9"}, r"`freed_block` must be one of stem, .*'layer9'\."),
            ({"lists": ".", "test_data": "."}, r"Give either `lists` or `test_data`"),
            ({"weights": "imagenet"}, r"nothing to download for resnet18\. Give `weights`"),
            ({"model": "attention-lstm"}, r"attention-lstm learns from features, and"),
            pytest.param(
                {"optimizer": "lookahead"},
                r"`optimizer` must be one of adam, sgd\. Received: optimizer='lookahead'\.",
                marks=pytest.mark.current,
            ),
            ({"one_bag": True}, r"`one_bag` is for models that sum over time, and ta-vlad reads"),
        ],
    )
    def test_nothing_is_written_before_everything_is_checked(
        self, videos, tmp_path, monkeypatch, options, message
    ):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ValueError, match=message):
            train(videos, tmp_path / "run", **options)
        assert not (tmp_path / "run").exists()

    def test_data_that_is_not_there(self, tmp_path):
        with pytest.raises(ValueError, match=r"`data` must exist\. Received: data='.*nowhere'\."):
            train(tmp_path / "nowhere", tmp_path / "run")

    def test_broken_videos(self, videos, tmp_path, caplog):
        with pytest.raises(ValueError, match=r"half\.mp4"):
            train(videos, tmp_path / "run", max_broken=0)
        # It was never trained: other settings are welcome.
        with pytest.raises(ValueError, match=r"half\.mp4"):
            train(videos, tmp_path / "run", max_broken=0, num_clusters=5)
        assert tfvlad.load(tmp_path / "run").settings.num_clusters == 5

    def test_unfinished(self, run, videos, tmp_path):
        shutil.copy(run.folder / "config.json", tmp_path)
        unfinished = tfvlad.load(tmp_path)
        assert repr(unfinished).endswith("2 classes, not finished)")
        assert unfinished.report is None
        with pytest.raises(ValueError, match=r"has no finished model\. Train again with the same"):
            unfinished.predict(videos / "test" / "red" / "test0.mp4")

    def test_no_run(self, tmp_path):
        with pytest.raises(ValueError, match=r"is not a run folder: it has no config\.json"):
            tfvlad.load(tmp_path)

    @pytest.mark.slow
    def test_a_published_network(self, videos, tmp_path):
        with mock.patch.dict(BACKBONES, resnet18=resnet18):
            run = train(videos, tmp_path / "run", epochs=(1, 1))
            assert run.config.freed_block == "layer4"
            (answer,) = run.predict(videos / "test" / "red" / "test0.mp4")
        with np.load(run.folder / "scores.npz") as scores:
            logits = scores["logits"][scores["clips"].tolist().index("red/test0")]
        expected = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(answer.probabilities, expected, atol=0.01)


def test_a_model_of_the_other_stack_is_rebuilt_from_its_weights(run, monkeypatch):
    frames = np.random.default_rng(0).uniform(0, 255, (1, 2, 32, 32, 3)).astype("float32")
    expected = load_model(run.folder).predict_on_batch(frames)

    def fail(path):
        raise TypeError("its parent module cannot be imported")

    monkeypatch.setattr("keras.models.load_model", fail)
    rebuilt = load_model(run.folder).predict_on_batch(frames)
    np.testing.assert_allclose(rebuilt, expected, rtol=1e-4, atol=1e-5)


class TestPredict:
    def test_answers(self, run, videos):
        paths = [videos / "test" / name / "test0.mp4" for name in ("red", "green")]
        found = run.predict(paths)
        assert [answer.path for answer in found] == [str(path) for path in paths]
        assert len(found) == 2
        assert found.broken == ()
        with np.load(run.folder / "scores.npz") as scores:
            for answer in found:
                row = scores["clips"].tolist().index("/".join(Path(answer.path).parts[-2:])[:-4])
                logits = scores["logits"][row]
                expected = np.exp(logits) / np.exp(logits).sum()
                # The run's scores come from float16 features.
                np.testing.assert_allclose(answer.probabilities, expected, atol=0.01)
        best, other = found[0].top(5)
        assert best.probability >= other.probability
        assert best.probability + other.probability == pytest.approx(1, abs=1e-5)
        shown = f"{best.class_name} {100 * best.probability:.1f} %"
        assert repr(found[0]) == f"Prediction({found[0].path!r}: {shown})"
        rows = found.to_dict(1)
        assert rows["predictions"][found[0].path] == found[0].to_dict(1)["top"]
        assert json.loads(json.dumps(rows)) == rows

    def test_one_path(self, run, videos):
        (answer,) = run.predict(videos / "test" / "red" / "test0.mp4")
        assert answer.class_names == run.class_names

    def test_broken_videos(self, run, videos):
        broken = str(videos / "train" / "red" / "half.mp4")
        good = str(videos / "test" / "red" / "test0.mp4")
        found = run.predict([broken, good])
        assert [answer.path for answer in found] == [good]
        assert [video.path for video in found.broken] == [broken]
        only = run.predict([broken])
        assert (len(only), len(only.broken)) == (0, 1)
        assert only.to_dict()["broken"][0]["path"] == broken

    def test_mistakes(self, run):
        with pytest.raises(ValueError, match=r"The video does not exist: nowhere\.mp4\."):
            run.predict("nowhere.mp4")
        with pytest.raises(ValueError, match=r"`paths` must name at least one video\."):
            run.predict([])


class TestEvaluate:
    def test_own_test_list(self, run, tmp_path):
        found = run.evaluate(output=tmp_path / "new")
        assert found.to_dict() == found.report.metrics
        assert found.controls is None
        assert found.folder == tmp_path / "new"
        assert found.to_dict()["top1"] == run.report.metrics["top1"]
        names = {path.name for path in found.folder.iterdir()}
        assert names >= {"metrics.json", "confusion.png", "scores.npz", "evaluation.json"}
        told = json.loads((found.folder / "evaluation.json").read_text())
        assert told["data"] == str(run.folder / "lists.csv")
        assert (told["test_crops"], told["broken"], told["controls"]) == (1, 0, False)

    def test_other_videos_of_one_class_and_several_crops(self, run, videos, tmp_path):
        shutil.copytree(videos / "test" / "red", tmp_path / "data" / "red")
        with warned("1 classes have no videos"):
            found = run.evaluate(tmp_path / "data", test_crops=5)
        assert found.to_dict()["num_clips"] == 2
        assert found.folder == run.folder / "evaluation"

    def test_controls(self, run, tmp_path):
        found = run.evaluate(controls=True, output=tmp_path)
        assert found.controls.plain.metrics == found.report.metrics
        assert found.report.metrics["top1"] == run.report.metrics["top1"]
        assert found.to_dict() == {**found.report.metrics, "controls": found.controls.to_dict()}
        written = json.loads((found.folder / "controls.json").read_text())
        assert written == json.loads(json.dumps(found.controls.to_dict()))
        told = json.loads((found.folder / "evaluation.json").read_text())
        assert told["controls"] is True
        # Shuffled, two frames have one other order.
        logits = [
            np.load(found.folder / n / "scores.npz")["logits"] for n in ("reversed", "shuffled")
        ]
        np.testing.assert_array_equal(*logits)
        for control in found.controls.controls:
            metrics = json.loads((found.folder / control.name / "metrics.json").read_text())
            assert metrics == control.report.metrics
        # They are not those of another test in this place.
        run.evaluate(output=tmp_path)
        left = {path.name for path in found.folder.iterdir()}
        assert not left & {"controls.json", "shuffled", "reversed", "one_frame"}

    def test_controls_of_one_frame(self, run, tmp_path):
        config = json.loads((run.folder / "config.json").read_text())
        config["settings"]["num_frames"] = 1
        (tmp_path / "config.json").write_text(json.dumps(config))
        message = r"`controls` has no effect on a run whose clips have one frame.*num_frames=1 of"
        with pytest.raises(ValueError, match=message):
            tfvlad.load(tmp_path).evaluate(controls=True)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"split": 1}, r"`split` needs `data`\. Received: split=1\."),
            ({"data": "HERE", "split": 1}, r"`split` needs `lists`\. Received: split=1\."),
            ({"flow": "x"}, r"`flow` has no effect on a run of ta-vlad\. Received: flow='x'\."),
            ({"attended": "x"}, r"`attended` has no effect on a run of ta-vlad\."),
            ({"test_chunks": 3}, r"`test_chunks` has no effect on a run of ta-vlad\. .*=3\. Leave"),
            ({"test_crops": 3}, r"`test_crops` must be one of 1, 5, 10\. Received: test_crops=3\."),
            ({"data": "nowhere"}, r"`data` must exist\. Received: data='nowhere'\."),
        ],
    )
    def test_mistakes(self, run, videos, options, message):
        options = {n: videos if value == "HERE" else value for n, value in options.items()}
        with pytest.raises(ValueError, match=message):
            run.evaluate(**options)

    def test_other_classes(self, run, tmp_path):
        write_video(tmp_path / "blue" / "a.mp4", 2)
        with pytest.raises(ValueError, match=r"has sub-folders that are no known class: blue\."):
            run.evaluate(tmp_path)

    def test_moved_videos(self, run, tmp_path):
        for name in ("config.json", "model.keras"):
            shutil.copy(run.folder / name, tmp_path)
        row = "path,label,start_seconds,end_seconds,part\n/gone.mp4,red,,,test\n"
        (tmp_path / "lists.csv").write_text(row)
        with pytest.raises(
            ValueError, match=r"1 of 1 videos that .* first: /gone\.mp4\. If they we"
        ):
            tfvlad.load(tmp_path).evaluate()
