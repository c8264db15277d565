"""A run folder: what a training was asked for, and the model, scores and measures it made."""

from __future__ import annotations

import csv
import inspect
import json
import os
import reprlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console

from pipelines.video_index import BrokenVideo
from tfvlad import backbones, models
from tfvlad.backbones import Backbone
from tfvlad.evaluation import EvaluationReport, evaluate_scores, write_report


class _SavedConfig:
    """A dataclass that is a run folder's config.json."""

    def save(self, folder: Path) -> None:
        """Write config.json.

        Raises:
            ValueError: the folder holds a run with other settings that has been trained already.
        """
        path = folder / "config.json"
        now = json.loads(json.dumps(asdict(self)))  # type: ignore[call-overload]
        if path.exists() and (folder / "state.npz").exists():
            # Through the class, so that a run of an earlier version has what was added since.
            before = dict(_leaves(asdict(load_config(folder))))
            differences = "; ".join(
                f"{name}: {reprlib.repr(before.get(name))} there, {reprlib.repr(value)} here"
                for name, value in {**dict.fromkeys(before), **dict(_leaves(now))}.items()
                if before.get(name) != value
            )
            if differences:
                raise ValueError(
                    f"'{folder}' holds a run with other settings and is left as it is "
                    f"({differences}). Choose another folder, or the same settings to go on."
                )
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(now, indent=2) + "\n")
        os.replace(temporary, path)


@dataclass(frozen=True)
class RunConfig(_SavedConfig):
    """From which either stack rebuilds a run's model, and from which its clips are read again.

    Attributes:
        model: its name, as `tfvlad train --model` has it.
        model_options: arguments of its builder.
        backbone: name of its builder.
        weights: file of the backbone's first weights, "imagenet" or None.
        class_names: of the classes.
        multi_label: whether a clip may have several classes.
        num_frames: of a clip.
        image_size: side of a frame in pixels.
        sampling: of a clip's frames.
        short_side: shorter side of the frame that it is cropped from.
        freed_block: first block of the backbone that stage 2 trains.
        data: how the videos were named.
        training: settings of the training.
        streams: that the model sees, "rgb" and "flow".
        stack_frames: flow frames of a stack.
        layer: of the backbone, whose features are aggregated; None for its last map.
        freeze_attention: the attention comes from a copy of the backbone that is not trained.
        flow: how the optical flow was computed, where the model sees it and it is known.
    """

    model: str
    model_options: dict[str, Any]
    backbone: str
    weights: str | None
    class_names: list[str]
    multi_label: bool
    num_frames: int
    image_size: int
    sampling: str
    short_side: int
    freed_block: str
    data: dict[str, Any]
    training: dict[str, Any]
    streams: list[str] = field(default_factory=lambda: ["rgb"])
    stack_frames: int = 10
    layer: str | None = None
    freeze_attention: bool = False
    flow: dict[str, Any] | None = None


@dataclass(frozen=True)
class FeatureRunConfig(_SavedConfig):
    """The same of a run on extracted features.

    Attributes:
        model: its name, as `tfvlad train --model` has it.
        model_options: arguments of its builder.
        class_names: of the classes.
        multi_label: whether a clip may have several classes.
        feature_sets: how the input-data, and the attended-data if there is any, were extracted.
        num_steps: of a clip in each set.
        chunk_frames: frames of a chunk; None takes the whole clip.
        data: how the features were named.
        training: settings of the training.
    """

    model: str
    model_options: dict[str, Any]
    class_names: list[str]
    multi_label: bool
    feature_sets: list[dict[str, Any]]
    num_steps: list[int]
    chunk_frames: int | None
    data: dict[str, Any]
    training: dict[str, Any]


def load_config(folder: Path) -> RunConfig | FeatureRunConfig:
    """What the folder's config.json says.

    Raises:
        ValueError: there is none, or it is not of this version.
    """
    path = folder / "config.json"
    if not path.exists():
        raise ValueError(
            f"'{folder}' is not a run folder: it has no config.json. "
            "Give a folder that `tfvlad train` has written."
        )
    try:
        values = json.loads(path.read_text())
        return (FeatureRunConfig if "feature_sets" in values else RunConfig)(**values)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"'{path}' is no configuration of a run of this version ({error}). "
            "Give a folder that `tfvlad train` has written."
        ) from error


def check_is_free(folder: Path, marker: str = "config.json") -> None:
    """Refuse to write a run into a folder of other things.

    Raises:
        ValueError: the folder is not empty and has no file `marker`.
    """
    if folder.is_dir() and any(folder.iterdir()) and not any(folder.glob(marker)):
        raise ValueError(
            f"'{folder}' is not empty and is no run folder: it has no {marker}. "
            "Choose a new folder."
        )


def absolute_path(path: str | None) -> str | None:
    """As a configuration keeps it: a run is read from other folders too."""
    return path and os.path.abspath(path)


def tell_parts(
    config: RunConfig | FeatureRunConfig, parts: Mapping[str, Sequence[Any]], console: Console
) -> None:
    """Say how many clips a run learns from, is chosen on and is tested on."""
    labels = "several labels" if config.multi_label else "one label"
    names = {"train": "training", "validation": "validation", "test": "test"}
    counts = ", ".join(f"{len(clips)} {names[part]}" for part, clips in parts.items())
    console.print(
        f"{len(config.class_names)} classes, {labels} a clip: {counts} clips",
        markup=False,
        highlight=False,
    )


def report_broken(broken: Sequence[BrokenVideo], folder: Path, console: Console) -> None:
    """Name the videos that are left out in broken.csv and on the terminal."""
    with open(folder / "broken.csv", "w", newline="") as file:
        csv.writer(file).writerows([("path", "reason"), *((b.path, b.reason) for b in broken)])
    if broken:
        console.print(f"[yellow]{len(broken)} broken videos are left out:[/yellow]")
        for video in broken:
            line = f"  {video.path}: {video.reason}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def build_backbone(
    name: str, weights: str | None, image_size: int, layer: str | None = None
) -> Backbone:
    """The named backbone with its first weights, cut behind `layer`."""
    if name.startswith("resnet") and weights == "imagenet":
        raise ValueError(
            f"There is nothing to download for {name}: give --weights torchvision's or timm's file "
            "of it, or --weights none."
        )
    is_dense = layer in ("fc6", "fc7")
    if is_dense and weights == "imagenet":
        raise ValueError(
            f"There is nothing to download for {layer}: give --weights Keras', torchvision's or "
            f"timm's file of {name} with the dense layers, or --weights none."
        )
    with told_downloads(name):
        if is_dense:
            return backbones.dense_backbone(
                name, str(layer), weights=weights, image_size=image_size
            )
        backbone = getattr(backbones, name)(weights=weights, image_size=image_size)
    return backbone if layer is None else backbones.aggregate_at(backbone, layer)


def build_backbones(config: RunConfig, weights: str | None) -> tuple[Backbone, ...]:
    """The backbone of each of a run's streams."""
    found = []
    for stream in config.streams:
        backbone = build_backbone(config.backbone, weights, config.image_size, config.layer)
        if stream == "flow":
            backbone = backbones.flow_backbone(backbone, config.stack_frames)
        if config.freeze_attention:
            backbone = backbones.with_frozen_copy(backbone, config.freed_block)
        found.append(backbone)
    return tuple(found)


@contextmanager
def told_downloads(network: str) -> Iterator[None]:
    """Turn a failed download of a network's weights into one sentence."""
    try:
        yield
    except Exception as error:
        if type(error) is not Exception:
            raise
        # Keras raises no narrower class when a download fails.
        raise OSError(
            f"The weights of {network} could not be downloaded ({error}). Give --weights a file."
        ) from error


def build_model(config: RunConfig, streams: Sequence[Backbone]) -> keras.Model:
    """The untrained model of a run on videos."""
    builder = getattr(models, config.model.replace("-", "_"))
    known = options_of(config.model)
    options = {name: value for name, value in config.model_options.items() if name in known}
    return builder(*streams, len(config.class_names), num_frames=config.num_frames, **options)


def options_of(model: str) -> set[str]:
    """The arguments of a model's builder."""
    return set(inspect.signature(getattr(models, model.replace("-", "_"))).parameters)


def build_feature_model(config: FeatureRunConfig) -> keras.Model:
    """The untrained model of a run on extracted features."""
    builder = getattr(models, config.model.replace("-", "_"))
    sizes = dict(zip(("num_steps", "num_attended"), config.num_steps, strict=False))
    return builder(
        len(config.class_names),
        *(described["num_channels"] for described in config.feature_sets),
        multi_label=config.multi_label,
        **sizes,
        **config.model_options,
    )


def save_model(model: keras.Model, folder: Path, stage: int) -> None:
    """Make the weights after a stage the run's: `model.weights.h5` and `model.keras`."""
    temporary = folder / "model.tmp.weights.h5"
    model.save_weights(temporary)
    os.replace(temporary, folder / "model.weights.h5")
    temporary = folder / "model.tmp.keras"
    shutil.copyfile(folder / f"stage{stage}.keras", temporary)
    os.replace(temporary, folder / "model.keras")


def load_model(folder: Path) -> keras.Model:
    """The trained model of a run."""
    path = folder / "model.keras"
    if not path.exists():
        raise ValueError(
            f"'{folder}' has no finished model. Run the same `tfvlad train` command again: it goes "
            "on where it stopped."
        )
    try:
        return keras.models.load_model(path)
    except TypeError:  # Keras 2 and 3 do not read each other's models, but their weights
        config = load_config(folder)
        if isinstance(config, FeatureRunConfig):
            model = build_feature_model(config)
        else:
            # The file of VGG's dense layers decides its preprocessing.
            weights = config.weights if config.layer in ("fc6", "fc7") else None
            model = build_model(config, build_backbones(config, weights))
        model.load_weights(folder / "model.weights.h5")
        return model


def save_scores(
    folder: Path,
    logits: np.ndarray,
    labels: np.ndarray,
    paths: list[str],
    class_names: Sequence[str],
) -> EvaluationReport:
    """Write the test clips' scores and the report made from them."""
    report = evaluate_scores(logits, labels, class_names)
    write_report(folder, report)
    np.savez(
        folder / "scores.npz",
        logits=logits,
        labels=labels,
        clips=np.array(paths),
        class_names=np.array(class_names),
    )
    return report


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The settings inside dicts and lists of dicts, with dotted names."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = {str(number): item for number, item in enumerate(value, 1)}
    if not isinstance(value, dict):
        yield name, value
        return
    for key, item in value.items():
        yield from _leaves(item, f"{name}.{key}" if name else key)
