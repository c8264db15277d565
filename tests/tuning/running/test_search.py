import gc
import json
import logging
import os
import re
import threading
import time
from dataclasses import replace
from unittest import mock

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf

import tuning
from tests.helpers import MemoryClips, tiny_backbone
from tfvlad.training import FeatureCache, Stage, predict_logits
from tuning.results import report
from tuning.running.search_folder import settings_of, wait_for_chief

pytestmark = pytest.mark.usefixtures("eagerly")

TRAINING = MemoryClips.random(8, num_frames=2)
VALIDATION = MemoryClips.random(5, num_frames=2, seed=1)
SEVERAL_LABELS = MemoryClips.random(4, num_frames=2, multi_label=True)
STAGE = Stage(epochs=2, learning_rate=0.05, trainable_layers=("logits", "shared_gru"))


def grid(hp):
    return {"num_clusters": hp.Choice("num_clusters", [2, 4]), "units": hp.Choice("units", [3, 5])}


def hyper_model(folder, kind=tuning.TAVLADHyperModel, **options):
    return kind(
        num_classes=3,
        **{
            "build_backbone": tiny_backbone,
            "space": grid,
            "fixed": {"num_frames": 2, "alpha": 5.0, "dropout": 0.0},
            "stages": [STAGE],
            "batch_size": 8,
            "cache": FeatureCache(folder / "features"),
            "num_cached_crops": 1,
            **options,
        },
    )


def search(folder, *, hyper=None, training=TRAINING, **options):
    return tuning.search(
        hyper or hyper_model(folder),
        training,
        VALIDATION,
        folder / "search",
        **{"algorithm": "grid", **options},
    )


@pytest.fixture(autouse=True)
def _told(caplog):
    caplog.set_level(logging.INFO, "tuning")


class QuickHyperModel(keras_tuner.HyperModel):
    """Trains nothing; its measure grows with the values."""

    max_epochs = 3

    def __init__(self, space=grid):
        super().__init__()
        self.settings = {"model": "quick"}
        self.values = space
        self.folders = []

    def build(self, hp):
        self.values(hp)
        return keras.Sequential(
            [keras.Input((hp.values["num_clusters"],)), keras.layers.Dense(hp.values["units"])]
        )

    def fit(self, hp, model, training, validation, *, folder, epochs=None, callbacks=()):
        for callback in callbacks:
            callback.on_train_begin()
        self.folders.append(folder)
        epochs = epochs or 3
        (folder / "history.csv").write_text("".join(f"epoch {n}\n" for n in range(epochs)))
        (folder / "state.npz").write_text("state")
        model.save(folder / "stage1.keras")
        score = (10 * hp.values["num_clusters"] + hp.values["units"]) / 100
        return {"val_top1": score, "val_mAP": 1 - score, "epochs": epochs, "stages": 1}


class InterruptedHyperModel(QuickHyperModel):
    """Is interrupted in the second trial."""

    def fit(self, hp, *args, **options):
        if len(self.folders) == 1:
            raise KeyboardInterrupt
        return super().fit(hp, *args, **options)


class FailingHyperModel(QuickHyperModel):
    """Has no memory for larger models."""

    def fit(self, hp, *args, **options):
        if hp.values["units"] > 3:
            raise MemoryError("no room for the states")
        return super().fit(hp, *args, **options)


def quick_search(folder, hyper=None, **options):
    """Without the pictures, which have tests of their own."""
    with mock.patch.object(report, "_draw", return_value={}):
        return search(folder, hyper=hyper or QuickHyperModel(), **options)


class CountingHyperModel(tuning.TAVLADHyperModel):
    """Notes the live graphs before each trial."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.num_graphs = []

    def build(self, hp):
        gc.collect()
        self.num_graphs.append(sum(issubclass(type(o), tf.Graph) for o in gc.get_objects()))
        return super().build(hp)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    return folder, search(folder)


class TestGrid:
    def test_every_combination_is_tried_once(self, finished):
        _, trials = finished
        tried = {(t.values["num_clusters"], t.values["units"]) for t in trials}
        assert tried == {(2, 3), (2, 5), (4, 3), (4, 5)}
        assert [t.status for t in trials] == ["completed"] * 4

    def test_the_features_are_computed_in_the_first_trial(self, finished):
        _, trials = finished
        assert trials[0].metrics["extraction_seconds"] > 0
        assert [t.metrics["extraction_seconds"] for t in trials[1:]] == [0, 0, 0]

    def test_what_is_measured(self, finished):
        _, trials = finished
        for trial in trials:
            model = hyper_model(trial.folder).build(values_of(trial))
            assert trial.metrics["parameters"] == model.count_params()
            assert trial.metrics["epochs"] == 2
            assert trial.score == trial.metrics["val_top1"]

    def test_the_best_model_loads_and_predicts_the_same(self, finished):
        folder, trials = finished
        best = json.loads((folder / "search" / "best.json").read_text())
        assert best["score"] == max(t.score for t in trials)
        model = keras.models.load_model(folder / "search" / best["model"])
        found = np.mean(predict_logits(model, VALIDATION).argmax(-1) == VALIDATION.labels)
        assert found == pytest.approx(best["metrics"]["val_top1"])
        assert model.get_layer("vlad").num_clusters == best["values"]["num_clusters"]

    def test_its_files(self, finished):
        folder, _ = finished
        assert {path.name for path in (folder / "search").iterdir()} == {
            *(".lock", "search.json", "trials", "trials.csv", "best.json", "best.keras"),
            *("heat_map.png", "pareto_parameters.png"),
        }

    def test_hparams(self, finished):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        _, trials = finished
        events = EventAccumulator(str(trials[0].folder / "tensorboard"))
        events.Reload()
        metadata = events.SummaryMetadata("_hparams_/session_start_info")
        assert b"num_clusters" in metadata.plugin_data.content
        assert "val_top1" in events.Tags()["tensors"]


@pytest.mark.usefixtures("traced")
def test_the_graphs_of_finished_trials_are_let_go(finished, tmp_path):
    folder, _ = finished  # with the features
    hyper = hyper_model(folder, CountingHyperModel, stages=[replace(STAGE, epochs=1)])
    quick_search(tmp_path, hyper, max_trials=3)
    *_, after_one, after_two = hyper.num_graphs
    assert after_two <= after_one


def values_of(trial):
    hp = keras_tuner.HyperParameters()
    hp.values.update(trial.values)
    return hp


def test_the_models_of_the_best_three_are_kept(tmp_path):
    trials = quick_search(tmp_path)
    kept = [t for t in trials if (t.folder / "stage1.keras").exists()]
    assert kept == trials[1:]  # more clusters and units are better
    assert [t for t in trials if (t.folder / "state.npz").exists()] == kept


def test_a_worker_writes_nothing_before_the_chief(tmp_path):
    waiting = threading.Thread(target=wait_for_chief, args=(tmp_path,), daemon=True)
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive()
    assert not list(tmp_path.iterdir())
    (tmp_path / "search.json").write_text("{}")
    waiting.join(10)
    assert not waiting.is_alive()


class TestResume:
    def test_a_finished_search_trains_nothing(self, tmp_path, caplog):
        trials, again = quick_search(tmp_path), QuickHyperModel()
        assert quick_search(tmp_path, again) == trials
        assert again.folders == []
        assert "The search goes on. Trials done: 4." in caplog.text

    def test_an_interrupted_search_goes_on_in_the_running_trial(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            quick_search(tmp_path, InterruptedHyperModel())
        before = tuning.read_trials(tmp_path / "search")
        assert [t.status for t in before] == ["completed", "running"]
        again = QuickHyperModel()
        trials = quick_search(tmp_path, again)
        assert [t.status for t in trials] == ["completed"] * 4
        assert trials[0] == before[0]
        assert again.folders == [t.folder for t in trials[1:]]

    def test_a_trial_that_kills_the_process_is_given_up(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            quick_search(tmp_path, InterruptedHyperModel())
        running = tuning.read_trials(tmp_path / "search")[1]
        assert not (running.folder / "starts.txt").exists()  # the user's interrupt does not count
        (running.folder / "starts.txt").write_text("3 0")
        trials = quick_search(tmp_path)
        assert [t.status for t in trials] == ["completed", "failed", "completed", "completed"]
        assert "The trial was killed 3 times before it finished another epoch" in trials[1].message

    @pytest.mark.parametrize("is_written", [True, False])
    def test_a_kill_while_a_trial_begins(self, tmp_path, is_written):
        hyper = InterruptedHyperModel()
        quick_search(tmp_path, hyper, max_trials=1)
        state = tmp_path / "search" / "trials" / "oracle.json"
        before = state.read_text()
        with pytest.raises(KeyboardInterrupt):
            quick_search(tmp_path, hyper)
        state.write_text(before)  # as if it had not come to write that the second one has begun
        if not is_written:
            (tuning.read_trials(tmp_path / "search")[1].folder / "trial.json").write_text("{")
        trials = quick_search(tmp_path)
        assert [t.status for t in trials] == ["completed"] * 4
        assert len({tuple(t.values.values()) for t in trials}) == 4

    def test_more_trials(self, tmp_path):
        first = quick_search(tmp_path, algorithm="random", max_trials=1)
        trials = quick_search(tmp_path, algorithm="random", max_trials=3)
        assert trials[:1] == first
        assert len(trials) == 3

    @pytest.mark.parametrize(
        ("changed", "name"),
        [
            ({"algorithm": "random"}, "algorithm"),
            ({"seed": 1}, "seed"),
            ({"measure": "val_mAP"}, "measure"),
            ({"limits": {"parameters": 10}}, "limits.parameters"),
            ({"hyper": QuickHyperModel(lambda hp: hp.Choice("other", [1]))}, r"space\.1\.name"),
        ],
    )
    def test_another_search_is_left_as_it_is(self, tmp_path, changed, name):
        quick_search(tmp_path, max_trials=1)
        message = rf"'.*search' holds a search with other settings and is .* \({name}: .* there, "
        with pytest.raises(ValueError, match=message):
            quick_search(tmp_path, **changed)

    @pytest.mark.parametrize("change", ["labels", "backbone"])
    def test_other_data_or_weights_are_another_search(self, tmp_path, change):
        (tmp_path / "search").mkdir()
        settings, changed = (
            settings_of(
                hyper_model(tmp_path, **options),
                clips,
                VALIDATION,
                algorithm="grid",
                measure="val_top1",
                limits={},
                seed=0,
            )
            for options, clips in (
                ({}, TRAINING),
                (
                    {"build_backbone": lambda: tiny_backbone(seed=int(change == "backbone"))},
                    MemoryClips(
                        TRAINING.frames,
                        TRAINING.labels[:: -1 if change == "labels" else 1],
                        names=TRAINING.names,
                    ),
                ),
            )
        )
        assert [name for name in settings if settings[name] != changed[name]] == [
            {"labels": "labels", "backbone": "hyper_model"}[change]
        ]

    def test_a_condition_that_does_not_hold_at_first_is_part_of_the_space(self, tmp_path):
        quick_search(tmp_path, QuickHyperModel(conditional([3, 5])), max_trials=1)
        with pytest.raises(
            ValueError,
            match=r"is left as it is \(space\.1\.values: \[3, 5\] there, \[3, 6\] here\)",
        ):
            quick_search(tmp_path, QuickHyperModel(conditional([3, 6])))

    def test_a_trial_that_was_finished_before_it_was_told_is_not_repeated(self, tmp_path):
        trials = quick_search(tmp_path)
        # As if the process had been killed just before the trial's end was saved.
        path = trials[1].folder / "trial.json"
        path.write_text(path.read_text().replace("COMPLETED", "RUNNING"))
        state = tmp_path / "search" / "trials" / "oracle.json"
        oracle = json.loads(state.read_text())
        oracle["ongoing_trials"] = {"tuner0": trials[1].trial_id}
        state.write_text(json.dumps(oracle))
        again = QuickHyperModel()
        found = quick_search(tmp_path, again)
        assert [(t.status, t.metrics) for t in found] == [(t.status, t.metrics) for t in trials]
        assert again.folders == []

    def test_a_damaged_file_is_named(self, tmp_path):
        trials = quick_search(tmp_path)
        (trials[0].folder / "trial.json").write_text("{")
        with pytest.raises(ValueError, match=r"A file in '.*trials' is damaged \(Expecting"):
            quick_search(tmp_path)
        # As the message says.
        (tmp_path / "search" / "trials").rename(tmp_path / "damaged")
        again = quick_search(tmp_path)
        assert [t.score for t in again] == [t.score for t in trials]

    def test_files_of_others_are_left_as_they_are(self, tmp_path):
        (tmp_path / "search").mkdir()
        (tmp_path / "search" / "heat_map.png").write_text("mine")
        message = "does not hold a search: it has no search.json, but heat_map.png. Choose a new"
        with pytest.raises(ValueError, match=message):
            quick_search(tmp_path)
        assert (tmp_path / "search" / "heat_map.png").read_text() == "mine"


class TestFailures:
    def test_a_failing_trial_is_recorded_and_the_search_goes_on(self, tmp_path, caplog):
        trials = quick_search(tmp_path, FailingHyperModel())
        assert [t.status for t in trials] == ["completed", "failed", "completed", "failed"]
        assert trials[1].message == "MemoryError: no room for the states"
        assert "failed: MemoryError: no room for the states" in caplog.text
        assert {t.values["units"] for t in tuning.best_trials(trials, 4)} == {3}

    def test_a_loss_that_is_no_number(self, tmp_path):
        fixed = {"num_frames": 2, "stage1_learning_rate": 1e38, "optimizer": "sgd"}
        hyper = hyper_model(tmp_path, fixed=fixed, batch_size=4)
        trials = quick_search(tmp_path, hyper, max_trials=1)
        assert trials[0].message.startswith("FloatingPointError: The loss became ")

    def test_a_search_in_which_all_trials_fail_ends(self, tmp_path):
        hyper = QuickHyperModel(wide)
        hyper.fit = lambda *args, **options: 1 / 0
        message = (
            r"The last 10 trials failed and the search has stopped, the last one with "
            r"'ZeroDivisionError: division by zero' Mend the cause, and the same call goes on\."
        )
        with pytest.raises(ValueError, match=message):
            quick_search(tmp_path, hyper)
        assert len(quick_search(tmp_path, QuickHyperModel(wide), max_trials=12)) == 12


class TestLimits:
    def test_models_over_a_limit_are_not_trained(self, tmp_path, caplog):
        hyper = QuickHyperModel()
        trials = quick_search(tmp_path, hyper, limits={"parameters": 15})
        assert [t.metrics["parameters"] for t in trials] == [9, 15, 15, 25]  # (K + 1) U
        assert [t.score for t in trials] == pytest.approx([0.23, 0.25, 0.43, 15 / 25 - 1])
        assert "val_top1" not in trials[3].metrics
        assert hyper.folders == [t.folder for t in trials[:3]]
        assert "is over a limit and was not trained" in caplog.text

    def test_measures(self, tmp_path):
        measures = {"depth": lambda model: len(model.layers)}
        trials = quick_search(tmp_path, measures=measures, limits={"depth": 0.5}, max_trials=1)
        assert (trials[0].metrics["depth"], trials[0].score) == (1, -0.5)
        assert not (tmp_path / "search" / "best.keras").exists()


class TestAlgorithms:
    def test_hyperband_goes_on_from_the_paused_trials(self, finished, tmp_path):
        folder, _ = finished  # with the features
        hyper = hyper_model(folder, stages=[replace(STAGE, epochs=3)])
        trials = quick_search(tmp_path, hyper, algorithm="hyperband")
        promoted = [t for t in trials if promoted_from(t)]
        assert promoted
        for trial in promoted:
            before = next(t for t in trials if t.trial_id == promoted_from(trial))
            assert before.metrics["epochs"] < trial.metrics["epochs"] == 3
            assert trial.values == before.values
            rows = (before.folder / "history.csv").read_text()
            assert (trial.folder / "history.csv").read_text().startswith(rows)
        assert sum((t.folder / "state.npz").exists() for t in trials) <= 3  # it is over

    def test_a_grid_leaves_out_what_its_conditions_do(self, tmp_path, caplog):
        trials = quick_search(tmp_path, QuickHyperModel(conditional([3, 5])))
        assert [t.values for t in trials] == [
            {"num_clusters": 2, "units": 3},
            {"num_clusters": 4, "alpha": 3, "units": 3},
            {"num_clusters": 4, "alpha": 5, "units": 3},
        ]
        assert "Trial 0000 (of 3): num_clusters=2  units=3" in caplog.text

    @pytest.mark.parametrize("algorithm", ["random", "bayesian"])
    def test_a_seed_repeats_a_search(self, tmp_path, algorithm):
        runs = []
        for name, seed in (("a", 0), ("b", 0), ("c", 1)):
            hyper = QuickHyperModel(wide)
            options = {"algorithm": algorithm, "max_trials": 3, "seed": seed}
            trials = quick_search(tmp_path / name, hyper, **options)
            runs.append([(t.values, t.score) for t in trials])
        assert runs[0] == runs[1]
        assert runs[0] != runs[2]

    def test_max_hours(self, tmp_path):
        hyper = QuickHyperModel()
        fit = hyper.fit

        def slow(*args, **options):
            time.sleep(1.0)
            return fit(*args, **options)

        hyper.fit = slow
        trials = quick_search(tmp_path, hyper, max_hours=0.5 / 3600)
        assert [t.status for t in trials] == ["completed"]
        assert len(quick_search(tmp_path)) == 4  # it goes on another day


def conditional(choices):
    """A space that has `alpha` for four clusters alone."""

    def space(hp):
        num_clusters = hp.Choice("num_clusters", [2, 4])
        with hp.conditional_scope("num_clusters", [4]):
            if num_clusters == 4:
                hp.Choice("alpha", choices)
        hp.Choice("units", [3])

    return space


def wide(hp):
    return {"num_clusters": hp.Int("num_clusters", 2, 8), "units": hp.Int("units", 2, 9)}


def promoted_from(trial):
    state = json.loads((trial.folder / "trial.json").read_text())
    return state["hyperparameters"]["values"].get("tuner/trial_id")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"algorithm": "annealing"},
            "`algorithm` must be one of random, bayesian, hyperband, grid. Received: 'annealing'.",
        ),
        (
            {"measure": "top1"},
            "`measure` must be one of val_top1, val_mean_class_accuracy, val_mAP. Received: 'to",
        ),
        (
            {"measure": "val_top1", "training": SEVERAL_LABELS},
            "`measure` must be val_mAP where clips have several labels. Received: 'val_top1'.",
        ),
        ({"max_trials": 0}, "`max_trials` must be positive. Received: max_trials=0."),
        ({"max_hours": -1}, "`max_hours` must be positive. Received: max_hours=-1."),
        (
            {"limits": {"seconds": 3}},
            "`limits` must name `measures`, or parameters. Received: a limit of 'seconds'.",
        ),
        ({"limits": {"parameters": 0}}, "`limits` must be positive. Received: parameters=0."),
    ],
)
def test_arguments(tmp_path, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        quick_search(tmp_path, **options)
    assert not os.path.exists(tmp_path / "search")
