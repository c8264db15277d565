import re
from dataclasses import replace

import keras
import keras_tuner
import numpy as np
import pytest

import tuning
from tests.helpers import MemoryClips, MemoryFeatures, tiny_backbone
from tfvlad.backbones import flow_backbone
from tfvlad.evaluation import evaluate_scores
from tfvlad.models import parts_of
from tfvlad.training import FeatureCache, PairedStreams, Stage, clusters, predict_logits
from tuning.hyper_models import clips as clip_models

pytestmark = pytest.mark.usefixtures("eagerly")

TRAINING = MemoryClips.random(8, num_frames=2)
VALIDATION = MemoryClips.random(5, num_frames=2, seed=1)
STAGES = (
    Stage(epochs=1, learning_rate=0.05, trainable_layers=("logits", "shared_gru")),
    Stage(epochs=1, learning_rate=0.01, freed_block="replaced"),
)
LONGER_STAGES = tuple(replace(stage, epochs=2) for stage in STAGES)
FIXED = {"num_frames": 2, "units": 3, "alpha": 5.0, "dropout": 0.0}


def sizes(hp):
    return {"num_clusters": hp.Choice("num_clusters", [2, 4])}


def hyper_model(folder, **options):
    return tuning.TAVLADHyperModel(
        tiny_backbone,
        3,
        **{
            "space": sizes,
            "fixed": FIXED,
            "stages": STAGES,
            "batch_size": 8,
            "cache": FeatureCache(folder / "features"),
            "num_cached_crops": 1,
            **options,
        },
    )


def trained(hyper, *, values=None, training=TRAINING, validation=VALIDATION, **options):
    hp = keras_tuner.HyperParameters()
    hp.values.update(values or {})
    model = hyper.build(hp)
    return model, hyper.fit(hp, model, training, validation, **options)


def assert_same_weights(first, second):
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


class TestBuild:
    def test_the_same_values_give_the_same_model(self, tmp_path):
        hp = keras_tuner.HyperParameters()
        first = hyper_model(tmp_path).build(hp)
        keras.utils.set_random_seed(7)
        assert_same_weights(first, hyper_model(tmp_path).build(hp))

    def test_another_seed_gives_other_first_weights(self, tmp_path):
        backbone = tiny_backbone()  # made here, because it sets a seed of its own
        kernels = []
        for seed in (0, 1):
            hyper = hyper_model(tmp_path, seed=seed)
            hyper.build_backbone = lambda: backbone
            model = hyper.build(keras_tuner.HyperParameters())
            kernels.append(model.get_layer("logits").get_weights()[0])
        assert not np.array_equal(*kernels)

    def test_fixed_values_are_recorded_and_not_searched(self, tmp_path):
        hp = keras_tuner.HyperParameters()
        fixed = {**FIXED, "num_clusters": 3, "bidirectional": True}
        model = hyper_model(tmp_path, fixed=fixed).build(hp)
        assert model.get_layer("vlad").num_clusters == 3
        assert hp.values == fixed
        assert {type(p).__name__ for p in hp.space} == {"Fixed"}

    def test_a_value_under_a_condition_can_be_fixed(self):
        fixed = {"num_frames": 2, "stage2_learning_rate": 0.5}
        hyper = tuning.TAVLADHyperModel(tiny_backbone, 3, fixed=fixed)
        hp = keras_tuner.HyperParameters()
        hp.values["num_freed_blocks"] = 1
        assert hyper.values(hp)["stage2_learning_rate"] == 0.5
        assert hp.values["stage2_learning_rate"] == 0.5
        found = [p for p in hp.space if p.name == "stage2_learning_rate"]
        assert [type(p).__name__ for p in found] == ["Fixed"]

    @pytest.mark.parametrize("where", ["space", "fixed"])
    def test_unknown_values_are_refused(self, tmp_path, where):
        option = {"space": lambda hp: {"unit": 3}} if where == "space" else {"fixed": {"unit": 3}}
        message = r"A space and `fixed` must name values of alpha, .*update_bias\. Received: unit\."
        with pytest.raises(ValueError, match=message):
            hyper_model(tmp_path, **option).build(keras_tuner.HyperParameters())

    def test_three_stages_are_refused(self, tmp_path):
        with pytest.raises(ValueError, match=r"`stages` must be one or two\. Received: 3\."):
            hyper_model(tmp_path, stages=[STAGES[0]] * 3)

    @pytest.mark.parametrize(
        ("kind", "space"),
        [
            (tuning.TAVLADHyperModel, tuning.ta_vlad_space),
            (tuning.ActionVLADHyperModel, tuning.action_vlad_space),
            (tuning.TAVLADHyperModel, tuning.paper_space),
        ],
    )
    def test_every_corner_of_a_space_builds(self, kind, space):
        hyper = kind(tiny_backbone, 3, space=space, fixed={"num_frames": 2})
        for index in (0, -1):
            hp = keras_tuner.HyperParameters()
            hyper.values(hp)
            for parameter in list(hp.space):
                hp.values[parameter.name] = list(parameter.values)[index]
            model = hyper.build(hp)
            assert model.output_shape == (None, 3)
            vlad = next(x for x in model.layers if hasattr(x, "num_clusters"))
            assert vlad.num_clusters == hp.values["num_clusters"]


class TestFit:
    def test_it_returns_the_measures_of_its_model(self, tmp_path):
        hyper = hyper_model(tmp_path)
        model, metrics = trained(hyper)
        logits = predict_logits(model, VALIDATION)
        expected = evaluate_scores(logits, VALIDATION.labels, VALIDATION.class_names).metrics
        for name in ("top1", "mean_class_accuracy", "mAP"):
            assert metrics[f"val_{name}"] == pytest.approx(expected[name])
        assert (metrics["epochs"], metrics["stages"]) == (2, 2)

    def test_features_and_centres_are_computed_once(self, tmp_path, monkeypatch):
        calls = []
        k_means = clusters._k_means
        monkeypatch.setattr(
            clusters, "_k_means", lambda x, k, seed: calls.append(k) or k_means(x, k, seed)
        )
        training = MemoryClips.random(4, num_frames=2)

        def train(num_clusters):
            hyper = hyper_model(tmp_path, stages=STAGES[:1], num_cached_crops=2)
            model, _ = trained(hyper, values={"num_clusters": num_clusters}, training=training)
            return model, hyper.cache.extraction_seconds

        first, _ = train(2)
        assert (len(training.decoded), calls) == (8, [2])  # two crops of each clip
        second, extraction_seconds = train(2)
        assert (len(training.decoded), calls) == (8, [2])
        assert extraction_seconds == 0
        assert_same_weights(first, second)
        train(4)
        assert (len(training.decoded), calls) == (8, [2, 4])

    def test_pieces_equal_the_whole(self, tmp_path):
        options = {"stages": LONGER_STAGES, "num_cached_crops": 2}
        whole, metrics = trained(hyper_model(tmp_path, **options), folder=tmp_path / "whole")
        for epochs, stages in ((1, 1), (3, 2), (None, 2)):
            hyper = hyper_model(tmp_path, **options)
            model, found = trained(hyper, folder=tmp_path / "run", epochs=epochs)
            assert (found["epochs"], found["stages"]) == (epochs or 4, stages)
        assert found == metrics
        assert_same_weights(whole, model)

    @pytest.mark.parametrize(("num_freed", "frozen"), [(0, True), (1, True), (2, False)])
    def test_freed_blocks(self, tmp_path, num_freed, frozen):
        fixed = {**FIXED, "num_freed_blocks": num_freed, "stage2_learning_rate": 0.1}
        hyper = hyper_model(tmp_path, fixed=fixed)
        model, metrics = trained(hyper)
        before = tiny_backbone().model.get_layer("conv1").get_weights()[0]
        after = model.get_layer("backbone").model.get_layer("conv1").get_weights()[0]
        assert np.array_equal(before, after) == frozen
        assert metrics["stages"] == (2 if num_freed else 1)

    def test_more_freed_blocks_than_there_are(self, tmp_path):
        fixed = {**FIXED, "num_freed_blocks": 3}
        message = (
            r"`num_freed_blocks` must be at most 2, the blocks of 'tiny'\. "
            r"Received: num_freed_blocks=3\."
        )
        with pytest.raises(ValueError, match=message):
            trained(hyper_model(tmp_path, fixed=fixed))

    def test_learning_rates_and_optimizer(self, tmp_path):
        fixed = {
            **FIXED,
            "stage1_learning_rate": 0.03,
            "stage2_learning_rate": 0.02,
            "optimizer": "sgd",
        }
        hyper = hyper_model(tmp_path, fixed=fixed)
        seen = []

        class Spy(clip_models._SeeClipModel):
            def on_epoch_begin(self, epoch, logs=None):
                optimizer = self.model.optimizer
                seen.append((type(optimizer).__name__, float(optimizer.learning_rate)))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(clip_models, "_SeeClipModel", Spy)
            trained(hyper)
        assert {name for name, _ in seen} == {"SGD"}
        np.testing.assert_allclose([rate for _, rate in seen][::2], [0.03, 0.02], rtol=1e-6)

    def test_other_numbers_of_frames(self, tmp_path):
        fixed = {name: value for name, value in FIXED.items() if name != "num_frames"}
        hyper = hyper_model(
            tmp_path,
            space=lambda hp: {**sizes(hp), "num_frames": hp.Choice("num_frames", [2, 4])},
            fixed=fixed,
            stages=STAGES[:1],
        )
        model, metrics = trained(hyper, values={"num_frames": 4})
        assert model.input_shape == (None, 4, 32, 32, 3)
        logits = predict_logits(model, VALIDATION.with_num_frames(4))
        assert metrics["val_top1"] == np.mean(logits.argmax(-1) == VALIDATION.labels)

    def test_callbacks_see_the_clip_model_and_stop_it(self, tmp_path):
        seen = []

        class Stop(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                seen.append((self.model, "val_top1" in logs))
                self.model.stop_training = True

        hyper = hyper_model(tmp_path, stages=LONGER_STAGES)
        model, metrics = trained(hyper, callbacks=[Stop()])
        assert seen == [(model, True)] * 2  # an epoch of each stage
        assert metrics["epochs"] == 2

    def test_several_labels(self, tmp_path):
        clips = [MemoryClips.random(6, num_frames=2, multi_label=True, seed=n) for n in (0, 1)]
        hyper = hyper_model(tmp_path, stages=STAGES[:1])
        _, metrics = trained(hyper, training=clips[0], validation=clips[1])
        assert "val_top1" not in metrics
        assert 0 < metrics["val_mAP"] <= 1

    def test_two_streams(self, tmp_path):
        hyper = tuning.ActionVLADHyperModel(
            lambda: (tiny_backbone(), flow_backbone(tiny_backbone(), 1)),
            3,
            space=tuning.two_stream_space,
            fixed={"num_clusters": 2, "num_frames": 2, "num_freed_blocks": 1, "dropout": 0.0},
            stages=[
                Stage(epochs=1, learning_rate=0.01, trainable_layers=("logits",)),
                Stage(epochs=1, learning_rate=0.01),
            ],
            cache=FeatureCache(tmp_path / "features"),
            num_cached_crops=1,
        )

        def streams(count, seed):
            rgb = MemoryClips.random(count, num_frames=2, seed=seed)
            flow = MemoryClips(rgb.frames[..., :2], rgb.labels, names=[f"f{n}" for n in rgb.names])
            return PairedStreams([rgb, flow])

        model, metrics = trained(hyper, training=streams(6, 0), validation=streams(3, 1))
        assert len(parts_of(model).vlad_layers) == 2
        assert metrics["stages"] == 2
        hp = keras_tuner.HyperParameters()
        hp.values["fusion"] = "early"
        assert len(parts_of(hyper.build(hp)).vlad_layers) == 1


class TestKerasTuner:
    def test_its_own_tuner_takes_a_hyper_model(self, tmp_path):
        tuner = keras_tuner.RandomSearch(
            hyper_model(tmp_path, stages=STAGES[:1]),
            objective=keras_tuner.Objective("val_top1", "max"),
            max_trials=1,
            directory=str(tmp_path),
            project_name="own",
        )
        tuner.search(TRAINING, VALIDATION)
        (trial,) = tuner.oracle.get_best_trials()
        assert trial.status == "COMPLETED"
        best = tuner.get_best_models()[0]
        accuracy = np.mean(predict_logits(best, VALIDATION).argmax(-1) == VALIDATION.labels)
        assert accuracy >= trial.score


class TestAttentionLSTM:
    training, validation = MemoryFeatures(9), MemoryFeatures(6, seed=1)

    def hyper_model(self, **options):
        return tuning.AttentionLSTMHyperModel(3, 5, 6, **options)

    def test_build_is_pure(self):
        hp = keras_tuner.HyperParameters()
        hyper = self.hyper_model()
        assert_same_weights(hyper.build(hp), hyper.build(hp))

    def test_fit(self):
        fixed = {"units": 4, "matching_units": 4, "num_steps": 2, "num_attended": 5}
        fixed |= {"optimizer": "adam", "learning_rate": 0.03}
        stage = Stage(epochs=2, learning_rate=1.0)
        hyper = self.hyper_model(fixed=fixed, stage=stage, batch_size=9)
        model, metrics = trained(hyper, training=self.training, validation=self.validation)
        assert [tuple(x.shape) for x in model.inputs] == [(None, 2, 5), (None, 5, 6)]
        assert type(model.optimizer).__name__ == "Adam"
        assert float(model.optimizer.learning_rate) == pytest.approx(0.03)
        features = self.validation.with_num_steps((2, 5))
        scores = model.predict(features.dataset(6, False, False, 0), verbose=0)
        assert metrics["val_top1"] == np.mean(scores.argmax(-1) == features.labels)
        assert (metrics["epochs"], metrics["stages"]) == (2, 1)

    def test_unknown_values_are_refused(self):
        message = re.escape("Received: num_clusters.")
        with pytest.raises(ValueError, match=message):
            self.hyper_model(fixed={"num_clusters": 3}).build(keras_tuner.HyperParameters())
