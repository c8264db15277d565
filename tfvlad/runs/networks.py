"""The untrained networks and models of a run, built from its configuration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import keras

from tfvlad import backbones
from tfvlad.backbones import Backbone
from tfvlad.backbones.catalog import BACKBONES
from tfvlad.runs.config import FeatureRunConfig, RunConfig
from tfvlad.runs.settings import VideoSettings
from tfvlad.runs.settings.model_table import MODELS


def build_backbone(
    name: str, weights: str | None, image_size: int, layer: str | None = None
) -> Backbone:
    """The named backbone with its first weights, cut behind `layer`.

    Raises:
        ValueError: when there is nothing to download for it, or no such layer.
        OSError: when the download failed.
    """
    is_dense = layer in ("fc6", "fc7")
    if weights == "imagenet" and (is_dense or name.startswith("resnet")):
        layouts = "Keras', torchvision's or timm's" if is_dense else "torchvision's or timm's"
        raise ValueError(
            f"There is nothing to download for {layer if is_dense else name}. Give `weights` "
            f"{layouts} file of {name}{' with the dense layers' if is_dense else ''}, or None for "
            "random ones."
        )
    with told_downloads(name):
        if is_dense:
            return backbones.dense_backbone(
                name, str(layer), weights=weights, image_size=image_size
            )
        backbone = BACKBONES[name](weights=weights, image_size=image_size)
    return backbone if layer is None else backbones.aggregate_at(backbone, layer)


def build_backbones(settings: VideoSettings, freed_block: str) -> tuple[Backbone, ...]:
    """The backbone of each stream with its first weights.

    Args:
        settings: of the run.
        freed_block: block in front of which a frozen attention's copy begins.
    """
    found = []
    for stream in settings.streams:
        backbone = build_backbone(
            settings.backbone, settings.weights, settings.image_size, settings.aggregate_at
        )
        if stream == "flow":
            backbone = backbones.flow_backbone(backbone, settings.stack_frames)
        if settings.freeze_attention and freed_block:
            backbone = backbones.with_frozen_copy(backbone, freed_block)
        found.append(backbone)
    return tuple(found)


def build_model(config: RunConfig, streams: Sequence[Backbone]) -> keras.Model:
    """The untrained model of a run on videos."""
    settings = config.settings
    return MODELS[settings.model].build(
        *streams,
        len(config.class_names),
        num_frames=settings.num_frames,
        **settings.model_arguments(),
    )


def build_feature_model(config: FeatureRunConfig) -> keras.Model:
    """The untrained model of a run on extracted features."""
    settings = config.settings
    return MODELS[settings.model].build(
        len(config.class_names),
        *(described["num_channels"] for described in config.feature_sets),
        multi_label=config.multi_label,
        **settings.model_arguments(),
    )


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
            f"The weights of {network} could not be downloaded ({error}). Give `weights` a file."
        ) from error
