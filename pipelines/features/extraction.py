"""Videos -> a feature set on disk, through any network that is given as a function."""

from __future__ import annotations

import itertools
import operator
import os
import shutil
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np

from pipelines.clip_sampling import num_windows
from pipelines.decoding import BrokenVideoError
from pipelines.features.feature_set import DESCRIPTION_NAME, FeatureSet
from pipelines.features.files import FeatureWriter, check_example
from pipelines.progress import progress_bar
from pipelines.streaming import WindowBatch, WindowStream, estimate_num_frames
from pipelines.video_index import BrokenVideo

# Videos whose lengths tell the room that all of them need.
_NUM_SAMPLED_VIDEOS = 64

T = TypeVar("T")


def extract_features(
    videos: Sequence[str],
    root: str,
    folder: str,
    network: Callable[[np.ndarray], np.ndarray],
    *,
    description: Mapping[str, Any],
    window_frames: int = 1,
    frame_step: int = 16,
    image_size: int | tuple[int, int] = 224,
    short_side: int = 256,
    flipped: bool = False,
    dtype: str = "float32",
    file_format: str = "hdf5",
    batch_windows: int = 16,
    progress: bool = True,
) -> list[BrokenVideo]:
    """Writes a network's features of windows of frames, one file a video.

    The next frames are decoded while the network runs. Files that are there already are kept: an
    extraction that was killed goes on where it stopped. A video that is broken anywhere gets no
    file; a warning at the end counts these. HDF5 files grow batch by batch: the memory needed does
    not depend on the length of a video.

    Args:
        videos: Paths of the videos, below `root`.
        root: Folder whose tree the feature set mirrors.
        folder: Folder of the feature set, made when missing.
        network: From uint8 RGB `(b, window_frames, height, width, 3)`, or `(b, height, width, 3)`
            when `window_frames` is 1, to `(b, D)`.
        description: What `features.json` says of the network: `network`, `layer`, `weights` and
            `fingerprint`. Other fields of `FeatureSet` may be there and must agree.
        window_frames: Frames that a row of features describes.
        frame_step: Frames from one row's start to the next.
        image_size: Side, or (height, width), of the network's input in pixels.
        short_side: Shorter side of the frame that the centre crop is taken from, pixels.
        flipped: Compute the features of the mirrored frames too.
        dtype: "float32" or "float16".
        file_format: "hdf5" or "tfrecord".
        batch_windows: Windows that the network is given at a time.
        progress: Show a progress bar on the standard error stream.

    Returns:
        The broken videos.

    Raises:
        ValueError: If an argument is out of range, a video does not lie below `root`, two videos
            have the same path, `description` lacks a field or does not agree, the folder holds
            features of other settings, or a video is too long for a TFRecord.
        OSError: If the disk has not enough room.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    sample = np.zeros((1, *((window_frames,) if window_frames > 1 else ()), *size, 3), np.uint8)
    shape = np.shape(network(sample))
    if len(shape) != 2 or shape[0] != 1:
        raise ValueError(
            f"`network` must return (1, D) for windows of the shape {sample.shape}. "
            f"Received: {shape}."
        )
    feature_set = _feature_set(
        description,
        image_size=size,
        short_side=short_side,
        window_frames=window_frames,
        frame_step=frame_step,
        num_channels=shape[1],
        dtype=dtype,
        format=file_format,
        flipped=flipped,
    )
    targets = _targets(videos, root, folder, feature_set)
    _claim(folder, feature_set)
    pending = {video: path for video, path in targets.items() if not os.path.isfile(path)}
    _check_room(folder, list(pending), feature_set)
    broken: list[BrokenVideo] = []
    bar = progress_bar(disable=not progress or not pending)
    # Closed, the decoding thread ends with the extraction, whatever ends that.
    with bar, closing(_ahead(_decode(pending, feature_set, batch_windows))) as decoded:
        task = bar.add_task("Videos", total=len(targets), completed=len(targets) - len(pending))
        rows_task = bar.add_task("Rows of this video", total=None)
        for video, items in itertools.groupby(decoded, operator.itemgetter(0)):
            with FeatureWriter(pending[video]) as writer:
                for _, item in items:
                    if isinstance(item, WindowBatch):
                        features = _features(network, item.windows, feature_set)
                        writer.append(features[0], item.seconds, *features[1:])
                        bar.advance(rows_task, len(item.seconds))
                    elif isinstance(item, WindowStream):
                        writer.finish(
                            num_frames=item.num_frames, frames_per_second=item.frames_per_second
                        )
                    elif isinstance(item, BrokenVideo):
                        broken.append(item)
                    else:  # the estimated number of rows
                        bar.reset(rows_task, total=item)
            bar.advance(task)
    if broken:
        names = "".join(f"\n  {b.path}: {b.reason}" for b in broken)
        warnings.warn(
            f"{len(broken)} of {len(targets)} videos are broken and have no features:{names}",
            stacklevel=2,
        )
    return broken


def _feature_set(description: Mapping[str, Any], **settings: Any) -> FeatureSet:
    settings["image_size"] = list(settings["image_size"])
    for name, value in settings.items():
        given = description.get(name, value)
        if (list(given) if isinstance(given, tuple) else given) != value:
            raise ValueError(
                f"`description` does not agree with the extraction: {name} is {value}. "
                f"Received: {name}={given}."
            )
    try:
        return FeatureSet(**{**description, **settings})
    except TypeError as error:
        raise ValueError(
            "`description` must name network, layer, weights and fingerprint. "
            f"Received: {', '.join(description)} ({error})."
        ) from None


def _targets(
    videos: Sequence[str], root: str, folder: str, feature_set: FeatureSet
) -> dict[str, str]:
    targets: dict[str, str] = {}
    for video in videos:
        name = os.path.relpath(video, root)
        if name.split(os.sep)[0] == os.pardir:
            raise ValueError(f"Every video must lie below {root}. Received: {video}.")
        if video in targets:
            raise ValueError(f"`videos` must be different files. Received: {video} twice.")
        targets[video] = os.path.join(folder, name + feature_set.file_suffix)
    return targets


def _claim(folder: str, feature_set: FeatureSet) -> None:
    """Describes a new folder, or checks that an old one holds the same kind of features."""
    if not os.path.exists(os.path.join(folder, DESCRIPTION_NAME)):
        feature_set.save(folder)
        return
    found = asdict(FeatureSet.load(folder))
    for name, value in asdict(feature_set).items():
        # The fingerprint tells the weights, wherever their file lies now.
        if name != "weights" and found[name] != value:
            raise ValueError(
                f"{folder} holds features of other settings: {name} is {found[name]} there. "
                f"Received: {name}={value}. Choose another folder."
            )


def _check_room(folder: str, videos: Sequence[str], feature_set: FeatureSet) -> None:
    if feature_set.format == "tfrecord":
        for video in videos:
            num_rows = _estimated_rows(video, feature_set) or 0
            check_example(video, num_rows, feature_set.num_channels, feature_set.flipped)
    sampled = videos[:: -(-len(videos) // _NUM_SAMPLED_VIDEOS) or 1]
    counts = [_estimated_rows(video, feature_set) or 0 for video in sampled]
    row_bytes = feature_set.num_channels * np.dtype(feature_set.dtype).itemsize
    row_bytes *= 2 if feature_set.flipped else 1
    needed = sum(counts) / max(len(counts), 1) * len(videos) * row_bytes
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"The features need about {needed / 2**30:.1f} GiB and {folder} has "
            f"{free / 2**30:.1f} GiB free. Choose another folder, float16 or a longer `frame_step`."
        )


def _estimated_rows(video: str, feature_set: FeatureSet) -> int | None:
    try:
        num_frames = estimate_num_frames(video)
    except BrokenVideoError:
        return None
    if num_frames is None:
        return None
    return num_windows(num_frames, feature_set.window_frames, feature_set.frame_step)


def _decode(
    videos: Mapping[str, str], feature_set: FeatureSet, batch_windows: int
) -> Iterator[tuple[str, int | WindowBatch | WindowStream | BrokenVideo | None]]:
    """Yields for each video an estimate of its rows, its windows, and the stream or what broke."""
    for video in videos:
        yield video, _estimated_rows(video, feature_set)
        stream = WindowStream(
            video,
            frame_step=feature_set.frame_step,
            window_frames=feature_set.window_frames,
            image_size=feature_set.image_size,
            short_side=feature_set.short_side,
            batch_windows=batch_windows,
        )
        try:
            for batch in stream:
                yield video, batch
            yield video, stream
        except BrokenVideoError as error:
            yield video, BrokenVideo(video, str(error))


def _ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """Computes the next item in a thread while the last one is in use."""
    with ThreadPoolExecutor(1, thread_name_prefix="decode") as pool:
        future: Future[T | None] = pool.submit(next, items, None)
        while (item := future.result()) is not None:
            future = pool.submit(next, items, None)
            yield item


def _features(
    network: Callable[[np.ndarray], np.ndarray], windows: np.ndarray, feature_set: FeatureSet
) -> np.ndarray:
    """Returns `(1 or 2, b, D)`: the features and those of the mirrored windows."""
    views = [windows, windows[..., ::-1, :]] if feature_set.flipped else [windows]
    if feature_set.window_frames == 1:
        views = [view[:, 0] for view in views]
    return np.stack([np.asarray(network(view)).astype(feature_set.dtype) for view in views])
