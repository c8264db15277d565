"""Videos -> frame folders with their optical flow."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from threading import Event

import cv2
import numpy as np

from pipelines.decoding import check_video, iterate_frames
from pipelines.frame_folders import NOTE_NAME
from pipelines.optical_flow import flow_function, quantize_flow
from pipelines.progress import progress_bar
from pipelines.records import without_video_suffix
from pipelines.video_index import BrokenVideo
from pipelines.video_info import BrokenVideoError

DESCRIPTION_NAME = "flow.json"
_JPEG_QUALITY = 95


@dataclass(frozen=True)
class FlowSettings:
    """How a folder's optical flow was computed: its `flow.json`."""

    method: str
    bound: float
    short_side: int
    images: bool


def extract_flow(
    videos: Sequence[str],
    root: str,
    folder: str,
    *,
    method: str = "tvl1",
    bound: float = 20.0,
    short_side: int = 256,
    images: bool = False,
    num_workers: int | None = None,
    progress: bool = True,
) -> list[BrokenVideo]:
    """Writes the optical flow of videos as 8-bit images, one frame folder a video.

    Pair i of `flow_x_%05d.jpg` and `flow_y_%05d.jpg` (numbered from 1) is the motion from frame i
    to frame i + 1, see `quantize_flow`. A folder appears when it is whole and is not computed
    again: an extraction that was killed goes on. `video.json` there says when the frames are shown.
    One frame after the other is in memory. A video that is broken anywhere, or has one frame only,
    gets no folder; a warning at the end counts these.

    Args:
        videos: Paths of video files, or of frame folders, below `root`.
        root: Folder whose tree is mirrored.
        folder: Where to write `<path below root, without suffix>/flow_x_00001.jpg` and so on; made
            when missing.
        method: "tvl1", "dis" or "farneback"; see `flow_function`.
        bound: Largest displacement that is kept, pixels a frame.
        short_side: Shorter side of the frames that flow is computed of, and of the images, pixels.
        images: Write the frames too, `img_%05d.jpg`, so that the folders serve both streams.
        num_workers: Videos computed at a time; by default one a processor.
        progress: Show a progress bar on the standard error stream.

    Returns:
        The broken videos.

    Raises:
        ValueError: If an argument is out of range, a video does not lie below `root`, two videos
            have the same path without suffix, `folder` lies within `root` or holds flow of other
            settings, or a video's folder is there and is none of these.
        OSError: If the folder cannot be written.
    """
    if bound <= 0:
        raise ValueError(f"`bound` must be positive. Received: bound={bound}.")
    for name, value in (("short_side", short_side), ("num_workers", num_workers or 1)):
        if value < 1:
            raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value}.")
    flow_function(method)
    settings = FlowSettings(method, float(bound), short_side, images)
    targets = _targets(videos, root, folder)
    _claim(folder, settings)
    pending = {video: path for video, path in targets.items() if not _is_done(path)}
    broken: list[BrokenVideo] = []
    stopped = Event()
    pool = ThreadPoolExecutor(num_workers or os.cpu_count(), thread_name_prefix="flow")
    bar = progress_bar(disable=not progress or not pending)
    try:
        with bar, _one_opencv_thread():
            task = bar.add_task("Videos", total=len(targets), completed=len(targets) - len(pending))
            frames_task = bar.add_task("Frames", total=None)

            def on_frame() -> None:
                if stopped.is_set():
                    raise _StoppedError
                bar.advance(frames_task)

            def extract(video: str, path: str) -> None:
                try:
                    _extract(video, path, settings, on_frame)
                except BrokenVideoError:
                    raise
                except BaseException:
                    stopped.set()  # here, so that no thread begins another video
                    raise

            futures = {pool.submit(extract, video, path): video for video, path in pending.items()}
            for future in as_completed(futures):
                try:
                    future.result()
                except BrokenVideoError as error:
                    reason = str(error).removeprefix(f"{futures[future]}: ")
                    broken.append(BrokenVideo(futures[future], reason))
                bar.advance(task)
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)
    if broken:
        names = "".join(f"\n  {b.path}: {b.reason}" for b in broken)
        warnings.warn(
            f"{len(broken)} of {len(targets)} videos are broken and have no optical flow:{names}",
            stacklevel=2,
        )
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
    """Writes a video's folder aside and moves it into place."""
    info = check_video(video)
    if info.num_frames < 2:
        raise BrokenVideoError("it has one frame; optical flow needs two")
    parent, name = os.path.split(target)
    aside = os.path.join(parent, f".{name}.partial")
    shutil.rmtree(aside, ignore_errors=True)  # of an extraction that was killed
    try:
        os.makedirs(aside)
        _write_frames(video, aside, settings, on_frame)
        with open(os.path.join(aside, NOTE_NAME), "w", encoding="utf-8") as file:
            json.dump(info.to_json(), file)
        os.rename(aside, target)
    except OSError as error:  # reading errors are another kind
        raise OSError(
            f"The flow of {video} cannot be written to {target}: {error.strerror}."
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_frames(
    video: str, folder: str, settings: FlowSettings, on_frame: Callable[[], None]
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


def _write_image(folder: str, name: str, image: np.ndarray) -> None:
    # Not by `cv2.imwrite`, which does not say that a disk is full.
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    with open(os.path.join(folder, f"{name}.jpg"), "wb") as file:
        file.write(data)


def _targets(videos: Sequence[str], root: str, folder: str) -> dict[str, str]:
    """Maps videos to their folders."""
    inside = os.path.relpath(os.path.realpath(folder), os.path.realpath(root))
    if inside.split(os.sep)[0] != os.pardir:
        raise ValueError(
            f"The flow must lie outside of the videos' folder {root}: its folders would be taken "
            f"for videos. Received: {folder}."
        )
    targets: dict[str, str] = {}
    video_of: dict[str, str] = {}
    for video in videos:
        name = without_video_suffix(os.path.relpath(video, root))
        if name.split(os.sep)[0] == os.pardir:
            raise ValueError(f"Every video must lie below {root}. Received: {video}.")
        target = os.path.join(folder, name)
        if target in video_of:
            raise ValueError(
                f"The flow of {video_of[target]} and of {video} would have the same folder. "
                "Rename one of them."
            )
        targets[video], video_of[target] = target, video
    return targets


def _claim(folder: str, settings: FlowSettings) -> None:
    """Describes a new folder, or checks that an old one holds flow of the same settings."""
    path = os.path.join(folder, DESCRIPTION_NAME)
    if not os.path.exists(path):
        os.makedirs(folder, exist_ok=True)
        temporary = f"{path}.{os.getpid()}"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(asdict(settings), file, indent=1)
        os.replace(temporary, path)
        return
    try:
        with open(path, encoding="utf-8") as file:
            found = FlowSettings(**json.load(file))
    except (ValueError, TypeError):
        raise ValueError(f"{path} does not describe optical flow. Choose another folder.") from None
    for name, value in asdict(settings).items():
        if getattr(found, name) != value:
            raise ValueError(
                f"{folder} holds flow of other settings: {name} is {getattr(found, name)} there. "
                f"Received: {name}={value}. Choose another folder."
            )


def _is_done(target: str) -> bool:
    if not os.path.lexists(target):
        return False
    if not os.path.isfile(os.path.join(target, NOTE_NAME)):
        raise ValueError(
            f"{target} is there and is no finished flow. Remove it or choose another folder."
        )
    return True
