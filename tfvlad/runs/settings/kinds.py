"""Settings of the kind that fits the data, and with other values."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from tfvlad.runs.settings.feature_settings import FeatureSettings
from tfvlad.runs.settings.model_table import MODELS, models_on
from tfvlad.runs.settings.video_settings import VideoSettings


def changed(
    settings: VideoSettings | FeatureSettings, changes: Mapping[str, Any]
) -> VideoSettings | FeatureSettings:
    """The settings with other values.

    Raises:
        ValueError: when there is no such setting, or a value is out of range.
    """
    check_names(type(settings), changes)
    return replace(settings, **changes)


def check_names(kind: type[VideoSettings | FeatureSettings], names: Mapping[str, Any]) -> None:
    """Refuse names of settings that there are not.

    Raises:
        ValueError: when there is one.
    """
    known = [one.name for one in fields(kind)]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            advice = f" Did you mean `{near[0]}`?" if near else ""
            raise ValueError(
                f"`{name}` is no setting of {kind.__name__}.{advice} "
                f"Received: {name}={names[name]!r}."
            )


def settings_for(
    data: str | os.PathLike[str], values: Mapping[str, Any], *, on_features: bool
) -> VideoSettings | FeatureSettings:
    """Settings of the kind that fits the data.

    Args:
        data: videos or a feature set.
        values: of settings.
        on_features: whether `data` is a feature set.

    Raises:
        ValueError: when the model does not learn from such data, there is no such setting, or a
            value is out of range.
    """
    kind = FeatureSettings if on_features else VideoSettings
    model = values.get("model", kind.model)
    if model not in MODELS:
        raise ValueError(f"`model` must be one of {', '.join(MODELS)}. Received: model={model!r}.")
    check_fits(model, data, on_features=on_features)
    check_names(kind, values)
    return kind(**values)


def check_fits(model: str, data: str | os.PathLike[str], *, on_features: bool) -> None:
    """Refuse a model of videos for features, and the reverse.

    Raises:
        ValueError: when the model does not learn from such data.
    """
    if (MODELS[model].learns_from == "features") == on_features:
        return
    if on_features:
        raise ValueError(
            f"'{os.fspath(data)}' holds extracted features, and {model} learns from videos. Give "
            f"the videos, or a `model` of {', '.join(models_on('features'))}."
        )
    raise ValueError(
        f"{model} learns from features, and '{os.fspath(data)}' holds none. Extract them with "
        "`tfvlad.extract_features` and give their folder."
    )
