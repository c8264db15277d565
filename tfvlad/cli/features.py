"""`tfvlad features`: a network's layer on every frame step of videos, written to disk."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import numpy as np

    from pipelines.video_index import BrokenVideo
    from tfvlad.backbones import FeatureExtractor

# Fields of a feature set that its files have of their own.
_OF_FILES = ("flipped", "dtype", "format")
NETWORKS = ("mobilenet_v2", "resnet18", "resnet34", "vgg16", "vgg19", "c3d")


@click.command()
@click.argument("videos", type=click.Path(exists=True))
@click.argument("folder", type=click.Path(file_okay=False))
@click.option(
    "--network", default="mobilenet_v2", show_default=True, type=click.Choice(list(NETWORKS))
)
@click.option(
    "--layer",
    default="pooled",
    show_default=True,
    help='"pooled", the last feature map averaged over space; "scores", the classifier\'s; fc6, '
    "fc7 or fc8 of VGG and C3D; or a layer by its name.",
)
@click.option(
    "--weights",
    default="imagenet",
    show_default=True,
    help='The network\'s weights: a file, "imagenet" (downloaded) or "none".',
)
@click.option(
    "--frame-step",
    default=16,
    show_default=True,
    type=click.IntRange(min=1),
    help="Frames from one row of features to the next.",
)
@click.option(
    "--image-size",
    type=click.IntRange(min=32),
    help="Side of a frame in pixels; the network's own by default.",
)
@click.option(
    "--flipped/--no-flipped", default=True, show_default=True, help="Mirrored frames too."
)
@click.option(
    "--dtype", default="float32", show_default=True, type=click.Choice(["float32", "float16"])
)
@click.option(
    "--format",
    "file_format",
    default="hdf5",
    show_default=True,
    type=click.Choice(["hdf5", "tfrecord"]),
)
@click.option(
    "--batch-size",
    default=32,
    show_default=True,
    type=click.IntRange(min=1),
    help="Frames, or windows of them, computed at a time.",
)
@click.option("--max-broken", type=click.IntRange(min=0), help="Most broken videos to leave out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
def features(
    videos: str,
    folder: str,
    network: str,
    layer: str,
    weights: str,
    frame_step: int,
    image_size: int | None,
    flipped: bool,
    dtype: str,
    file_format: str,
    batch_size: int,
    max_broken: int | None,
    as_json: bool,
) -> None:
    """Write a layer's features of all videos below VIDEOS (a folder, or one file) to FOLDER.

    One file a video, in the same sub-folders; an extraction that was killed goes on. `tfvlad train`
    takes FOLDER in the place of the videos, with the same lists.

    \b
    Example:
      tfvlad features videos/ features/pooled --weights mobilenet_v2.h5
      tfvlad features videos/ features/objects --network vgg19 --layer fc8 --weights vgg19.h5
    """
    from rich.console import Console

    paths, root = _videos(Path(videos))
    extractor = build_network(network, layer, weights, image_size)
    description = describe(extractor, network, layer, weights, frame_step)
    broken = extract(
        extractor,
        description,
        paths,
        root,
        folder,
        flipped=flipped,
        dtype=dtype,
        file_format=file_format,
        batch_size=batch_size,
    )
    console = Console(stderr=as_json)
    for video in broken:
        line = f"left out: {video.path}: {video.reason}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if len(broken) > (len(paths) - 1 if max_broken is None else max_broken):
        raise ValueError(f"{len(broken)} of {len(paths)} videos are broken and have no features.")
    num_written = len(paths) - len(broken)
    console.print(
        f"{folder}: {extractor.num_channels} channels of {extractor.name} for {num_written} videos",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    if as_json:
        result = {"folder": folder, "videos": num_written, "broken": len(broken)}
        click.echo(json.dumps({**result, "num_channels": extractor.num_channels}))


def build_network(
    network: str, layer: str, weights: str | None, image_size: int | None
) -> FeatureExtractor:
    """The feature extractor that the options name.

    Raises:
        ValueError: there is no such network, layer or file.
    """
    import keras

    from tfvlad.backbones import build_extractor

    if weights == "none":
        keras.utils.set_random_seed(0)  # the same ones when it is built again
    if weights == "imagenet" and network.startswith(("resnet", "c3d")):
        raise ValueError(
            f"There is nothing to download for {network}: give --weights a file of it, or "
            "--weights none."
        )
    first_weights = None if weights == "none" else weights
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
    from pipelines.features.extraction import extract_features

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
    import tensorflow as tf

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


def _videos(path: Path) -> tuple[list[str], str]:
    """The videos below a folder, or the one file, and the folder whose tree is mirrored."""
    from pipelines.annotations import VIDEO_SUFFIXES

    if path.is_file():
        return [str(path)], str(path.parent)
    found = sorted(
        str(file)
        for file in path.rglob("*")
        if file.suffix.lower() in VIDEO_SUFFIXES and not file.name.startswith(".")
    )
    if not found:
        raise ValueError(f"There is no video below {path}.")
    return found, str(path)
