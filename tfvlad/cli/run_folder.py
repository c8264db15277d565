"""A run folder: what a training was asked for, and the model, scores and measures it made."""

from __future__ import annotations

import inspect
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfvlad import backbones, models
from tfvlad.backbones import Backbone
from tfvlad.evaluation import EvaluationReport, evaluate_scores, write_report

MODELS = ("ta-vlad", "action-vlad", "average-pooling", "max-pooling")
BACKBONES = ("mobilenet_v2", "resnet18", "resnet34", "vgg16", "vgg19")


@dataclass(frozen=True)
class RunConfig:
    """From which either stack rebuilds a run's model, and from which its clips are read again.

    Attributes:
        model: one of `MODELS`.
        model_options: arguments of its builder.
        backbone: one of `BACKBONES`.
        weights: file of the backbone's first weights, "imagenet" or None.
        class_names: of the classes.
        multi_label: whether a clip may have several classes.
        num_frames: of a clip.
        image_size: side of a frame in pixels.
        short_side: shorter side of the frame that it is cropped from.
        freed_block: first block of the backbone that stage 2 trains.
        data: how the videos were named.
        training: settings of the training.
    """

    model: str
    model_options: dict[str, Any]
    backbone: str
    weights: str | None
    class_names: list[str]
    multi_label: bool
    num_frames: int
    image_size: int
    short_side: int
    freed_block: str
    data: dict[str, Any]
    training: dict[str, Any]

    def save(self, folder: Path) -> None:
        """Write config.json.

        Raises:
            ValueError: the folder holds another run.
        """
        path = folder / "config.json"
        if path.exists():
            before = json.loads(path.read_text())
            now = json.loads(json.dumps(asdict(self)))
            changed = [name for name in now if before.get(name) != now[name]]
            if changed:
                differences = "; ".join(
                    f"{name}: {before.get(name)!r} there, {now[name]!r} here" for name in changed
                )
                raise ValueError(
                    f"'{folder}' holds a run with other settings and is left as it is "
                    f"({differences}). Choose another folder, or the same settings to go on."
                )
            return
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(self), indent=2) + "\n")
        os.replace(temporary, path)

    @classmethod
    def load(cls, folder: Path) -> RunConfig:
        path = folder / "config.json"
        if not path.exists():
            raise ValueError(
                f"'{folder}' is not a run folder: it has no config.json. "
                "Give a folder that `tfvlad train` has written."
            )
        return cls(**json.loads(path.read_text()))


def build_backbone(name: str, weights: str | None, image_size: int) -> Backbone:
    """The named backbone with its first weights."""
    return getattr(backbones, name)(weights=weights, image_size=image_size)


def build_model(config: RunConfig, backbone: Backbone) -> keras.Model:
    """The untrained model of a run."""
    builder = getattr(models, config.model.replace("-", "_"))
    known = inspect.signature(builder).parameters
    options = {name: value for name, value in config.model_options.items() if name in known}
    return builder(backbone, len(config.class_names), num_frames=config.num_frames, **options)


def load_model(folder: Path) -> keras.Model:
    """The trained model of a run."""
    path = folder / "model.keras"
    if not path.exists():
        raise ValueError(
            f"'{folder}' has no finished model. Run the same `tfvlad train` command again: it goes "
            "on where it stopped."
        )
    return keras.models.load_model(path)


def save_scores(
    folder: Path, logits: np.ndarray, labels: np.ndarray, paths: list[str], config: RunConfig
) -> EvaluationReport:
    """Write the test clips' scores and the report made from them."""
    report = evaluate_scores(logits, labels, config.class_names)
    write_report(folder, report)
    np.savez(folder / "scores.npz", logits=logits, labels=labels, clips=np.array(paths))
    return report
