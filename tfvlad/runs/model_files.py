"""The trained model of a run folder: for this stack as a Keras file, for every stack as weights."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import keras

from pipelines.storage.files import write_aside
from tfvlad.runs.config import FeatureRunConfig, load_config
from tfvlad.runs.networks import build_backbones, build_feature_model, build_model


def save_model(model: keras.Model, folder: Path, stage: int) -> None:
    """Make the weights after a stage the run's: `model.weights.h5` and `model.keras`."""
    with write_aside(folder / "model.weights.h5") as aside:
        model.save_weights(aside)
    with write_aside(folder / "model.keras") as aside:
        shutil.copyfile(folder / f"stage{stage}.keras", aside)


def load_model(folder: Path) -> keras.Model:
    """The trained model of a run.

    Raises:
        ValueError: when the training has not come to its end.
    """
    path = folder / "model.keras"
    if not path.exists():
        raise ValueError(
            f"'{folder}' has no finished model. Train again with the same settings: the training "
            "goes on where it stopped."
        )
    try:
        return keras.models.load_model(path)
    except TypeError:  # Keras 2 and 3 do not read each other's models, but their weights
        config = load_config(folder)
        if isinstance(config, FeatureRunConfig):
            model = build_feature_model(config)
        else:
            settings = config.settings
            if settings.aggregate_at not in ("fc6", "fc7"):
                # The file of VGG's dense layers decides its preprocessing; others need no file.
                settings = replace(settings, weights=None)
            model = build_model(config, build_backbones(settings, config.freed_block))
        model.load_weights(folder / "model.weights.h5")
        return model
