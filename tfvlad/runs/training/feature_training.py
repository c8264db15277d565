"""One training on extracted features: records -> chunks -> one stage -> test."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pipelines.features.clips import FeatureClipSource
from pipelines.features.feature_index import drop_without_features
from pipelines.features.feature_set import FeatureSet
from pipelines.lists.records import Split, VideoRecord
from pipelines.video.index import BrokenVideo
from tfvlad.evaluation import compare_orders
from tfvlad.models import parts_of
from tfvlad.runs.config import (
    DataPaths,
    FeatureRunConfig,
    load_config,
    owned_run_folder,
)
from tfvlad.runs.data import clip_names, read_split, set_validation_aside, write_lists
from tfvlad.runs.feature_sources import (
    feature_folders,
    feature_source,
    predict_clips,
    predict_clips_in_orders,
)
from tfvlad.runs.model_files import load_model, save_model
from tfvlad.runs.networks import build_feature_model
from tfvlad.runs.run_files import (
    is_tested,
    save_scores,
    tell_parts,
    write_left_out,
    write_result,
)
from tfvlad.runs.settings import FeatureSettings
from tfvlad.runs.training.video_training import seed_everything
from tfvlad.training import (
    Stage,
    attention_lstm_stage,
    fit_on_features,
    hollywood2_stage,
)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class FeatureTraining:
    """A training that has been checked and has not begun.

    Attributes:
        config: of the run.
        parts: clips of the "train", "validation" and "test" lists.
        broken: clips without features.
        sources: of the clips of each part.
        model: untrained, or with the weights that it is to begin with.
        recipe: what the recipe says for so many clips.
        stage: the same with what the settings say.
    """

    config: FeatureRunConfig
    parts: Mapping[str, tuple[VideoRecord, ...]]
    broken: Sequence[BrokenVideo]
    sources: Mapping[str, FeatureClipSource]
    model: keras.Model
    recipe: Stage
    stage: Stage


def train_on_features(
    data: DataPaths,
    folder: Path,
    settings: FeatureSettings,
    *,
    max_broken: int | None = None,
) -> None:
    """Train, choose the best epoch on the validation set, test; goes on with what was stopped.

    Args:
        data: the features.
        folder: of the run.
        settings: of the training.
        max_broken: most clips without features that may be left out.
    """
    owned_run_folder(folder).check_free()
    seed_everything(settings.seed)
    prepared = prepare_on_features(data, settings, max_broken)
    owned = owned_run_folder(folder, prepared.recipe)
    with owned.locked():
        owned.claim(prepared.config.to_dict())
        if not is_tested(folder, settings):
            _train(prepared, folder)


def prepare_on_features(
    data: DataPaths, settings: FeatureSettings, max_broken: int | None
) -> FeatureTraining:
    """Check a training, without reading the features, and build its model.

    Raises:
        ValueError: when the settings do not fit the data, or the run to begin with.
    """
    config, parts, broken = plan_feature_run(data, settings, max_broken)
    sources = {
        part: feature_source(config, feature_folders(data, settings), found, seed=settings.seed)
        for part, found in parts.items()
    }
    model = build_feature_model(config)
    if settings.initialize_from is not None:
        initialize(model, config, Path(settings.initialize_from))
    recipe = recipe_of(settings, len(parts["train"]))
    stage = stage_of(settings, recipe)
    return FeatureTraining(config, parts, broken, sources, model, recipe, stage)


def _train(prepared: FeatureTraining, folder: Path) -> None:
    """Train and test, see `train_on_features`."""
    started = time.monotonic()
    config, parts, sources = prepared.config, prepared.parts, prepared.sources
    settings, model = config.settings, prepared.model
    write_left_out(prepared.broken, folder)
    tell_parts(config, parts)
    fit_on_features(
        model,
        sources["train"],
        sources["validation"],
        folder,
        stage=prepared.stage,
        batch_size=settings.clips_per_batch,
        seed=settings.seed,
    )
    write_lists(folder / "lists.csv", parts, config.class_names)
    test = sources["test"]
    told: dict[str, Any] = {}
    if settings.sampling == "uniform" and max(settings.step_counts) > 1:
        # A clip is one chunk: the scores of other orders cost little.
        by_order = predict_clips_in_orders(model, test, settings.test_chunks)
        found = compare_orders(by_order, test.labels, config.class_names)
        _logger.info("%s", found.summary)
        scores, told["controls"] = by_order["plain"], found.to_dict()
    else:
        scores = predict_clips(model, test, settings.test_chunks)
    report = save_scores(folder, scores, test.labels, clip_names(parts["test"]), config.class_names)
    save_model(model, folder, 1)
    write_result(
        folder,
        config,
        **told,
        broken=len(prepared.broken),
        clip_frames=int(np.median(sources["train"].clip_frames())),
        stages=[report.metrics],
        seconds=round(time.monotonic() - started, 1),
    )


def plan_feature_run(
    data: DataPaths, settings: FeatureSettings, max_broken: int | None = None
) -> tuple[FeatureRunConfig, dict[str, tuple[VideoRecord, ...]], list[BrokenVideo]]:
    """What a run is: its configuration, its training, validation and test clips, and the broken.

    Raises:
        ValueError: when the settings do not fit the data.
    """
    folders = feature_folders(data, settings)
    records, broken = _leave_out(read_split(data), folders, max_broken)
    training, validation = set_validation_aside(
        records, settings.validation_fraction, settings.seed
    )
    several = [r for r in (*records.train, *records.test) if len(r.labels) != 1]
    config = FeatureRunConfig(
        settings=settings,
        data=data,
        class_names=tuple(records.class_names),
        multi_label=bool(several),
        feature_sets=tuple(asdict(FeatureSet.load(path)) for path in folders),
    )
    return config, {"train": training, "validation": validation, "test": records.test}, broken


def _leave_out(
    records: Split, folders: list[str], max_broken: int | None
) -> tuple[Split, list[BrokenVideo]]:
    """The records that have features, and the others."""
    train, broken_train = drop_without_features(records.train, folders, max_broken)
    test, broken_test = drop_without_features(records.test, folders, max_broken)
    return Split(train, test, records.class_names), broken_train + broken_test


def initialize(model: keras.Model, config: FeatureRunConfig, run: Path) -> None:
    """Take the weights of another run's model; the head stays new where the classes differ.

    Raises:
        ValueError: when the other run's model has other layers.
    """
    other, name = load_config(run), config.settings.model
    if other.settings.model != name:
        raise ValueError(
            f"`initialize_from` must be a run of the same model, {name}. "
            f"Received: '{run}', a run of {other.settings.model}."
        )
    same_head = (other.class_names, other.multi_label) == (config.class_names, config.multi_label)
    trained = load_model(run)
    classifiers = parts_of(model).classifiers
    for layer in model.layers:
        if not layer.weights or (layer in classifiers and not same_head):
            continue
        weights = trained.get_layer(layer.name).get_weights()
        shapes = [np.shape(w) for w in weights], [tuple(w.shape) for w in layer.weights]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"The layer '{layer.name}' of '{run}' has weights of the shapes {shapes[0]}, and "
                f"{shapes[1]} are needed. Train with its features and sizes."
            )
        layer.set_weights(weights)


def recipe_of(settings: FeatureSettings, num_clips: int) -> Stage:
    """What the settings' recipe says for a number of training clips."""
    recipe = hollywood2_stage if settings.recipe == "hollywood2" else attention_lstm_stage
    return recipe(-(-num_clips // settings.clips_per_batch))


def stage_of(settings: FeatureSettings, recipe: Stage) -> Stage:
    """The training: the recipe's, with what the settings say."""
    changes: dict[str, Any] = {
        "epochs": settings.max_epochs,
        "learning_rate": settings.learning_rate,
        "patience": settings.patience,
        "optimizer": settings.optimizer,
        "weight_decay": settings.weight_decay,
    }
    given = {name: value for name, value in changes.items() if value is not None}
    return replace(recipe, **given)
