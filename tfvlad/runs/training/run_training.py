"""`tfvlad.train`: from labelled videos, or features, to a tested model in a run folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from tfvlad.runs.config import (
    DataPaths,
    FeatureRunConfig,
    RunConfig,
    owned_run_folder,
    with_settings,
)
from tfvlad.runs.run import Run
from tfvlad.runs.settings import FeatureSettings, VideoSettings
from tfvlad.runs.training.feature_training import prepare_on_features, train_on_features
from tfvlad.runs.training.planning import planned, with_imported_arrays
from tfvlad.runs.training.video_training import prepare_on_videos, train_on_videos
from tfvlad.training import Stage


def train(
    data: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    settings: VideoSettings | FeatureSettings | None = None,
    *,
    lists: str | os.PathLike[str] | None = None,
    split: int = 1,
    test_data: str | os.PathLike[str] | None = None,
    flow: str | os.PathLike[str] | None = None,
    attended: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    max_broken: int | None = None,
    **changes: Any,
) -> Run:
    """Train a classifier on labelled videos or features, and test it.

    The best epochs are chosen on clips carved from the training list; the test list is read once,
    at the end. A training that was stopped or killed goes on with the same call; one that is
    finished is not repeated.

    Args:
        data: videos: a folder with a sub-folder for each class (or `train/` and `test/` with such
            sub-folders), a CSV of path,label[,start_seconds,end_seconds], or with `lists` the video
            folder of HMDB51, UCF101, ActivityNet, Hollywood2 or Charades; or a feature set that
            `tfvlad.extract_features` has made of these, or `pipelines.import_features` of arrays.
            A folder of arrays is imported to `folder/features`, and tells no times.
        folder: of the run: a new one, or that of the same training.
        settings: how to train; `VideoSettings()` or `FeatureSettings()` by default.
        lists: official lists: the folder of HMDB51's (`<class>_test_split<n>.txt`), UCF101's
            (`trainlist0<n>.txt`), Hollywood2's (`ClipSets`) or Charades' (`Charades_v1_train.csv`),
            or ActivityNet's JSON file; or a CSV of videos below `data`.
        split: number of the official split, from 1.
        test_data: test videos, named like `data`; without them, lists and sub-folders, a fifth of
            the videos is the test list.
        flow: optical flow of the videos, for the model "two-stream".
        attended: feature set that the attention LSTM attends to; `data` itself by default.
        cache: folder of cached features, which may be shared by runs; `folder/features` by default.
        max_broken: most broken videos of a list that may be left out; by default a tenth of them,
            and at least 10.
        **changes: settings by name, in the place of those of `settings`.

    Returns:
        The run.

    Raises:
        ValueError: when the settings or the data are not possible, or the folder holds something
            else.
    """
    paths, chosen = planned(
        data,
        settings,
        changes,
        lists=lists,
        split=split,
        test_data=test_data,
        flow=flow,
        attended=attended,
        cache=cache,
    )
    place = Path(folder)
    owned_run_folder(place).check_free()
    paths = with_imported_arrays(paths, place, max_broken)
    train_in(paths, place, chosen, root=place, cache=cache, max_broken=max_broken)
    return Run(place)


def train_in(
    paths: DataPaths,
    folder: Path,
    settings: VideoSettings | FeatureSettings,
    *,
    root: Path,
    cache: str | os.PathLike[str] | None = None,
    max_broken: int | None = None,
) -> None:
    """Train a run of several below `root`, which share what is known of the videos."""
    if isinstance(settings, FeatureSettings):
        train_on_features(paths, folder, settings, max_broken=max_broken)
    else:
        shared = None if cache is None else Path(cache)
        train_on_videos(paths, folder, settings, root=root, cache=shared, max_broken=max_broken)


def check_trainings(
    trainings: Iterable[tuple[DataPaths, Path, VideoSettings | FeatureSettings]],
    *,
    max_broken: int | None,
) -> None:
    """Refuse, before the first of several trainings, what any of them would refuse.

    Args:
        trainings: the data, the folder and the settings of each.
        max_broken: see `train`.

    Raises:
        ValueError: when settings do not fit the data, or a folder holds something else.
    """
    known: dict[tuple, tuple[RunConfig | FeatureRunConfig, Stage | None]] = {}
    for paths, folder, settings in trainings:
        owned_run_folder(folder).check_free()
        kind = paths, replace(settings, seed=0)
        if kind not in known:
            keras.backend.clear_session()  # the memory of the models before
            if isinstance(settings, FeatureSettings):
                on_features = prepare_on_features(paths, settings, max_broken)
                known[kind] = on_features.config, on_features.recipe
            else:
                known[kind] = prepare_on_videos(paths, settings).config, None
        config, recipe = known[kind]
        wanted = with_settings(config, settings)
        owned_run_folder(folder, recipe).check_settings(wanted.to_dict())
