"""A feature set's network: built, described, built again, run over videos."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipelines.features.extraction import extract_features
from pipelines.video_index import BrokenVideo
from tfvlad.backbones import FeatureExtractor, build_extractor
from tfvlad.backbones.dense_vgg import DENSE_LAYERS
from tfvlad.cli.run_folder import told_downloads

# Fields of a feature set that its files have of their own.
_OF_FILES = ("flipped", "dtype", "format")


def build_network(
    network: str, layer: str, weights: str | None, image_size: int | None
) -> FeatureExtractor:
    """The feature extractor that the options name.

    Raises:
        ValueError: there is no such network, layer or file.
    """
    if weights == "none":
        keras.utils.set_random_seed(0)  # the same ones when it is built again
    has_dense = network.startswith("vgg") and layer in DENSE_LAYERS
    if weights == "imagenet" and (has_dense or network.startswith(("resnet", "c3d"))):
        raise ValueError(
            f"There is nothing to download for {network}{' with ' + layer if has_dense else ''}: "
            "give --weights a file of it, or --weights none."
        )
    first_weights = None if weights == "none" else weights
    with told_downloads(network):
        return build_extractor(network, layer, weights=first_weights, image_size=image_size)


def describe(
    extractor: FeatureExtractor, network: str, layer: str, weights: str | None, frame_step: int
) -> dict[str, Any]:
    """What a feature set's features.json says of the network, and what rebuilds it."""
    height, width = extractor.model.input_shape[-3:-1]
    if weights not in (None, "none", "imagenet"):
        weights = os.path.abspath(weights)
    return {
        "network": network,
        "layer": layer,
        "weights": weights,
        "image_size": [height, width],
        "short_side": round(min(height, width) * 256 / 224),
        "window_frames": extractor.window_frames,
        "frame_step": frame_step,
        "num_channels": extractor.num_channels,
        "fingerprint": extractor.fingerprint(),
    }


def rebuild(description: dict[str, Any]) -> FeatureExtractor:
    """The extractor that made a feature set.

    Raises:
        ValueError: its weights are missing or are others now.
    """
    extractor = build_network(
        description["network"],
        description["layer"],
        description["weights"],
        None if description["network"] == "c3d" else description["image_size"][0],
    )
    if extractor.fingerprint() != description["fingerprint"]:
        raise ValueError(
            f"The weights of {description['network']} are not those that the features were "
            f"extracted with. Received: {description['weights']}."
        )
    return extractor


def extract(
    extractor: FeatureExtractor,
    description: dict[str, Any],
    paths: Sequence[str],
    root: str,
    folder: str,
    *,
    flipped: bool,
    dtype: str = "float32",
    file_format: str = "hdf5",
    batch_size: int = 32,
) -> list[BrokenVideo]:
    """Write a feature set of videos below a folder; returns the broken ones."""
    with warnings.catch_warnings():
        # The caller names the broken videos.
        warnings.filterwarnings("ignore", message=".* videos are broken and have no features")
        return extract_features(
            paths,
            root,
            folder,
            compiled(extractor),
            description=description,
            window_frames=extractor.window_frames,
            frame_step=description["frame_step"],
            image_size=tuple(description["image_size"]),
            short_side=description["short_side"],
            flipped=flipped,
            dtype=dtype,
            file_format=file_format,
            batch_windows=batch_size,
        )


def compiled(extractor: FeatureExtractor) -> Callable[[np.ndarray], np.ndarray]:
    """The extractor as a function of uint8 frames, traced once."""

    @tf.function(reduce_retracing=True, autograph=False)
    def features(frames: tf.Tensor) -> tf.Tensor:
        return extractor.model(tf.cast(frames, tf.float32), training=False)

    return lambda frames: features(frames).numpy()


def extract_sets(
    descriptions: Sequence[dict[str, Any]], paths: Sequence[str], place: Path
) -> tuple[list[str], list[str]]:
    """Features of a few videos in the sets that a run's model was trained on.

    Returns:
        The folders of the sets, and the videos' files in the first of them.
    """
    links = place / "videos"
    links.mkdir()
    names = [f"{number}{os.path.splitext(path)[1]}" for number, path in enumerate(paths)]
    for name, path in zip(names, paths, strict=True):
        (links / name).symlink_to(os.path.abspath(path))
    folders: list[str] = []
    for number, described in enumerate(descriptions):
        if described in descriptions[:number]:
            folders.append(folders[descriptions.index(described)])
            continue
        folders.append(str(place / f"set{number}"))
        extract(
            rebuild(described),
            {key: value for key, value in described.items() if key not in _OF_FILES},
            [str(links / name) for name in names],
            str(links),
            folders[-1],
            flipped=described["flipped"],
        )
    return folders, [os.path.join(folders[0], name + ".h5") for name in names]
