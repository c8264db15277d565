"""config.json: written, read, read of the version before."""

import json
from dataclasses import asdict, replace

import pytest

from tfvlad.runs.config import (
    DataPaths,
    FeatureRunConfig,
    RunConfig,
    load_config,
    owned_run_folder,
)
from tfvlad.runs.settings import FeatureSettings, VideoSettings
from tfvlad.runs.training.feature_training import recipe_of, stage_of
from tfvlad.training import ta_vlad_stages

SHARED = {"class_names": ("a", "b"), "multi_label": False}
FEATURES = {"network": "resnet18", "layer": "pooled", "num_channels": 512, "weights": None}
CONFIGS = {
    "videos": RunConfig(
        settings=VideoSettings(alpha="auto", epochs=(3, 0), weights="/w.h5", seed=3),
        data=DataPaths(data="/videos", lists="/lists", split=2),
        freed_block="block4",
        short_side=73,
        flow={"method": "dis", "bound": 20.0, "short_side": 64, "images": False},
        **SHARED,
    ),
    "features": FeatureRunConfig(
        settings=FeatureSettings(learning_rate=1e-3, sampling="uniform"),
        data=DataPaths(data="/a", attended="/b"),
        feature_sets=(FEATURES, FEATURES),
        **SHARED,
    ),
}


def written(folder, values):
    (folder / "config.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_written_comes_back(name, tmp_path):
    assert load_config(written(tmp_path, CONFIGS[name].to_dict())) == CONFIGS[name]


def test_paths_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = DataPaths(data="videos", lists="lists")
    assert (paths.data, paths.lists) == (str(tmp_path / "videos"), str(tmp_path / "lists"))
    assert paths.flow is None


def test_folders_of_other_things(tmp_path):
    with pytest.raises(ValueError, match=r"is not a run folder: it has no config\.json\. Give a"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 9}, r"version 9, and this is version 1"),
        ({"short_side": "wide"}, r"invalid value for type, expected int"),
        ({"colour": 1}, r"extra fields found \(colour\)"),
        ({"settings": {"num_frames": 0}}, r"`num_frames` must be a whole number"),
        ({"settings": {"num_frame": 1}}, r"extra fields found \(num_frame\)"),
    ],
)
def test_damaged_configurations(change, reason, tmp_path):
    values = {**CONFIGS["videos"].to_dict(), **change}
    message = rf"config\.json' is no configuration of a run that this version knows \(.*{reason}"
    with pytest.raises(ValueError, match=message):
        load_config(written(tmp_path, values))


@pytest.mark.parametrize("text", ["no json", "[]", '{"scenario": 1}', '{"version": 1}'])
def test_foreign_files(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"is no configuration of a run that this version knows"):
        load_config(tmp_path)


STAGE = {
    **{"epochs": 4, "learning_rate": 0.02, "decay_factor": 0.5, "decay_epochs": 3},
    **{"constant_epochs": None, "optimizer": "sgd", "momentum": 0.9, "patience": 7},
    **{"best_by": "measure", "trainable_layers": ["logits"], "freed_block": None},
    **{"batch_norm": False, "epsilon": 1e-7, "clip_norm": None, "weight_decay": None},
}
SECOND = {"epochs": 2, "learning_rate": 0.001, "decay_epochs": 5, "trainable_layers": None}
VERSION_0 = {
    "model": "action-vlad",
    "model_options": {
        **{"num_clusters": 8, "units": 16, "alpha": 50.0, "bidirectional": False},
        **{"temporal": "shared_gru", "intra_normalize": True, "fusion": "concat"},
        **{"dropout": 0.25, "attention": True},
    },
    **{"backbone": "resnet18", "weights": None, "class_names": ["a", "b"], "multi_label": False},
    **{"num_frames": 6, "image_size": 64, "sampling": "segments", "short_side": 73},
    "freed_block": "layer4",
    "data": {"data": "/v", "test_data": None, "lists": "/l", "split": 2, "flow": None},
    "training": {
        "stages": [STAGE, {**STAGE, **SECOND}],
        **{"batch_size": 4, "seed": 5, "color_jitter": 0.1, "cached_crops": None},
        "validation_fraction": 0.3,
    },
    **{"streams": ["rgb"], "stack_frames": 10, "layer": "layer3", "freeze_attention": True},
    "flow": None,
}


class TestVersion0:
    def test_videos(self, tmp_path):
        found = load_config(written(tmp_path, VERSION_0))
        assert found.settings == VideoSettings(
            model="action-vlad",
            num_clusters=8,
            units=16,
            alpha=50.0,
            dropout=0.25,
            attention=True,
            attention_temperature=1.0,
            freeze_attention=True,
            backbone="resnet18",
            weights=None,
            aggregate_at="layer3",
            num_frames=6,
            image_size=64,
            sampling="segments",
            color_jitter=0.1,
            num_cached_crops=None,
            optimizer="sgd",
            patience=7,
            epochs=(4, 2),
            learning_rates=(0.02, 0.001),
            decay_epochs=(3, 5),
            freed_block="layer4",
            batch_size=4,
            seed=5,
            validation_fraction=0.3,
        )
        assert found.data == DataPaths(data="/v", lists="/l", split=2)
        assert (found.freed_block, found.short_side) == ("layer4", 73)

    def test_the_same_training_goes_on(self, tmp_path):
        first, second = ta_vlad_stages("layer4")
        stages = [asdict(replace(stage, epochs=3)) for stage in (first, second)]
        values = {
            **{**VERSION_0, "model": "ta-vlad", "freeze_attention": False},
            "training": {**VERSION_0["training"], "stages": stages},
        }
        written(tmp_path, values)
        (tmp_path / "state.npz").touch()
        found = load_config(tmp_path)
        assert (found.settings.optimizer, found.settings.attention) == (None, None)
        # The last block, whether it was named or not.
        same = replace(found, settings=replace(found.settings, freed_block=None))
        owned_run_folder(tmp_path).check_settings(same.to_dict())
        other = replace(same, settings=replace(same.settings, optimizer="sgd"))
        with pytest.raises(ValueError, match=r"\(settings\.optimizer: None there, 'sgd' here\)"):
            owned_run_folder(tmp_path).check_settings(other.to_dict())

    @pytest.mark.parametrize(
        ("model", "options", "then"),
        [
            ("ta-vlad", {}, ("sqrt_channels", 0.0, 1.0)),
            ("ta-vlad", {"intra_normalize": False}, (1.0, 0.0, 1.0)),
            ("ta-vlad", {"attention": False}, ("sqrt_channels", 0.0, 4.0)),
            ("action-vlad", {"attention": True}, (1.0, 2.0, 1.0)),
            ("action-vlad", {}, (1.0, 2.0, 4.0)),
            ("average-pooling", {}, (1.0, 2.0, 4.0)),
        ],
    )
    def test_settings_that_came_later(self, model, options, then, tmp_path):
        values = {**VERSION_0, "model": model, "model_options": options, "freeze_attention": False}
        settings = load_config(written(tmp_path, values)).settings
        found = (settings.input_scale, settings.update_bias, settings.attention_temperature)
        assert found == then

    def test_one_stage_and_no_options_that_came_later(self, tmp_path):
        training = {"stages": [STAGE], "batch_size": 4, "seed": 5}
        later = ("streams", "stack_frames", "layer", "freeze_attention", "flow")
        values = {name: value for name, value in VERSION_0.items() if name not in later}
        settings = load_config(written(tmp_path, {**values, "training": training})).settings
        assert (settings.epochs, settings.freed_block) == ((4, 0), None)
        assert (settings.streams, settings.color_jitter) == (("rgb",), 0.0)

    def test_recipe_and_fixed_centres(self, tmp_path):
        first = {**STAGE, "clip_norm": 5.0}
        second = {**first, "trainable_layers": ["logits", "attention"]}
        training = {**VERSION_0["training"], "stages": [first, second]}
        settings = load_config(written(tmp_path, {**VERSION_0, "training": training})).settings
        assert (settings.recipe, settings.fixed_centers) == ("action-vlad", True)

    @pytest.mark.parametrize(
        ("model", "streams"),
        [
            ("average-pooling", ["flow"]),
            ("ta-vlad", ["flow"]),
            ("two-stream", ["rgb", "flow"]),
        ],
    )
    def test_streams(self, model, streams, tmp_path):
        values = {**VERSION_0, "model": model, "streams": streams, "stack_frames": 3}
        values["freeze_attention"] = model == "ta-vlad"
        settings = load_config(written(tmp_path, values)).settings
        assert (settings.streams, settings.stack_frames) == (tuple(streams), 3)

    @pytest.mark.parametrize("recipe", ["attention-lstm", "hollywood2"])
    def test_the_same_training_on_features_goes_on(self, recipe, tmp_path):
        """What was left to the recipe is None again, once the number of clips is known."""
        settings = FeatureSettings(recipe=recipe, patience=3)
        of_clips = recipe_of(settings, 3000)
        values = {
            "model": "attention-lstm",
            "model_options": {
                **{"dropout": 0.5, "units": 512, "matching_units": 512, "attend": "every_step"},
            },
            **{"class_names": ["a", "b"], "multi_label": False, "feature_sets": [FEATURES] * 2},
            **{"num_steps": [12, 12], "chunk_frames": 192},
            "data": {"data": "/f", "attended": None, "lists": None, "split": 1},
            "training": {
                "stage": asdict(stage_of(settings, of_clips)),
                **{"batch_size": settings.clips_per_batch, "seed": 0, "initialize_from": None},
                "validation_fraction": 0.15,
            },
        }
        config = replace(load_config(written(tmp_path, values)), settings=settings)
        (tmp_path / "state.npz").touch()
        owned_run_folder(tmp_path, of_clips).check_settings(config.to_dict())
        message = r"\(settings\.max_epochs: \d+ there, None here; .*patience: 3 there, 4 here\)"
        other = replace(config, settings=replace(settings, patience=4))
        with pytest.raises(ValueError, match=message):
            owned_run_folder(tmp_path, recipe_of(settings, 30_000)).check_settings(other.to_dict())

    @pytest.mark.parametrize("chunk_frames", [None, 32])
    def test_features(self, chunk_frames, tmp_path):
        values = {
            "model": "attention-lstm",
            "model_options": {
                **{"dropout": 0.5, "units": 8, "matching_units": 4, "attend": "last_step"},
            },
            **{"class_names": ["a", "b"], "multi_label": True, "feature_sets": [FEATURES] * 2},
            **{"num_steps": [3, 4], "chunk_frames": chunk_frames},
            "data": {"data": "/f", "attended": "/g", "lists": None, "split": 1},
            "training": {
                "stage": {**STAGE, "momentum": 0.6},
                **{"batch_size": 9, "seed": 2, "initialize_from": None},
                "validation_fraction": 0.2,
            },
        }
        found = load_config(written(tmp_path, values))
        expected = FeatureSettings(
            units=8,
            matching_units=4,
            attend="last_step",
            num_steps=3,
            num_attended=4,
            sampling="chunk" if chunk_frames else "uniform",
            recipe="hollywood2",
            optimizer="sgd",
            max_epochs=4,
            learning_rate=0.02,
            patience=7,
            batch_size=9,
            seed=2,
            validation_fraction=0.2,
        )
        if chunk_frames:
            expected = replace(expected, chunk_frames=32)
        assert found.settings == expected
        assert found.chunk_frames == chunk_frames
        assert found.data.attended == "/g"
