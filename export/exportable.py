"""What is exported: a run, a model or a file of one, or several of them fused into one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import keras

from pipelines.lists.class_lists import read_class_names
from tfvlad import Run
from tfvlad.models import ClipModel, is_multi_label, late_fusion
from tfvlad.runs.answers.clip_models import clip_model
from tfvlad.runs.config import FeatureRunConfig, RunConfig, load_config

# What the exports take: a run, its folder, a .keras file, or a model.
Model: TypeAlias = Run | ClipModel | keras.Model | str | os.PathLike[str]


class Part(NamedTuple):
    """One of the fused models.

    Attributes:
        name: that its user knows it by.
        clip_model: the model and what its callers have to know.
        config: of its run on videos, which says how its clips are read; None of any other.
        folder: of that run.
    """

    name: str
    clip_model: ClipModel
    config: RunConfig | None = None
    folder: Path | None = None


@dataclass(frozen=True, eq=False)
class Exportable:
    """A model to export.

    Attributes:
        clip_model: the model and what its callers have to know.
        parts: the models that it was fused of, or itself.
    """

    clip_model: ClipModel
    parts: tuple[Part, ...]


def load_exportable(
    model: Model | Sequence[Model],
    *,
    class_names: Sequence[str] | os.PathLike[str] | None = None,
    weights: Sequence[float] | None = None,
    on: str | None = None,
) -> Exportable:
    """The model of a run, a file or the caller's own, or the late fusion of several.

    Args:
        model: one, or several to fuse.
        class_names: of models that do not know them, or a file with one in each line.
        weights: one for each of several models; equal ones by default.
        on: "logits" or "probabilities", which are averaged; logits by default.

    Raises:
        ValueError: when a model cannot be loaded, the models do not fit each other, or an argument
            has no effect on them.
    """
    models = _listed(model)
    if not models:
        raise ValueError("`model` must name at least one model. Received: none.")
    for name, value in {"weights": weights, "on": on}.items():
        if value is not None and len(models) == 1:
            raise ValueError(f"`{name}` has no effect on a single model. Leave it out.")
    found = [_load(one) for one in models]
    if class_names is not None and all(isinstance(one, Part) for one in found):
        raise ValueError(
            "`class_names` has no effect on runs and on a `ClipModel`, which know them. Leave it "
            "out."
        )
    if isinstance(class_names, (str, os.PathLike)):
        class_names = read_class_names(os.fspath(class_names))
    parts = tuple(one if isinstance(one, Part) else _named(one, class_names) for one in found)
    if len(parts) == 1:
        return Exportable(parts[0].clip_model, parts)
    return Exportable(_fused(parts, weights, on or "logits"), parts)


def _listed(model: Model | Sequence[Model]) -> list[Model]:
    if isinstance(model, Sequence) and not isinstance(model, str):
        return list(model)
    return [model]


class _Unnamed(NamedTuple):
    """A model whose classes are not known."""

    name: str
    model: keras.Model
    description: dict[str, str]


def _load(model: Model) -> Part | _Unnamed:
    if isinstance(model, ClipModel):
        return Part(model.model.name, model)
    if isinstance(model, Run):
        return _part(model.folder, model.clip_model, model.config, model.folder)
    if isinstance(model, keras.Model):
        return _Unnamed(model.name, model, {})
    path = Path(model)
    if not path.is_file():
        return _load(Run(path))
    folder = path.parent
    # Any of the models that a training has left in its folder.
    if (folder / "config.json").exists():
        config = load_config(folder)
        return _part(path, clip_model(folder, config, _read(path)), config, folder)
    return _Unnamed(str(path), _read(path), {"file": path.name})


def _part(path: Path, known: ClipModel, config: RunConfig | FeatureRunConfig, folder: Path) -> Part:
    if isinstance(config, FeatureRunConfig):
        return Part(str(path), known)
    return Part(str(path), known, config, folder)


def _named(found: _Unnamed, class_names: Sequence[str] | None) -> Part:
    """A model with its classes' names, or numbers."""
    model = found.model
    names = class_names or [str(number) for number in range(model.output_shape[-1])]
    streams = tuple("frames" if x.shape[-1] == 3 else "flow" for x in model.inputs)
    multi_label = bool(is_multi_label(model))
    return Part(
        found.name,
        ClipModel(model, tuple(names), streams, multi_label, description=found.description),
    )


def _read(path: Path) -> keras.Model:
    try:
        return keras.models.load_model(path)
    except (ValueError, TypeError, OSError) as error:
        raise ValueError(f"{path} is no model that Keras can load ({error}).") from error


def _fused(parts: Sequence[Part], weights: Sequence[float] | None, on: str) -> ClipModel:
    each = [part.clip_model for part in parts]
    first = each[0]
    for name in ("class_names", "multi_label", "short_side"):
        if any(getattr(one, name) != getattr(first, name) for one in each):
            names = ", ".join(part.name for part in parts)
            raise ValueError(f"{names} differ in their {name.replace('_', ' ')}.")
    fused = late_fusion(
        [one.model for one in each], weights=weights, on=on, multi_label=first.multi_label
    )
    return ClipModel(
        fused,
        first.class_names,
        tuple(stream for one in each for stream in one.streams),
        first.multi_label,
        first.short_side,
        {
            "model": f"late fusion on {on}",
            "weights": list(weights) if weights else "equal",
            "models": [dict(one.description) for one in each],
        },
    )
