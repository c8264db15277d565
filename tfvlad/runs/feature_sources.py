"""The clips of extracted features that a run's model sees."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from pipelines.features.clips import FeatureClipSource
from pipelines.features.feature_set import FeatureSet
from pipelines.lists.records import VideoRecord, record_number
from tfvlad.runs.config import DataPaths, FeatureRunConfig
from tfvlad.runs.settings import FeatureSettings
from tfvlad.training import predict_features_in_orders, predict_on_features

# What two feature sets must share for a model to take one in the place of the other.
_OF_THE_SAME_KIND = (
    *("network", "layer", "fingerprint", "frame_step", "window_frames"),
    *("image_size", "short_side", "num_channels"),
)


def feature_folders(data: DataPaths, settings: FeatureSettings) -> list[str]:
    """The feature sets that a model takes."""
    return [data.data, data.attended or data.data] if settings.attends else [data.data]


def imported_set(config: FeatureRunConfig) -> FeatureSet | None:
    """The set that a run's model was trained on, if it is one of imported arrays.

    Raises:
        ValueError: when the model attends to another set than that of its input.
    """
    first = FeatureSet(**config.feature_sets[0])
    if not first.is_imported:
        return None
    if config.data.attended not in (None, config.data.data):
        raise ValueError(
            "The model takes two arrays of each clip, and one is given. Import both of the clips, "
            "and test on the sets: give `data` and `attended`."
        )
    return first


def feature_source(
    config: FeatureRunConfig,
    folders: Sequence[str],
    records: tuple[VideoRecord, ...],
    *,
    seed: int = 0,
) -> FeatureClipSource:
    """The clips of a run's model from feature sets like its own.

    Raises:
        ValueError: when a set was extracted in another way.
    """
    for known, folder in zip(config.feature_sets, folders, strict=True):
        trained_on, found = FeatureSet(**known), FeatureSet.load(folder)
        for name in _OF_THE_SAME_KIND:
            if name == "layer" and found.is_imported:
                continue  # what an array is called in its file
            there, here = getattr(trained_on, name), getattr(found, name)
            if there != here:
                raise ValueError(
                    f"'{folder}' holds other features than the model was trained on: {name} is "
                    f"{here}, and {there} there."
                )
    return FeatureClipSource(
        records,
        config.class_names,
        folders,
        num_steps=config.settings.step_counts,
        chunk_frames=config.chunk_frames,
        multi_label=config.multi_label,
        seed=seed,
    )


def predict_clips(model: keras.Model, source: FeatureClipSource, num_chunks: int) -> np.ndarray:
    """Scores of all clips, from mirrored chunks too where the features have them."""
    return predict_on_features(model, source, num_chunks=num_chunks, flipped=source.has_flipped)


def predict_clips_in_orders(
    model: keras.Model, source: FeatureClipSource, num_chunks: int
) -> dict[str, np.ndarray]:
    """The same in other orders of the steps too, which the source's seed draws."""
    return predict_features_in_orders(
        model,
        source,
        [record_number(record) for record in source.records],
        seed=source.seed,
        num_chunks=num_chunks,
        flipped=source.has_flipped,
    )
