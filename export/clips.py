"""The clips that an export is proved on, and that 8 bits are calibrated on."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from export.exportable import Exportable
from export.parity import Clip, made_clips
from pipelines.clips.video_clips import VideoClipSource
from pipelines.lists.listing import videos_below
from pipelines.lists.records import VideoRecord
from pipelines.video.index import BrokenVideo, index_videos
from tfvlad.models import ClipModel
from tfvlad.runs.answers.clip_models import input_names
from tfvlad.runs.clip_sources import (
    clip_source,
    index_streams,
    leave_out_broken,
    source_of_videos,
)
from tfvlad.runs.config import RunConfig
from tfvlad.runs.data import clip_names, read_lists
from tfvlad.training import ClipSource
from tfvlad.training.streams import PairedStreams, streams_of

Sources = Mapping[str, ClipSource]

_NUM_CALIBRATION_CLIPS = 64
_NUM_PROOF_CLIPS = 16


@dataclass(frozen=True, eq=False)
class ExportClips:
    """Clips by stream, uint8 `(T, H, W, channels)`.

    Attributes:
        proof: on which the export is compared with its model.
        calibration: other, typical clips, where they are asked for; videos are decoded one by one.
        num_calibration: how many there are.
        origin: "given", of videos or by the caller, or "made".
        broken: videos that could not be read.
    """

    proof: Sequence[Clip]
    calibration: Iterable[Clip] = ()
    num_calibration: int = 0
    origin: str = "given"
    broken: tuple[BrokenVideo, ...] = ()


@contextmanager
def export_clips(
    exportable: Exportable,
    videos: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None,
    clips: Iterable[Clip] | None,
    *,
    calibrate: bool,
) -> Iterator[ExportClips]:
    """Clips for an export, as long as the context lasts.

    Args:
        exportable: the model.
        videos: the caller's: files, frame folders, and folders that hold videos.
        clips: the caller's own clips. Without both, those of the runs' lists; made ones where
            these are not at hand, which calibrate nothing.
        calibrate: clips are needed for a calibration too.

    Raises:
        ValueError: when none of the videos can be used, or videos and clips are given.
    """
    if clips is not None:
        if videos is not None:
            raise ValueError("Give either `videos` or `clips`, not both.")
        yield _of_clips(exportable.clip_model, list(clips), calibrate)
        return
    with tempfile.TemporaryDirectory(prefix="tfvlad-") as folder:
        if videos is not None:
            named = [videos] if isinstance(videos, (str, os.PathLike)) else videos
            paths = [os.fspath(path) for path in named]
            yield _of_videos(exportable, paths, Path(folder), calibrate)
            return
        own = _of_runs(exportable, Path(folder), calibrate)
        yield own or ExportClips(made_clips(exportable.clip_model), origin="made")


def _parts(count: int, calibrate: bool) -> tuple[range, range]:
    """Which of the clips prove and which calibrate: others, but of a single clip."""
    if not calibrate:
        return range(min(_NUM_PROOF_CLIPS, count)), range(0)
    num_proof = max(min(_NUM_PROOF_CLIPS, count // 5), 1)
    return range(num_proof), range(num_proof if count > 1 else 0, count)


def _of_clips(clip_model: ClipModel, clips: Sequence[Clip], calibrate: bool) -> ExportClips:
    if not clips:
        raise ValueError("`clips` must hold at least one clip. Received: none.")
    for number, clip in enumerate(clips):
        for stream, shape in clip_model.inputs.items():
            value = clip.get(stream)
            if value is None or value.dtype != np.uint8 or value.shape != shape:
                received = None if value is None else f"{value.dtype} {value.shape}"
                raise ValueError(
                    f"`clips` must be uint8 {shape} for '{stream}'. "
                    f"Received: {received} in clip {number}."
                )
    proof, calibration = _parts(len(clips), calibrate)
    return ExportClips([clips[i] for i in proof], [clips[i] for i in calibration], len(calibration))


def _of_videos(
    exportable: Exportable, videos: Sequence[str], place: Path, calibrate: bool
) -> ExportClips:
    listed = (videos_below(path) if os.path.isdir(path) else [path] for path in videos)
    paths = [path for found in listed for path in found]
    if not paths:
        raise ValueError(f"There are no videos in {', '.join(videos)}.")
    chosen = np.random.default_rng(0).permutation(len(paths))
    count = _NUM_PROOF_CLIPS + (_NUM_CALIBRATION_CLIPS if calibrate else 0)
    paths = [paths[i] for i in chosen[:count]]
    source: VideoClipSource | PairedStreams | None
    sources: dict[str, ClipSource] = {}
    broken: list[BrokenVideo] = []
    for number, part in enumerate(exportable.parts):
        names = tuple(part.clip_model.inputs)
        if set(names) <= set(sources):
            continue
        if part.config is None:
            source, good, unread = _spread_clips(part.clip_model, paths)
        else:
            folder = place / str(number)
            folder.mkdir()
            source, good, unread = source_of_videos(part.config, paths, folder)
        broken += unread
        if source is None or (sources and unread):
            raise ValueError(f"{len(unread)} of {len(paths)} videos have no clip in every stream.")
        paths = good
        sources.update(zip(names, streams_of(source), strict=True))
    proof, calibration = _parts(len(paths), calibrate)
    return ExportClips(
        list(clips_of(sources, proof)),
        clips_of(sources, calibration),
        len(calibration),
        broken=tuple(broken),
    )


def _spread_clips(
    clip_model: ClipModel, paths: Sequence[str]
) -> tuple[VideoClipSource | None, list[str], list[BrokenVideo]]:
    """Clips where no run on videos says how they are read: frames spread over the video."""
    if "flow" in clip_model.inputs:
        raise ValueError(
            "`videos` cannot be used: no run tells how the optical flow of this model is computed. "
            "Give `clips`."
        )
    index = index_videos(paths)
    broken = [video for video in index.values() if isinstance(video, BrokenVideo)]
    good = [path for path, video in index.items() if not isinstance(video, BrokenVideo)]
    if not good:
        return None, good, broken
    num_frames, height, width, _ = clip_model.inputs["frames"]
    if height != width:
        raise ValueError(
            "`videos` cannot be used: the model's frames are no squares. Give `clips`."
        )
    source = VideoClipSource(
        [VideoRecord(path, (0,)) for path in good],
        clip_model.class_names,
        index=index,
        num_frames=num_frames,
        image_size=height,
        short_side=clip_model.short_side,
    )
    return source, good, broken


def _of_runs(exportable: Exportable, place: Path, calibrate: bool) -> ExportClips | None:
    """Clips of the runs' own videos: their validation list proves, their training list calibrates.

    Returns:
        None where the videos are no longer there, where models were fused that do not share their
        lists, and of runs on features and of other models, which do not know their videos.
    """
    validation = _shared_part(exportable, "validation", _NUM_PROOF_CLIPS, place)
    if validation is not None and not calibrate:
        return ExportClips(_proof(validation), broken=validation.broken)
    training = _shared_part(exportable, "train", _NUM_CALIBRATION_CLIPS, place)
    if training is None:
        return None
    # A run may have been trained without a validation list.
    proof = validation or training
    calibration = range(len(training.names) if calibrate else 0)
    return ExportClips(
        _proof(proof),
        clips_of(training.sources, calibration),
        len(calibration),
        broken=tuple(dict.fromkeys((*training.broken, *proof.broken))),
    )


def _proof(own: RunClips) -> list[Clip]:
    return list(clips_of(own.sources, range(min(len(own.names), _NUM_PROOF_CLIPS))))


class RunClips(NamedTuple):
    """The clips of a part of a run's own list, by stream, their names, and broken videos."""

    sources: Sources
    names: tuple[str, ...]
    broken: tuple[BrokenVideo, ...]


def _shared_part(exportable: Exportable, part: str, count: int, place: Path) -> RunClips | None:
    """The same clips of the runs' lists in every stream."""
    found: list[RunClips] = []
    for one in exportable.parts:
        if one.config is None or one.folder is None or not (one.folder / "lists.csv").exists():
            return None
        own = sources_of_run(one.folder, one.config, part, place, count)
        if own is None or (found and own.names != found[0].names):
            return None
        found.append(own)
    sources = {name: source for own in found for name, source in own.sources.items()}
    broken = tuple(video for own in found for video in own.broken)
    return RunClips(sources, found[0].names, broken)


def sources_of_run(
    folder: Path, config: RunConfig, part: str, place: Path, count: int | None = None
) -> RunClips | None:
    """The clips of a part of a run's own list; with `count`, as many chosen at random.

    Returns:
        None where the videos are no longer there, or the list is empty.
    """
    try:
        records = read_lists(folder / "lists.csv", part, config.class_names)
    except ValueError:  # a video is missing
        return None
    if count is not None:
        chosen = np.random.default_rng(0).permutation(len(records))[:count]
        records = tuple(records[i] for i in chosen)
    indexes = index_streams(config, records, place)
    kept, broken = leave_out_broken(config, records, indexes, len(records))
    if not kept:
        return None
    sources = streams_of(clip_source(config, kept, indexes))
    by_name = dict(zip(input_names(config), sources, strict=True))
    return RunClips(by_name, tuple(clip_names(kept)), tuple(broken))


def clips_of(sources: Sources, indices: range) -> Iterator[Clip]:
    """Some of the clips, by stream, decoded one by one."""
    each = {name: source.subset(indices) for name, source in sources.items()}
    for clips in zip(
        *(source.clips(augment=False, variant=0) for source in each.values()), strict=True
    ):
        yield dict(zip(each, clips, strict=True))
