"""A run folder's config.json: what the training was asked for, and what it found in its data."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import cattrs
from cattrs.preconf.json import make_converter

from pipelines.storage.owned_folder import OwnedFolder
from tfvlad.runs.earlier_configs import from_version_0, with_values_of_then
from tfvlad.runs.settings import FeatureSettings, VideoSettings
from tfvlad.runs.settings.views import VIEWS
from tfvlad.training import Stage

VERSION = 1

_converter = make_converter(forbid_extra_keys=True)


@dataclass(frozen=True, kw_only=True)
class DataPaths:
    """How a run's clips were named: arguments of `tfvlad.train`, as absolute paths.

    Attributes:
        data: videos, or a feature set.
        lists: official lists, or a CSV of videos below `data`.
        split: number of the official split.
        test_data: test videos.
        flow: optical flow of the videos, of a two-stream model.
        attended: feature set that the attention LSTM attends to.
    """

    data: str
    lists: str | None = None
    split: int = 1
    test_data: str | None = None
    flow: str | None = None
    attended: str | None = None

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name != "split" and value is not None:
                object.__setattr__(self, one.name, os.path.abspath(value))


class _SavedConfig:
    """A dataclass that is a run folder's config.json."""

    def to_dict(self) -> dict[str, Any]:
        """The content of config.json."""
        return {"version": VERSION, **_converter.unstructure(self)}


@dataclass(frozen=True, kw_only=True)
class RunConfig(_SavedConfig):
    """From which either stack rebuilds a run's model, and from which its clips are read again.

    Attributes:
        settings: what the training was asked for.
        data: how the videos were named.
        class_names: of the classes.
        multi_label: whether a clip may have several classes.
        freed_block: first block of the backbone that stage 2 trains; "" without blocks.
        short_side: shorter side of the frame that a clip's crops are cut from, pixels.
        flow: how the optical flow was computed, where the model sees it and it is known: `method`,
            `bound`, `short_side` and `images` of `pipelines.extract_flow`.
    """

    settings: VideoSettings
    data: DataPaths
    class_names: tuple[str, ...]
    multi_label: bool
    freed_block: str
    short_side: int
    flow: dict[str, Any] | None = None

    @property
    def chunk_frames(self) -> int | None:
        """Frames of a chunk; None spreads the clip's frames over the whole of it."""
        return self.settings.num_frames if self.settings.sampling == "chunk" else None


@dataclass(frozen=True, kw_only=True)
class FeatureRunConfig(_SavedConfig):
    """The same of a run on extracted features.

    Attributes:
        settings: what the training was asked for.
        data: how the features were named.
        class_names: of the classes.
        multi_label: whether a clip may have several classes.
        feature_sets: how the input-data, and the attended-data if there is any, were extracted.
    """

    settings: FeatureSettings
    data: DataPaths
    class_names: tuple[str, ...]
    multi_label: bool
    feature_sets: tuple[dict[str, Any], ...]

    @property
    def chunk_frames(self) -> int | None:
        """Frames of a chunk; None takes the whole clip."""
        return self.settings.chunk_frames if self.settings.sampling == "chunk" else None


def with_settings(
    config: RunConfig | FeatureRunConfig, settings: VideoSettings | FeatureSettings
) -> RunConfig | FeatureRunConfig:
    """The configuration with other settings of the same kind."""
    changes: dict[str, Any] = {"settings": settings}
    return replace(config, **changes)


def owned_run_folder(folder: Path, recipe: Stage | None = None) -> OwnedFolder:
    """The folder as one run's own: other settings and other processes are kept out of it.

    Args:
        folder: of the run.
        recipe: see `load_config`.
    """
    return OwnedFolder(
        folder,
        holds="a run",
        settings_file="config.json",
        read=lambda path: load_config(path.parent, recipe).to_dict(),
        # The block that is freed is told beside the settings too, also where they leave it out.
        ignored=[f"settings.{name}" for name in (*VIEWS, "freed_block")],
        begun_by="state.npz",
        besides=["features"],  # arrays are imported before it is known what the training is
    )


def load_config(
    folder: str | os.PathLike[str], recipe: Stage | None = None
) -> RunConfig | FeatureRunConfig:
    """What a run folder's config.json says, of this version or of the one before.

    Args:
        folder: of the run.
        recipe: what the recipe of a run on features says for its clips. The version before kept
            these numbers: with `recipe`, the settings that have them are None as they were given.

    Raises:
        ValueError: when there is none, or it is of no version that is known.
    """
    path = Path(folder) / "config.json"
    if not path.exists():
        raise ValueError(
            f"'{os.fspath(folder)}' is not a run folder: it has no config.json. "
            "Give a folder that a training has written."
        )
    try:
        values = json.loads(path.read_text("utf-8"))
        if "version" not in values:
            values = from_version_0(values, recipe)
        version = values.pop("version")
        if version != VERSION:
            raise ValueError(f"version {version}, and this is version {VERSION}")
        if "feature_sets" in values:
            return _converter.structure(values, FeatureRunConfig)
        values["settings"] = with_values_of_then(values["settings"])
        return _converter.structure(values, RunConfig)
    except (ValueError, TypeError, KeyError, AttributeError, cattrs.BaseValidationError) as error:
        raise ValueError(
            f"'{path}' is no configuration of a run that this version knows "
            f"({'; '.join(_reasons(error))}). Give a folder that a training has written."
        ) from error


def _reasons(error: Exception) -> list[str]:
    if not isinstance(error, cattrs.BaseValidationError):
        return [str(error)]
    return cattrs.transform_error(error, format_exception=_reason)


def _reason(error: BaseException, kind: type | None) -> str:
    # What the settings refuse tells its name and value; other errors tell their type at best.
    is_ours = type(error) is ValueError and "Received: " in str(error)
    return str(error) if is_ours else cattrs.v.format_exception(error, kind)
