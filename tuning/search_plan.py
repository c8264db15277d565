"""What a search of a run's settings needs: clips, a hyper-model, and the way back to settings."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import keras_tuner

from pipelines.lists.records import VideoRecord
from tfvlad.runs.clip_sources import clip_source
from tfvlad.runs.config import DataPaths, FeatureRunConfig, RunConfig
from tfvlad.runs.data import read_split, set_validation_aside
from tfvlad.runs.feature_sources import feature_folders, feature_source
from tfvlad.runs.networks import build_backbones
from tfvlad.runs.run_files import tell_left_out, tell_parts, write_left_out
from tfvlad.runs.settings import FeatureSettings, VideoSettings
from tfvlad.runs.training.feature_training import plan_feature_run, recipe_of, stage_of
from tfvlad.runs.training.video_training import plan_run, stages_of, usable_records
from tfvlad.training import FeatureCache
from tuning.hyper_models.attention_lstm import AttentionLSTMHyperModel
from tuning.hyper_models.clips import ActionVLADHyperModel, TAVLADHyperModel
from tuning.hyper_models.spaces import (
    action_vlad_space,
    attention_lstm_space,
    ta_vlad_space,
    two_stream_space,
)
from tuning.hyper_models.values import Space
from tuning.running.processes import is_worker

# Epochs without a better one after which a stage of a clip model's trial ends.
_PATIENCE = 5
# Of a model of features, whose papers' recipes have thousands of short ones.
_MAX_EPOCHS = 60
# The models that can be searched for, and what their searches vary.
SPACES: dict[str, Space] = {
    "ta-vlad": ta_vlad_space,
    "action-vlad": action_vlad_space,
    "two-stream": two_stream_space,
    "attention-lstm": attention_lstm_space,
}

_Settings = TypeVar("_Settings", VideoSettings, FeatureSettings)


@dataclass(frozen=True)
class SearchPlan:
    """A search for the settings of a run.

    Attributes:
        config: of a run with the settings that are not varied.
        parts: clips of the "train", "validation" and "test" lists.
        training: clips to learn from.
        validation: clips by which epochs and trials are compared.
        hyper_model: from values to a trained model.
        blocks: of the backbone, in their order; none of a model of features.
    """

    config: RunConfig | FeatureRunConfig
    parts: Mapping[str, Sequence[VideoRecord]]
    training: Any
    validation: Any
    hyper_model: keras_tuner.HyperModel
    blocks: Sequence[str] = ()

    def config_with(self, values: Mapping[str, Any]) -> RunConfig | FeatureRunConfig:
        """The configuration of the run that a trial's values stand for."""
        if isinstance(self.config, FeatureRunConfig):
            return replace(self.config, settings=with_values(self.config.settings, values, ()))
        settings = with_values(self.config.settings, values, self.blocks)
        freed_block = settings.freed_block or self.config.freed_block
        return replace(self.config, settings=settings, freed_block=freed_block)


def plan_video_search(
    data: DataPaths,
    place: Path,
    settings: VideoSettings,
    space: Space,
    given: Collection[str],
    cache: Path,
    max_broken: int | None,
) -> SearchPlan:
    """Plan the search for a model of videos.

    Args:
        data: the videos.
        place: folder for what is known of them.
        settings: of every trial, but for the values that it varies.
        space: what is varied.
        given: names of the settings that are not.
        cache: folder of the cached features.
        max_broken: most broken videos that may be left out.

    Raises:
        ValueError: when the settings do not fit the data.
    """
    num_cached_crops = settings.num_cached_crops
    if num_cached_crops is None:
        raise ValueError(
            "`num_cached_crops` must be a number: the trials of a search share their features. "
            "Received: num_cached_crops=None."
        )
    if settings.patience is None:
        settings = replace(settings, patience=_PATIENCE)
    records = read_split(data)
    fraction, seed = settings.validation_fraction, settings.seed
    set_validation_aside(records, fraction, seed)
    config, networks = plan_run(data, records, settings)
    place.mkdir(parents=True, exist_ok=True)
    records, indexes, broken = usable_records(config, records, place, max_broken)
    training, validation = set_validation_aside(records, fraction, seed)
    parts = {"train": training, "validation": validation, "test": records.test}
    _tell(config, parts, broken, place)
    source = functools.partial(clip_source, config, indexes=indexes)
    blocks = tuple(networks[0].blocks)
    hyper_model = (TAVLADHyperModel if settings.model == "ta-vlad" else ActionVLADHyperModel)(
        lambda: build_backbones(settings, config.freed_block),
        len(config.class_names),
        space=space,
        fixed=fixed_values(settings, given, blocks),
        stages=stages_of(settings, config.freed_block),
        batch_size=settings.batch_size,
        cache=FeatureCache(cache, settings.cache_dtype),
        num_cached_crops=num_cached_crops,
        seed=seed,
    )
    return SearchPlan(
        config,
        parts,
        source(training, color_jitter=settings.color_jitter),
        source(validation),
        hyper_model,
        blocks,
    )


def plan_feature_search(
    data: DataPaths,
    place: Path,
    settings: FeatureSettings,
    space: Space,
    given: Collection[str],
    max_broken: int | None,
) -> SearchPlan:
    """Plan the search for an attention LSTM on features; see `plan_video_search`."""
    settings = replace(
        settings,
        max_epochs=settings.max_epochs or _MAX_EPOCHS,
        patience=settings.patience or 2 * _PATIENCE,
    )
    config, parts, broken = plan_feature_run(data, settings, max_broken)
    place.mkdir(parents=True, exist_ok=True)
    _tell(config, parts, broken, place)
    hyper_model = AttentionLSTMHyperModel(
        len(config.class_names),
        *(described["num_channels"] for described in config.feature_sets),
        multi_label=config.multi_label,
        space=space,
        fixed=fixed_values(settings, given, ()),
        stage=stage_of(settings, recipe_of(settings, len(parts["train"]))),
        batch_size=settings.clips_per_batch,
        seed=settings.seed,
    )
    training, validation = (
        feature_source(config, feature_folders(data, settings), parts[part], seed=settings.seed)
        for part in ("train", "validation")
    )
    return SearchPlan(config, parts, training, validation, hyper_model)


def fixed_values(
    settings: VideoSettings | FeatureSettings, given: Collection[str], blocks: Sequence[str]
) -> dict[str, Any]:
    """The values that all trials have, since their settings were given."""
    own = "num_frames" if isinstance(settings, VideoSettings) else "learning_rate"
    values = {name: getattr(settings, name) for name in (own, "optimizer")}
    values |= settings.model_arguments()
    # In an order that is the same in every process; None is the recipe's, which is varied.
    names = [name for name in sorted(values) if name in given and values[name] is not None]
    fixed = {name: values[name] for name in names}
    if isinstance(settings, FeatureSettings):
        return fixed
    if "learning_rates" in given:
        for number, learning_rate in enumerate(settings.learning_rates, 1):
            fixed[f"stage{number}_learning_rate"] = learning_rate
    if "freed_block" in given and settings.freed_block:
        fixed["num_freed_blocks"] = len(blocks) - blocks.index(settings.freed_block)
    return fixed


def with_values(settings: _Settings, values: Mapping[str, Any], blocks: Sequence[str]) -> _Settings:
    """The settings that a trial's values stand for."""
    changes = {name: value for name, value in values.items() if name in vars(settings)}
    if isinstance(settings, FeatureSettings) or "num_freed_blocks" not in values:
        return replace(settings, **changes)
    rates = settings.learning_rates
    changes["learning_rates"] = (
        values.get("stage1_learning_rate", rates[0]),
        values.get("stage2_learning_rate", rates[1]),
    )
    if values["num_freed_blocks"]:
        changes["freed_block"] = blocks[-values["num_freed_blocks"]]
    else:
        changes["epochs"] = (settings.epochs[0], 0)
        changes["freed_block"] = None
    return replace(settings, **changes)


def _tell(
    config: RunConfig | FeatureRunConfig,
    parts: Mapping[str, Sequence[VideoRecord]],
    broken: Sequence[Any],
    place: Path,
) -> None:
    """Say what is learnt from; workers leave the list of broken videos to the chief."""
    if is_worker():
        tell_left_out(broken)
    else:
        write_left_out(broken, place)
    tell_parts(config, {name: parts[name] for name in ("train", "validation")})
