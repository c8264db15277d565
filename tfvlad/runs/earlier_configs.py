"""The config.json of runs that were made before its first numbered version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfvlad.runs.settings.model_table import MODELS
from tfvlad.training import Stage, action_vlad_stages, ta_vlad_stages


def from_version_0(values: Mapping[str, Any], recipe: Stage | None = None) -> dict[str, Any]:
    """The same configuration as version 1 keeps it.

    Version 0 kept the builder's arguments in `model_options`, those of models without them too, and
    the stages with all their numbers in `training`.

    Args:
        values: of version 0.
        recipe: what the recipe of a run on features says for its clips, where they are known.
    """
    shared = {
        "version": 1,
        "class_names": values["class_names"],
        "multi_label": values["multi_label"],
        "data": {
            name: value
            for name, value in values["data"].items()
            if name in ("data", "lists", "split", "test_data", "flow", "attended")
        },
    }
    if "feature_sets" in values:
        settings = _feature_settings(values, recipe)
        return {**shared, "settings": settings, "feature_sets": values["feature_sets"]}
    return {
        **shared,
        "settings": _video_settings(values),
        "freed_block": values["freed_block"],
        "short_side": values["short_side"],
        "flow": values.get("flow"),
    }


def with_values_of_then(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run on videos, with those that came later at the values of its time.

    Args:
        settings: as config.json has them.
    """
    entry = MODELS.get(settings.get("model", ""))
    takes = entry.takes if entry else ()
    attends = settings.get("attention")
    if attends is None:
        attends = settings.get("model") == "ta-vlad"
    of_then: dict[str, Any] = {}
    if "update_bias" in takes:
        is_normalized = settings.get("intra_normalize", True)
        of_then |= {"input_scale": "sqrt_channels" if is_normalized else 1.0, "update_bias": 0.0}
    if "attention" in takes and attends:
        of_then["attention_temperature"] = 1.0
    return {**of_then, **settings}


def _video_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    model, streams = values["model"], values.get("streams", ["rgb"])
    sizes = ("num_clusters", "units", "alpha", "dropout")
    arguments = {
        name: value
        for name, value in values["model_options"].items()
        if name in MODELS[model].takes or name in sizes
    }
    if arguments.get("attention") == (model == "ta-vlad"):
        del arguments["attention"]  # the model's own choice
    settings = {
        "model": model,
        **{name: values[name] for name in ("backbone", "weights", "num_frames", "image_size")},
        "sampling": values["sampling"],
        "aggregate_at": values.get("layer"),
        **arguments,
        **_video_training(values["training"]),
    }
    if len(streams) == 1:
        settings["stream"] = streams[0]
    if "flow" in streams:
        settings["stack_frames"] = values.get("stack_frames", 10)
    if "rgb" not in streams:
        settings.pop("color_jitter", None)
    if values.get("freeze_attention"):
        settings["freeze_attention"] = True
    if settings.get("epochs", (1, 1))[1]:
        settings["freed_block"] = values["freed_block"] or None
    return settings


def _video_training(training: Mapping[str, Any]) -> dict[str, Any]:
    names = ("batch_size", "seed", "color_jitter", "validation_fraction")
    settings = {name: training[name] for name in names if name in training}
    if "cached_crops" in training:
        settings["num_cached_crops"] = training["cached_crops"]
    stages = training.get("stages")
    if not stages:
        return settings
    first, last = stages[0], stages[-1]
    is_action_vlad = bool(first.get("clip_norm"))
    recipe = action_vlad_stages("", 1)[0] if is_action_vlad else ta_vlad_stages("")[0]
    # None stands for the recipe's: a training of then goes on with the same call.
    settings |= {
        name: None if first[name] == getattr(recipe, name) else first[name]
        for name in ("optimizer", "weight_decay")
    }
    settings |= {
        "recipe": "action-vlad" if is_action_vlad else "ta-vlad",
        "patience": first["patience"],
        "epochs": [first["epochs"], last["epochs"] if len(stages) > 1 else 0],
    }
    if len(stages) > 1:
        for setting, of_stage in (
            ("learning_rates", "learning_rate"),
            ("decay_epochs", "decay_epochs"),
        ):
            settings[setting] = [first[of_stage], last[of_stage]]
        # Stage 2 of a run with fixed centres trained the attention and stage 1's layers.
        trained = last.get("trainable_layers")
        settings["fixed_centers"] = trained is not None and "vlad" not in trained
    else:
        settings["learning_rates"] = [first["learning_rate"], 1e-4]
        settings["decay_epochs"] = [first["decay_epochs"], 8]
    return settings


def _feature_settings(values: Mapping[str, Any], recipe: Stage | None) -> dict[str, Any]:
    training, stage = values["training"], values["training"]["stage"]
    # The recipe for several labels is the one of a lower momentum.
    is_hollywood2 = stage.get("momentum") == 0.6
    # None stands for the recipe's, as in a run on videos.
    asked = {
        setting: None if recipe and stage[name] == getattr(recipe, name) else stage[name]
        for setting, name in (
            *((name, name) for name in ("optimizer", "learning_rate", "patience", "weight_decay")),
            ("max_epochs", "epochs"),
        )
    }
    batch_size = training["batch_size"]
    num_steps = values["num_steps"]
    chunk_frames = values["chunk_frames"]
    settings = {
        "model": values["model"],
        **values["model_options"],
        "num_steps": num_steps[0],
        "sampling": "chunk" if chunk_frames else "uniform",
        "recipe": "hollywood2" if is_hollywood2 else "attention-lstm",
        **asked,
        "batch_size": None if batch_size == (100 if is_hollywood2 else 200) else batch_size,
        **{name: training[name] for name in ("seed", "initialize_from")},
    }
    if "validation_fraction" in training:
        settings["validation_fraction"] = training["validation_fraction"]
    if chunk_frames:
        settings["chunk_frames"] = chunk_frames
    if len(num_steps) > 1:
        settings["num_attended"] = num_steps[1]
    return settings
