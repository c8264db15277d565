"""Videos -> a feature set on disk, through any network that is given as a function."""

from __future__ import annotations

import itertools
import operator
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np

from pipelines.clips.sampling import num_windows
from pipelines.features.feature_set import DESCRIPTION_NAME, FeatureSet
from pipelines.features.files import FeatureWriter, check_example
from pipelines.lists.listing import find_videos
from pipelines.progress import ProgressBar, progress_bar
from pipelines.storage.files import remove_unfinished, write_aside
from pipelines.storage.owned_folder import OwnedFolder
from pipelines.video.codec.streaming import WindowBatch, WindowStream, estimate_num_frames
from pipelines.video.index import BrokenVideo, tell_broken
from pipelines.video.info import BrokenVideoError

# Videos whose lengths tell the room that all of them need.
_NUM_SAMPLED_VIDEOS = 64

T = TypeVar("T")

# Of one video: the estimated number of its rows, its windows, and the stream or what broke.
_Decoded: TypeAlias = int | WindowBatch | WindowStream | BrokenVideoError | None


@dataclass(frozen=True)
class FeatureExtraction:
    """What `extract_features` has done.

    Attributes:
        folder: the feature set.
        num_videos: videos that have features there.
        num_channels: length of a row.
        broken: the videos that have none, and why.
    """

    folder: Path
    num_videos: int
    num_channels: int
    broken: tuple[BrokenVideo, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns the same as JSON values."""
        return {**asdict(self), "folder": str(self.folder)}


def extract_features(
    videos: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    network: Callable[[np.ndarray], np.ndarray],
    *,
    description: Mapping[str, Any],
    root: str | os.PathLike[str] | None = None,
    window_frames: int = 1,
    frame_step: int = 16,
    image_size: int | tuple[int, int] = 224,
    short_side: int = 256,
    flipped: bool = False,
    dtype: str = "float32",
    file_format: str = "hdf5",
    batch_windows: int = 16,
    max_broken: int | None = None,
    progress: bool = True,
) -> FeatureExtraction:
    """Writes a network's features of windows of frames, one file a video.

    The next frames are decoded while the network runs. Files that are there already are kept: an
    extraction that was killed goes on where it stopped. A video that is broken anywhere gets no
    file; a warning at the end names these. HDF5 files grow batch by batch: the memory needed does
    not depend on the length of a video.

    Args:
        videos: a folder of videos, one video, or several.
        folder: folder of the feature set, made when missing.
        network: from uint8 RGB `(b, window_frames, height, width, 3)`, or `(b, height, width, 3)`
            when `window_frames` is 1, to `(b, D)`.
        description: what `features.json` says of the network: `network`, `layer`, `weights` and
            `fingerprint`. Other fields of `FeatureSet` may be there and must agree.
        root: folder whose tree the feature set mirrors; by default `videos`, or the folder that
            holds all of them.
        window_frames: frames that a row of features describes.
        frame_step: frames from one row's start to the next.
        image_size: side, or (height, width), of the network's input in pixels.
        short_side: shorter side of the frame that the centre crop is taken from, pixels.
        flipped: compute the features of the mirrored frames too.
        dtype: "float32" or "float16".
        file_format: "hdf5" or "tfrecord".
        batch_windows: windows that the network is given at a time.
        max_broken: most videos that may be broken; by default all but one. The features of the
            others are there when more are.
        progress: show how many videos are done.

    Raises:
        ValueError: when an argument is out of range, a video does not lie below `root`, two videos
            have the same path, `description` lacks a field or does not agree, the folder holds
            other things or features of other settings, a video is too long for a TFRecord, or too
            many are broken.
        OSError: when the disk has not enough room, or another process works in the folder.
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
    targets = _targets(*find_videos(videos, root), folder, feature_set)
    owned = OwnedFolder(
        folder,
        holds="features",
        settings_file=DESCRIPTION_NAME,
        read=lambda path: asdict(FeatureSet.read(path)),
        ignored=("weights",),  # the fingerprint tells them, wherever their file lies now
    )
    with owned.locked():
        owned.claim(asdict(feature_set))
        pending = {video: path for video, path in targets.items() if not os.path.isfile(path)}
        _check_room(folder, list(pending), feature_set)
        for parent in {os.path.dirname(path) for path in pending.values()}:
            remove_unfinished(parent)
        bar = progress_bar(
            "Videos",
            len(targets),
            done=len(targets) - len(pending),
            disable=not progress or not pending,
        )
        with bar:
            broken = _extract(pending, feature_set, network, batch_windows, bar)
    tell_broken(broken, len(targets), "features", max_broken)
    num_videos = len(targets) - len(broken)
    return FeatureExtraction(Path(folder), num_videos, shape[1], tuple(broken))


def _extract(
    videos: Mapping[str, str],
    feature_set: FeatureSet,
    network: Callable[[np.ndarray], np.ndarray],
    batch_windows: int,
    bar: ProgressBar,
) -> list[BrokenVideo]:
    """Writes the files of videos; returns the broken ones."""
    broken: list[BrokenVideo] = []
    # Closed, the decoding thread ends with the extraction, whatever ends that.
    with closing(_ahead(_decode(videos, feature_set, batch_windows))) as decoded:
        for video, items in itertools.groupby(decoded, operator.itemgetter(0)):
            try:
                with write_aside(videos[video]) as aside, FeatureWriter(aside) as writer:
                    _write_rows((item for _, item in items), writer, feature_set, network, bar)
            except BrokenVideoError as error:
                broken.append(BrokenVideo(video, str(error).removeprefix(f"{video}: ")))
            bar.update()
    return broken


def _write_rows(
    items: Iterator[_Decoded],
    writer: FeatureWriter,
    feature_set: FeatureSet,
    network: Callable[[np.ndarray], np.ndarray],
    bar: ProgressBar,
) -> None:
    estimated, num_rows = next(items), 0
    for item in items:
        if isinstance(item, WindowBatch):
            features = _features(network, item.windows, feature_set)
            writer.append(features[0], item.seconds, *features[1:])
            num_rows += len(item.seconds)
            bar.set_postfix_str(f"row {num_rows} of about {estimated or '?'}", refresh=False)
            bar.update(0)
        elif isinstance(item, WindowStream):
            writer.finish(num_frames=item.num_frames, frames_per_second=item.frames_per_second)
        elif isinstance(item, BrokenVideoError):
            raise item


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
    videos: Sequence[str], root: str, folder: str | os.PathLike[str], feature_set: FeatureSet
) -> dict[str, str]:
    """Maps videos to their files."""
    targets: dict[str, str] = {}
    for video in videos:
        if video in targets:
            raise ValueError(f"`videos` must be different files. Received: {video} twice.")
        name = os.path.relpath(video, root) + feature_set.file_suffix
        targets[video] = os.path.join(folder, name)
    return targets


def _check_room(
    folder: str | os.PathLike[str], videos: Sequence[str], feature_set: FeatureSet
) -> None:
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
) -> Iterator[tuple[str, _Decoded]]:
    for video in videos:
        yield video, _estimated_rows(video, feature_set)
        stream = WindowStream(
            video,
            frame_step=feature_set.frame_step,
            window_frames=feature_set.window_frames,
            # Unknown in imported sets only.
            image_size=cast(tuple[int, int], feature_set.image_size),
            short_side=cast(int, feature_set.short_side),
            batch_windows=batch_windows,
        )
        try:
            for batch in stream:
                yield video, batch
            yield video, stream
        except BrokenVideoError as error:
            yield video, error


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
