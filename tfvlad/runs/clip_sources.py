"""The clips that a run's model sees, in each of its streams."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.clips.augmentation import FLOW_SCALES
from pipelines.clips.video_clips import VideoClipSource
from pipelines.flow.extraction import DESCRIPTION_NAME, extract_flow
from pipelines.lists.broken import drop_broken
from pipelines.lists.records import VideoRecord
from pipelines.video.index import BrokenVideo, VideoIndex, index_videos
from pipelines.video.names import without_video_suffix
from tfvlad.runs.config import RunConfig
from tfvlad.training import PairedStreams

# The file that keeps what is known of a stream's videos.
_INDEX_FILES = {"rgb": "videos.json", "flow": "flow-videos.json"}


def index_streams(
    config: RunConfig, records: Sequence[VideoRecord], place: Path
) -> dict[str, VideoIndex]:
    """Check the videos, and their optical flow, once; what is found is kept in `place`."""
    return {
        stream: index_videos(
            (record.path for record in stream_records(config, records, stream)),
            cache_path=str(place / _INDEX_FILES[stream]),
            stream=stream,
        )
        for stream in config.settings.streams
    }


def leave_out_broken(
    config: RunConfig,
    records: Sequence[VideoRecord],
    indexes: Mapping[str, VideoIndex],
    max_broken: int | None,
) -> tuple[tuple[VideoRecord, ...], list[BrokenVideo]]:
    """The records that can be decoded in every stream, and why the others cannot.

    Raises:
        ValueError: when more than `max_broken` of a stream cannot, or none can.
    """
    kept, broken = tuple(records), []
    for stream in config.settings.streams:
        own = stream_records(config, kept, stream)
        good, bad = drop_broken(own, indexes[stream], max_broken)
        broken += bad
        found = set(good)
        kept = tuple(record for record, one in zip(kept, own, strict=True) if one in found)
    return kept, broken


def clip_source(
    config: RunConfig,
    records: Sequence[VideoRecord],
    indexes: Mapping[str, VideoIndex],
    *,
    color_jitter: float = 0.0,
    **options: Any,
) -> VideoClipSource | PairedStreams:
    """The source of a run's clips.

    Args:
        config: of the run.
        records: clips that can be decoded in every stream.
        indexes: what `index_streams` returned.
        color_jitter: of the frames; optical flow has no colours.
        **options: further arguments of `VideoClipSource`, such as `test_crops`.
    """
    # The streams of a clip are cropped alike: flow's own fewer scales are for flow alone.
    scales = None if len(config.settings.streams) == 1 else FLOW_SCALES
    sources = [
        VideoClipSource(
            stream_records(config, records, stream),
            config.class_names,
            index=indexes[stream],
            stream=stream,
            stack_frames=config.settings.stack_frames,
            num_frames=config.settings.num_frames,
            image_size=config.settings.image_size,
            short_side=config.short_side,
            sampling=config.settings.sampling,
            multi_label=config.multi_label,
            scales=scales,
            color_jitter=color_jitter if stream == "rgb" else 0.0,
            **options,
        )
        for stream in config.settings.streams
    ]
    return sources[0] if len(sources) == 1 else PairedStreams(sources)


def stream_records(
    config: RunConfig, records: Sequence[VideoRecord], stream: str
) -> tuple[VideoRecord, ...]:
    """The records of a stream: of two streams, the flow lies below a folder of its own."""
    if stream == config.settings.streams[0]:
        return tuple(records)
    root, flow_root = config.data.data, str(config.data.flow)
    return tuple(
        replace(record, path=flow_folder(record.path, root, flow_root)) for record in records
    )


def flow_folder(path: str, data: str, flow_root: str) -> str:
    """Where `extract_flow` writes the flow of a video: its relative path, without suffix.

    Raises:
        ValueError: when the video does not lie in the folder `data`, or in that of the CSV `data`.
    """
    root = os.path.dirname(data) if os.path.isfile(data) else data
    relative = os.path.relpath(os.path.abspath(path), root)
    if relative.split(os.sep)[0] == os.pardir:
        raise ValueError(
            f"The optical flow of a video is found by its path below {root}, and {path} does not "
            "lie there."
        )
    return os.path.join(flow_root, without_video_suffix(relative))


def flow_settings(folder: str) -> dict[str, Any] | None:
    """How `extract_flow` computed the flow in a folder; None where another program did."""
    path = os.path.join(folder, DESCRIPTION_NAME)
    if not os.path.isfile(path):
        return None
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def source_of_videos(
    config: RunConfig, paths: Sequence[str], place: Path
) -> tuple[VideoClipSource | PairedStreams | None, list[str], list[BrokenVideo]]:
    """The clips of new videos, whose optical flow is computed if the run's model sees it.

    Args:
        config: of the run.
        paths: of the videos.
        place: folder for the flow.

    Returns:
        The source (None without a video that can be used), the paths of its videos, and why the
        others cannot be used.

    Raises:
        ValueError: when the run's flow was computed by another program and cannot be repeated.
    """
    index = index_videos(paths)
    broken = [video for video in index.values() if isinstance(video, BrokenVideo)]
    good = [path for path, video in index.items() if not isinstance(video, BrokenVideo)]
    indexes = {"rgb": index}
    links = dict(zip(good, good, strict=True))
    if good and "flow" in config.settings.streams:
        config, links, without_flow = _with_flow(config, good, place)
        broken += without_flow
        good = [path for path in good if path in links]
    records = tuple(VideoRecord(links[path], (0,)) for path in good)
    if not records:
        return None, [], broken
    if config.settings.streams != ("rgb",):
        indexes = index_streams(config, records, place)
    return clip_source(config, records, indexes), good, broken


def _with_flow(
    config: RunConfig, paths: Sequence[str], place: Path
) -> tuple[RunConfig, dict[str, str], list[BrokenVideo]]:
    """The configuration that names the flow's folder, and the path to read for each video."""
    if config.flow is None:
        raise ValueError(
            "The optical flow that the run was trained on was not computed by "
            "`pipelines.extract_flow`. Compute the videos' flow in the same way, and give it to "
            "`Run.evaluate` as `flow`."
        )
    # Below one root, whatever the videos' folders: their flow is computed in parallel.
    videos, flow = place / "videos", place / "flow"
    links = {}
    for number, path in enumerate(paths):
        link = videos / str(number) / os.path.basename(os.path.normpath(path))
        link.parent.mkdir(parents=True)
        link.symlink_to(os.path.abspath(path))
        links[str(link)] = path
    settings = {name: config.flow[name] for name in ("method", "bound", "short_side")}
    done = extract_flow(list(links), flow, root=videos, max_broken=len(links), **settings)
    broken = [BrokenVideo(links.pop(video.path), video.reason) for video in done.broken]
    config = replace(config, data=replace(config.data, data=str(videos), flow=str(flow)))
    is_read = config.settings.streams == ("flow",)
    places = {
        path: flow_folder(link, str(videos), str(flow)) if is_read else link
        for link, path in links.items()
    }
    return config, places, broken
