"""A feature set's network: built, described, built again, run over videos."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import pipelines
from pipelines.features.extraction import FeatureExtraction
from pipelines.lists.listing import find_videos
from tfvlad.backbones import FeatureExtractor, build_extractor
from tfvlad.backbones.dense_vgg import DENSE_LAYERS
from tfvlad.runs.networks import told_downloads

# Fields of a feature set that its files have of their own.
_OF_FILES = ("flipped", "dtype", "format")


def extract_features(
    videos: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    network: str = "mobilenet_v2",
    layer: str = "pooled",
    weights: str | os.PathLike[str] | None = "imagenet",
    frame_step: int = 16,
    image_size: int | None = None,
    flipped: bool = True,
    dtype: str = "float32",
    file_format: str = "hdf5",
    batch_size: int = 32,
    max_broken: int | None = None,
    progress: bool = True,
) -> FeatureExtraction:
    """Write the features of a network's layer for videos to disk, one file a video.

    The folder mirrors the tree of the videos, and `train` takes it in the place of their folder,
    with the same lists. An extraction that was killed goes on. A video that is broken anywhere gets
    no file; a warning names these.

    Args:
        videos: a folder of videos, one video, or several.
        folder: of the feature set, made when missing.
        network: "mobilenet_v2", "resnet18", "resnet34", "vgg16", "vgg19" or "c3d".
        layer: "pooled", the last feature map averaged over space; "scores", the classifier's;
            "fc6", "fc7" or "fc8" of VGG and C3D; or a layer by its name.
        weights: a file, "imagenet" (downloaded; MobileNetV2 and VGG's last feature map only), or
            None for random ones, the same ones each time.
        frame_step: frames from one row of features to the next.
        image_size: side of a frame, pixels; the network's own by default.
        flipped: the features of the mirrored frames too.
        dtype: "float32" or "float16".
        file_format: "hdf5" or "tfrecord".
        batch_size: frames, or windows of them, computed at a time.
        max_broken: most videos that may be broken; all but one by default.
        progress: show how many videos are done.

    Raises:
        ValueError: when there is no such network, layer or file, an argument is out of range, the
            folder holds other things or features of other settings, or too many videos are broken.
        OSError: when the disk has not enough room, another process works in the folder, or the
            weights cannot be downloaded.
    """
    paths, root = find_videos(videos)
    extractor = build_network(network, layer, weights, image_size)
    return _extract(
        extractor,
        describe(extractor, network, layer, weights, frame_step),
        paths,
        folder,
        root=root,
        flipped=flipped,
        dtype=dtype,
        file_format=file_format,
        batch_windows=batch_size,
        max_broken=max_broken,
        progress=progress,
    )


def build_network(
    network: str, layer: str, weights: str | os.PathLike[str] | None, image_size: int | None
) -> FeatureExtractor:
    """The feature extractor of these names.

    Raises:
        ValueError: when there is no such network, layer or file.
    """
    if weights in (None, "none"):  # as a feature set of an earlier version has it
        weights = None
        keras.utils.set_random_seed(0)  # the same ones when it is built again
    has_dense = network.startswith("vgg") and layer in DENSE_LAYERS
    if weights == "imagenet" and (has_dense or network.startswith(("resnet", "c3d"))):
        raise ValueError(
            f"There is nothing to download for {network}{' with ' + layer if has_dense else ''}: "
            "`weights` must be a file of it, or none."
        )
    with told_downloads(network):
        return build_extractor(network, layer, weights=weights, image_size=image_size)


def describe(
    extractor: FeatureExtractor,
    network: str,
    layer: str,
    weights: str | os.PathLike[str] | None,
    frame_step: int,
) -> dict[str, Any]:
    """What a feature set's features.json says of the network, and what rebuilds it."""
    height, width = extractor.model.input_shape[-3:-1]
    return {
        "network": network,
        "layer": layer,
        "weights": weights if weights in (None, "imagenet") else os.path.abspath(weights),
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
        ValueError: when its weights are missing or are others now, or the set was imported.
    """
    if description["network"] is None:
        raise ValueError(
            "The model was trained on imported arrays, and the network that makes them of videos "
            "is not known. Give it arrays: it predicts and highlights them."
        )
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


def _extract(
    extractor: FeatureExtractor,
    description: dict[str, Any],
    paths: Sequence[str],
    folder: str | os.PathLike[str],
    **settings: Any,
) -> FeatureExtraction:
    return pipelines.extract_features(
        paths,
        folder,
        compiled(extractor),
        description=description,
        window_frames=extractor.window_frames,
        frame_step=description["frame_step"],
        image_size=tuple(description["image_size"]),
        short_side=description["short_side"],
        **settings,
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
        _extract(
            rebuild(described),
            {key: value for key, value in described.items() if key not in _OF_FILES},
            [str(links / name) for name in names],
            folders[-1],
            root=links,
            flipped=described["flipped"],
            max_broken=len(names),
        )
    return folders, [os.path.join(folders[0], name + ".h5") for name in names]
