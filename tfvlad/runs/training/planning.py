"""What a training is asked for, checked as far as it can be without its videos."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.features.importing import import_features
from pipelines.lists.broken import most_broken
from tfvlad.runs.config import DataPaths
from tfvlad.runs.data import data_paths, holds_arrays, is_feature_set
from tfvlad.runs.settings import FeatureSettings, VideoSettings
from tfvlad.runs.settings.kinds import changed, check_fits, settings_for
from tfvlad.runs.settings.rules import without_effect


def planned(
    data: str | os.PathLike[str],
    settings: VideoSettings | FeatureSettings | None,
    changes: Mapping[str, Any],
    *,
    split: int,
    cache: str | os.PathLike[str] | None = None,
    **named: str | os.PathLike[str] | None,
) -> tuple[DataPaths, VideoSettings | FeatureSettings]:
    """The data and the settings of a training, checked as far as they can be without its videos.

    Args:
        data: see `train`.
        settings: see `train`.
        changes: settings by name.
        split: see `train`.
        cache: see `train`.
        **named: `lists`, `test_data`, `flow` and `attended` of `train`.

    Raises:
        ValueError: when a path is missing, a setting is out of range, they do not fit together, or
            one would have no effect.
    """
    paths = data_paths(data, split=split, **named)
    chosen = _settings(data, settings, changes)
    _check_effect(chosen, {**named, "cache": cache})
    return paths, chosen


def with_imported_arrays(paths: DataPaths, root: Path, max_broken: int | None) -> DataPaths:
    """The data of trainings below a folder; arrays become a feature set there.

    Args:
        paths: of the data.
        root: of the runs; the set is its `features`.
        max_broken: see `train`.

    Raises:
        ValueError: when there are arrays that cannot be imported.
    """
    if not holds_arrays(paths.data):
        return paths
    done = import_features(paths.data, root / "features", max_broken=max_broken)
    total = done.num_videos + len(done.broken)
    if len(done.broken) > most_broken(total, max_broken):
        raise ValueError(
            f"{len(done.broken)} of {total} arrays are broken, more than a tenth: see the warning. "
            "Mend or remove them, or give `max_broken`."
        )
    return replace(paths, data=os.path.abspath(done.folder))


def _check_effect(
    settings: VideoSettings | FeatureSettings, paths: Mapping[str, str | os.PathLike[str] | None]
) -> None:
    """Refuse what the model takes no notice of, and miss what it needs."""
    given = {name: os.fspath(path) for name, path in paths.items() if path is not None}
    of_model = f"model={settings.model!r}"
    two_streams = settings.model == "two-stream"
    if two_streams and "flow" not in given:
        raise ValueError(
            "A two-stream model needs `flow`, a folder that `pipelines.extract_flow` has written."
        )
    if two_streams and "test_data" in given:
        raise ValueError(
            f"`test_data` has no effect on {of_model}, whose flow lies beside one folder of "
            f"videos. Received: test_data={given['test_data']!r}. Name the test list with `lists`."
        )
    if isinstance(settings, FeatureSettings):
        others = {"flow", "test_data", "cache", *([] if settings.attends else ["attended"])}
    else:
        others = {"attended", *([] if two_streams else ["flow"])}
        if "cache" in given and settings.num_cached_crops is None:
            raise without_effect("cache", given["cache"], "a training with num_cached_crops=None")
    for name in given:
        if name in others:
            raise without_effect(name, given[name], of_model)


def _settings(
    data: str | os.PathLike[str],
    settings: VideoSettings | FeatureSettings | None,
    changes: Mapping[str, Any],
) -> VideoSettings | FeatureSettings:
    """What is asked for, with absolute paths: a run is read from other folders too."""
    on_features = is_feature_set(data) or holds_arrays(data)
    if settings is None:
        settings = settings_for(data, changes, on_features=on_features)
    else:
        settings = changed(settings, changes)
        check_fits(settings.model, data, on_features=on_features)
    name = "initialize_from" if isinstance(settings, FeatureSettings) else "weights"
    path = getattr(settings, name)
    if path is None or path == "imagenet":
        return settings
    if not os.path.exists(path):
        others = ', "imagenet" or None' if name == "weights" else ""
        kind = "a file" if name == "weights" else "the folder of a run"
        raise ValueError(f"`{name}` must be {kind} that exists{others}. Received: {name}={path!r}.")
    return changed(settings, {name: os.path.abspath(path)})
