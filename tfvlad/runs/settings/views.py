"""How test clips are seen: the settings with which a finished run may be tested again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tfvlad.runs.settings.feature_settings import FeatureSettings
from tfvlad.runs.settings.rules import without_effect
from tfvlad.runs.settings.video_settings import VideoSettings

VIEWS = ("test_crops", "test_clips", "one_bag", "test_chunks")


def views_of(settings: VideoSettings | FeatureSettings) -> dict[str, Any]:
    """Those that there are of such a run, and what the settings say."""
    return {name: getattr(settings, name) for name in VIEWS if hasattr(settings, name)}


def with_views(
    settings: VideoSettings | FeatureSettings, **views: Any
) -> VideoSettings | FeatureSettings:
    """The settings with other views.

    Args:
        settings: of a run.
        **views: all of `VIEWS`; those that there are not of such a run have their default.

    Raises:
        ValueError: when a value is out of range, or would have no effect on the run.
    """
    others = FeatureSettings if isinstance(settings, VideoSettings) else VideoSettings
    own = views_of(settings)
    for name, value in views.items():
        if name not in own and value != getattr(others, name):
            raise without_effect(name, value, f"a run of {settings.model}")
    return replace(settings, **{name: views[name] for name in own})
