"""The clips that a run's model sees, in each of its streams."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.augmentation import FLOW_SCALES
from pipelines.clip_dataset import VideoClipSource
from pipelines.flow_extraction import DESCRIPTION_NAME, extract_flow
from pipelines.listing import video_stem
from pipelines.records import VideoRecord
from pipelines.video_index import BrokenVideo, VideoIndex, drop_broken, index_videos
from tfvlad.cli.run_folder import RunConfig
from tfvlad.training import PairedStreams

# The file that keeps what is known of a stream's videos.
_INDEX_FILES = {"rgb": "videos.json", "flow": "flow.json"}


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
        for stream in config.streams
    }


def leave_out_broken(
    config: RunConfig,
    records: Sequence[VideoRecord],
    indexes: Mapping[str, VideoIndex],
    max_broken: int | None,
) -> tuple[tuple[VideoRecord, ...], list[BrokenVideo]]:
    """The records that can be decoded in every stream, and why the others cannot.

    Raises:
        ValueError: more than `max_broken` of a stream cannot, or none can.
    """
    kept, broken = tuple(records), []
    for stream in config.streams:
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
    **options: Any,
) -> VideoClipSource | PairedStreams:
    """The source of a run's clips.

    Args:
        config: of the run.
        records: clips that can be decoded in every stream.
        indexes: what `index_streams` returned.
        **options: further arguments of `VideoClipSource`, such as `test_crops`.
    """
    # The streams of a clip are cropped alike: flow's own fewer scales are for flow alone.
    scales = None if len(config.streams) == 1 else FLOW_SCALES
    sources = [
        VideoClipSource(
            stream_records(config, records, stream),
            config.class_names,
            index=indexes[stream],
            stream=stream,
            stack_frames=config.stack_frames,
            num_frames=config.num_frames,
            image_size=config.image_size,
            short_side=config.short_side,
            sampling=config.sampling,
            multi_label=config.multi_label,
            scales=scales,
            **options,
        )
        for stream in config.streams
    ]
    return sources[0] if len(sources) == 1 else PairedStreams(sources)


def stream_records(
    config: RunConfig, records: Sequence[VideoRecord], stream: str
) -> tuple[VideoRecord, ...]:
    """The records of a stream: of two streams, the flow lies below a folder of its own."""
    if stream == config.streams[0]:
        return tuple(records)
    root, flow_root = config.data["data"], config.data["flow"]
    return tuple(
        replace(record, path=flow_folder(record.path, root, flow_root)) for record in records
    )


def flow_folder(path: str, root: str, flow_root: str) -> str:
    """Where `tfvlad flow` writes the flow of a video: its relative path, without suffix."""
    relative = os.path.relpath(os.path.abspath(path), root)
    return os.path.join(flow_root, os.path.dirname(relative), video_stem(path))


def flow_settings(folder: str) -> dict[str, Any] | None:
    """How `tfvlad flow` computed the flow in a folder; None where another program did."""
    path = os.path.join(folder, DESCRIPTION_NAME)
    if not os.path.isfile(path):
        return None
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def with_flow_of(
    config: RunConfig, paths: Sequence[str], place: Path
) -> tuple[RunConfig, tuple[VideoRecord, ...]]:
    """The records of new videos, whose optical flow is computed if the run's model sees it.

    Args:
        config: of the run.
        paths: of the videos, which can be decoded.
        place: folder for the flow.

    Returns:
        The configuration, which names the flow's folder, and a record for each video.

    Raises:
        ValueError: the run's flow was computed by another program and cannot be repeated.
    """
    if "flow" not in config.streams:
        return config, tuple(VideoRecord(path, (0,)) for path in paths)
    if config.flow is None:
        raise ValueError(
            "The optical flow that the run was trained on was not computed by `tfvlad flow`. "
            "Compute the videos' flow in the same way, and give it to `tfvlad evaluate`."
        )
    # Below one root, whatever the videos' folders: their flow is computed in parallel.
    videos, flow = place / "videos", place / "flow"
    links = []
    for number, path in enumerate(paths):
        link = videos / str(number) / os.path.basename(os.path.normpath(path))
        link.parent.mkdir(parents=True)
        link.symlink_to(os.path.abspath(path))
        links.append(str(link))
    extract_flow(
        links,
        str(videos),
        str(flow),
        **{name: config.flow[name] for name in ("method", "bound", "short_side")},
    )
    if config.streams == ["flow"]:
        links = [flow_folder(link, str(videos), str(flow)) for link in links]
    config = replace(config, data={**config.data, "data": str(videos), "flow": str(flow)})
    return config, tuple(VideoRecord(link, (0,)) for link in links)
