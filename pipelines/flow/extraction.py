"""Videos -> frame folders with their optical flow."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import Any

import cv2
import numpy as np

from pipelines.flow.optical_flow import flow_function, quantize_flow
from pipelines.lists.listing import find_videos
from pipelines.progress import ProgressBar, progress_bar
from pipelines.storage.files import remove_unfinished, write_aside, write_json
from pipelines.storage.owned_folder import OwnedFolder, read_json
from pipelines.video.codec.decoding import check_video, iterate_frames
from pipelines.video.frame_folders import NOTE_NAME
from pipelines.video.index import BrokenVideo, tell_broken
from pipelines.video.info import BrokenVideoError
from pipelines.video.names import without_video_suffix

DESCRIPTION_NAME = "flow.json"
_JPEG_QUALITY = 95


@dataclass(frozen=True)
class FlowSettings:
    """How a folder's optical flow was computed: its `flow.json`."""

    method: str
    bound: float
    short_side: int
    images: bool


@dataclass(frozen=True)
class FlowExtraction:
    """What `extract_flow` has done.

    Attributes:
        folder: where the flow is.
        num_videos: videos that have flow there.
        method: how it was computed.
        broken: the videos that have none, and why.
    """

    folder: Path
    num_videos: int
    method: str
    broken: tuple[BrokenVideo, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns the same as JSON values."""
        return {**asdict(self), "folder": str(self.folder)}


def extract_flow(
    videos: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    method: str = "tvl1",
    bound: float = 20.0,
    short_side: int = 256,
    images: bool = False,
    num_workers: int | None = None,
    max_broken: int | None = None,
    progress: bool = True,
) -> FlowExtraction:
    """Writes the optical flow of videos as 8-bit images, one frame folder a video.

    Pair i of `flow_x_%05d.jpg` and `flow_y_%05d.jpg` (numbered from 1) is the motion from frame i
    to frame i + 1, see `quantize_flow`. A folder appears when it is whole and is not computed
    again: an extraction that was killed goes on. `video.json` there says when the frames are shown.
    One frame after the other is in memory. A video that is broken anywhere, or has one frame only,
    gets no folder; a warning at the end names these.

    Args:
        videos: a folder of video files or frame folders, one of these, or several.
        folder: where to write `<path below root, without suffix>/flow_x_00001.jpg` and so on; made
            when missing.
        root: folder whose tree is mirrored; by default `videos`, or the folder that holds all.
        method: "tvl1", "dis" or "farneback"; see `flow_function`.
        bound: largest displacement that is kept, pixels a frame.
        short_side: shorter side of the frames that flow is computed of, and of the images, pixels.
        images: write the frames too, `img_%05d.jpg`, so that the folders serve both streams.
        num_workers: videos computed at a time; by default one a processor.
        max_broken: most videos that may be broken; by default all but one. The flow of the others
            is there when more are.
        progress: show how many videos are done.

    Raises:
        ValueError: when an argument is out of range, a video does not lie below `root`, two videos
            have the same path without suffix, `folder` lies within `videos`, or holds other things
            or flow of other settings, a video's folder is there and is none of these, or too many
            videos are broken.
        OSError: when the folder cannot be written, or another process works in it.
    """
    if bound <= 0:
        raise ValueError(f"`bound` must be positive. Received: bound={bound}.")
    for name, value in (("short_side", short_side), ("num_workers", num_workers or 1)):
        if value < 1:
            raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value}.")
    flow_function(method)
    if isinstance(videos, str | os.PathLike):
        _check_outside(folder, videos)
    settings = FlowSettings(method, float(bound), short_side, images)
    targets = _targets(*find_videos(videos, root), folder)
    owned = OwnedFolder(
        folder,
        holds="optical flow",
        settings_file=DESCRIPTION_NAME,
        read=lambda path: asdict(FlowSettings(**read_json(path))),
    )
    with owned.locked():
        owned.claim(asdict(settings))
        pending = {video: path for video, path in targets.items() if not _is_done(path)}
        for parent in {os.path.dirname(path) for path in pending.values()}:
            remove_unfinished(parent)
        bar = progress_bar(
            "Videos",
            len(targets),
            done=len(targets) - len(pending),
            disable=not progress or not pending,
        )
        with bar, _one_opencv_thread():
            broken = _extract_all(pending, settings, num_workers, bar)
    tell_broken(broken, len(targets), "optical flow", max_broken)
    return FlowExtraction(Path(folder), len(targets) - len(broken), method, tuple(broken))


def _extract_all(
    targets: Mapping[str, str], settings: FlowSettings, num_workers: int | None, bar: ProgressBar
) -> list[BrokenVideo]:
    """Writes the folders of videos in parallel; returns the broken ones."""
    broken: list[BrokenVideo] = []
    stopped = Event()
    frames = itertools.count(1)

    def on_frame() -> None:
        if stopped.is_set():
            raise _StoppedError
        bar.set_postfix_str(f"{next(frames)} frames", refresh=False)
        bar.update(0)

    def extract(video: str, path: str) -> None:
        try:
            _extract(video, path, settings, on_frame)
        except BrokenVideoError:
            raise
        except BaseException:
            stopped.set()  # here, so that no thread begins another video
            raise

    pool = ThreadPoolExecutor(num_workers or os.cpu_count(), thread_name_prefix="flow")
    try:
        futures = {pool.submit(extract, video, path): video for video, path in targets.items()}
        for future in as_completed(futures):
            video = futures[future]
            try:
                future.result()
            except BrokenVideoError as error:
                broken.append(BrokenVideo(video, str(error).removeprefix(f"{video}: ")))
            bar.update()
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)
    return broken


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    # Videos are computed in parallel; threads within a video would oversubscribe the cores.
    num_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(num_threads)


class _StoppedError(Exception):
    """The extraction ends before the video does."""


def _extract(video: str, target: str, settings: FlowSettings, on_frame: Callable[[], None]) -> None:
    """Writes a video's folder."""
    info = check_video(video)
    if info.num_frames < 2:
        raise BrokenVideoError("it has one frame; optical flow needs two")
    try:
        with write_aside(target) as aside:
            aside.mkdir()
            _write_frames(video, aside, settings, on_frame)
            write_json(aside / NOTE_NAME, info.to_json())
    except OSError as error:  # reading errors are another kind
        raise OSError(
            f"The flow of {video} cannot be written to {target}: {error.strerror}."
        ) from error


def _write_frames(
    video: str, folder: Path, settings: FlowSettings, on_frame: Callable[[], None]
) -> None:
    compute = flow_function(settings.method)
    previous: np.ndarray | None = None
    for number, frame in enumerate(iterate_frames(video, settings.short_side), start=1):
        on_frame()
        if settings.images:
            _write_image(folder, f"img_{number:05d}", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        if previous is not None:
            flow = quantize_flow(compute(previous, grey), settings.bound)
            _write_image(folder, f"flow_x_{number - 1:05d}", flow[..., 0])
            _write_image(folder, f"flow_y_{number - 1:05d}", flow[..., 1])
        previous = grey


def _write_image(folder: Path, name: str, image: np.ndarray) -> None:
    # Not by `cv2.imwrite`, which does not say that a disk is full.
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    (folder / f"{name}.jpg").write_bytes(data)


def _check_outside(folder: str | os.PathLike[str], videos: str | os.PathLike[str]) -> None:
    inside = os.path.relpath(os.path.realpath(folder), os.path.realpath(videos))
    if inside.split(os.sep)[0] != os.pardir:
        raise ValueError(
            f"`folder` must lie outside of the videos' folder {os.fspath(videos)}: its folders "
            f"would be taken for videos. Received: {os.fspath(folder)}."
        )


def _targets(videos: Sequence[str], root: str, folder: str | os.PathLike[str]) -> dict[str, str]:
    """Maps videos to their folders."""
    targets: dict[str, str] = {}
    video_of: dict[str, str] = {}
    for video in videos:
        target = os.path.join(folder, without_video_suffix(os.path.relpath(video, root)))
        if target in video_of:
            raise ValueError(
                f"The flow of {video_of[target]} and of {video} would have the same folder. "
                "Rename one of them."
            )
        targets[video], video_of[target] = target, video
    return targets


def _is_done(target: str) -> bool:
    if not os.path.lexists(target):
        return False
    if not os.path.isfile(os.path.join(target, NOTE_NAME)):
        raise ValueError(
            f"{target} is there and is no finished flow. Remove it or choose another folder."
        )
    return True
