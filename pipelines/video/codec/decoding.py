"""Video files and frame folders -> chosen frames."""

from __future__ import annotations

import math
import os
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from pipelines.video.codec.frames import (
    convert_frame,
    displayed_size,
    frame_converter,
    frame_rotation,
    open_video,
)
from pipelines.video.conversion import FrameConverter
from pipelines.video.crops import Crop, resized_size
from pipelines.video.frame_folders import STREAMS, check_frame_folder, read_images
from pipelines.video.info import BrokenVideoError, VideoInfo

# A seek (flushed decoder, file access) costs about as much as decoding this many frames.
_SEEK_COST_FRAMES = 8
# Codecs whose frames that the decoder may skip ("NONREF") are never needed by another frame.
_SKIPPABLE_CODECS = frozenset({"h264", "mpeg1video", "mpeg2video", "mpeg4"})


def check_video(path: str | os.PathLike[str], stream: str = "rgb") -> VideoInfo:
    """Decodes every frame of a video, without converting any, and describes it.

    Args:
        path: video file, or frame folder; see `frame_folders`.
        stream: "rgb", or "flow" for the optical flow of a frame folder.

    Raises:
        BrokenVideoError: when the file cannot be opened, has no video stream or no frame, or a
            frame cannot be decoded; if there is no optical flow.
    """
    if stream not in STREAMS:
        raise ValueError(f"`stream` must be one of {', '.join(STREAMS)}. Received: {stream!r}.")
    if os.path.isdir(path):
        return check_frame_folder(path, stream)
    if stream == "flow":
        raise BrokenVideoError(
            "a video file has no optical flow: compute it with `pipelines.extract_flow`"
        )
    ticks: list[int | None] = []
    key_frames = []
    first = None
    try:
        with open_video(path) as container:
            video = container.streams.video[0]
            for frame in container.decode(video):
                first = first or (frame.width, frame.height, frame_rotation(frame))
                if frame.key_frame:
                    key_frames.append(len(ticks))
                ticks.append(frame.pts)
            rate = float(video.average_rate or video.guessed_rate or 25)
            seconds_per_tick = float(video.time_base or 0)
    except (av.error.FFmpegError, OSError) as error:
        position = f"decoding fails after {len(ticks)} frames: " if ticks else ""
        raise BrokenVideoError(f"{position}{error.strerror or error}") from None
    if first is None:
        raise BrokenVideoError("no frame can be decoded")
    width, height, rotation = first
    width, height = displayed_size(width, height, rotation)
    frame_ticks = _ascending_ticks(ticks)
    if len(frame_ticks) > 1 and seconds_per_tick:
        span = frame_ticks[-1] - frame_ticks[0]
        rate = (len(frame_ticks) - 1) / (span * seconds_per_tick)
    return VideoInfo(
        len(ticks), rate, width, height, rotation, seconds_per_tick, frame_ticks, tuple(key_frames)
    )


def check_first_frame(path: str | os.PathLike[str]) -> None:
    """Decodes the first frame of a video file: a look before long work with several.

    Raises:
        BrokenVideoError: when the file cannot be opened, or has no frame.
    """
    try:
        with open_video(path) as container:
            if next(container.decode(video=0), None) is None:
                raise BrokenVideoError("no frame can be decoded")
    except (av.error.FFmpegError, OSError) as error:
        raise BrokenVideoError(str(error.strerror or error)) from None


def read_frames(
    path: str | os.PathLike[str],
    indices: Sequence[int] | np.ndarray,
    *,
    crops: Sequence[Crop] | None = None,
    image_size: int | tuple[int, int] | None = None,
    color_matrix: np.ndarray | None = None,
    info: VideoInfo | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Decodes chosen frames of a video to RGB.

    Only the wanted frames are converted, and the resize to a short side, the crop and the resize to
    the network's input are one resize of the crop's box, see `FrameConverter`. With `info`, the
    decoder jumps to key frames and passes over frames that no other frame needs, where that is
    cheaper; the frames are the same ones as without.

    Args:
        path: video file, or frame folder.
        indices: frame indices in presentation order, ascending, repeats allowed.
        crops: boxes of the displayed frame, each in the coordinates of a resized frame; by default
            the whole frame.
        image_size: side, or (height, width), of the output in pixels; by default the crop's own
            size, or the frame's.
        color_matrix: float32 `(3, 4)` applied to every pixel's `(R, G, B, 1)`, see
            `augmentation.draw_color_matrix`.
        info: what `check_video` returned for this file.
        out: array to write into, uint8 of the returned shape.

    Returns:
        uint8 `(T, height, width, 3)`, or `(num_crops, T, height, width, 3)` with `crops`.

    Raises:
        ValueError: when `indices` are not ascending or lie outside the video.
        BrokenVideoError: when the file cannot be decoded.
    """
    indices = np.asarray(indices, dtype=np.int64)
    num_frames = info.num_frames if info else math.inf
    if indices.ndim != 1 or not indices.size or (np.diff(indices) < 0).any() or indices[0] < 0:
        raise ValueError(f"`indices` must be ascending frame numbers. Received: {indices}.")
    if indices[-1] >= num_frames:
        raise ValueError(
            f"`indices` must lie below the video's {num_frames} frames. Received: {indices[-1]}."
        )
    slots: dict[int, list[int]] = {}
    for slot, index in enumerate(indices.tolist()):
        slots.setdefault(index, []).append(slot)
    converter: FrameConverter | None = None
    reformatter = VideoReformatter()
    images = np.empty(0, np.uint8)
    missing = set(slots)
    is_folder = os.path.isdir(path)
    try:
        for decode in [_decode_images] if is_folder else [_decode_by_ticks, _decode_in_order]:
            for index, frame in decode(os.fspath(path), list(slots), info):
                if converter is None:
                    converter = frame_converter(frame, crops, image_size, color_matrix)
                    shape = (len(converter.crops), len(indices), *converter.size, 3)
                    images = _output_array(out, shape, crops is not None)
                first, *repeats = slots[index]
                convert_frame(frame, converter, reformatter, images[:, first])
                for slot in repeats:
                    images[:, slot] = images[:, first]
                missing.discard(index)
            if not missing:
                break
    except (av.error.FFmpegError, OSError) as error:
        raise BrokenVideoError(f"{path}: {error.strerror or error}") from None
    except BrokenVideoError as error:
        raise BrokenVideoError(f"{path}: {error}") from None
    if missing:
        raise BrokenVideoError(f"{path}: frame {min(missing)} cannot be decoded; is it the end?")
    return images[0] if crops is None else images


def iterate_frames(path: str | os.PathLike[str], short_side: int) -> Iterator[np.ndarray]:
    """Decodes a video from its first frame to its last.

    Args:
        path: video file, or frame folder.
        short_side: shorter side of the resized frames, pixels.

    Yields:
        RGB, uint8 `(H, W, 3)`.

    Raises:
        BrokenVideoError: when a frame cannot be decoded.
    """
    converter: FrameConverter | None = None
    reformatter = VideoReformatter()
    try:
        for frame in _all_frames(path):
            if converter is None:
                size = displayed_size(frame.width, frame.height, frame_rotation(frame))
                width, height = resized_size(*size, short_side)
                converter = frame_converter(frame, None, (height, width), None)
            image = np.empty((1, *converter.size, 3), np.uint8)
            convert_frame(frame, converter, reformatter, image)
            yield image[0]
    except (av.error.FFmpegError, OSError) as error:
        raise BrokenVideoError(f"{path}: {error.strerror or error}") from None
    except BrokenVideoError as error:
        raise BrokenVideoError(f"{path}: {error}") from None


def _all_frames(path: str | os.PathLike[str]) -> Iterator[av.VideoFrame]:
    if os.path.isdir(path):
        for _, image in read_images(path):
            yield av.VideoFrame.from_ndarray(image, format="rgb24")
        return
    with open_video(path) as container:
        yield from container.decode(video=0)


def _decode_images(
    path: str, wanted: list[int], info: VideoInfo | None
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decodes images of a frame folder."""
    for index, image in read_images(path, wanted):
        yield index, av.VideoFrame.from_ndarray(image, format="rgb24")


def _decode_in_order(
    path: str, wanted: list[int], info: VideoInfo | None
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decodes from the first frame on, by counting."""
    remaining = set(wanted)
    with open_video(path) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in remaining:
                yield index, frame
                if index == wanted[-1]:
                    return


def _decode_by_ticks(
    path: str, wanted: list[int], info: VideoInfo | None
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decodes what lies between a key frame and the wanted frames, which time stamps identify."""
    if info is None or not info.frame_ticks:
        return
    ticks, keys = info.frame_ticks, info.key_frames
    index_at = {ticks[i]: i for i in wanted}
    # The key frame that decoding of each wanted frame can begin with.
    key_of = {i: keys[max(bisect_right(keys, i) - 1, 0)] if keys else 0 for i in wanted}
    position, done = 0, 0
    with open_video(path) as container:
        stream = container.streams.video[0]
        while done < len(wanted):
            if key_of[wanted[done]] > position + _SEEK_COST_FRAMES:
                container.seek(ticks[key_of[wanted[done]]], stream=stream)
            for frame in _frames_at(container, stream, index_at):
                if frame.pts is None or frame.pts > ticks[wanted[done]]:
                    return  # the seek led elsewhere: the caller decodes in order
                if frame.pts < ticks[wanted[done]]:
                    continue
                position = wanted[done]
                yield position, frame
                done += 1
                if done == len(wanted) or key_of[wanted[done]] > position + _SEEK_COST_FRAMES:
                    break
            else:
                return


def _frames_at(
    container: av.container.InputContainer, stream: av.VideoStream, wanted_ticks: Collection[int]
) -> Iterator[av.VideoFrame]:
    """Decodes on, passing over unwanted frames that no other frame needs."""
    context = stream.codec_context
    skippable = context.name in _SKIPPABLE_CODECS
    for packet in container.demux(stream):
        if skippable:
            context.skip_frame = "DEFAULT" if packet.pts in wanted_ticks else "NONREF"
        yield from packet.decode()


def _ascending_ticks(ticks: list[int | None]) -> range | tuple[int, ...]:
    known = [tick for tick in ticks if tick is not None]
    if len(known) < len(ticks) or any(b <= a for a, b in pairwise(known)):
        return ()
    if len(known) < 2:
        return tuple(known)
    steps = range(known[0], known[-1] + 1, known[1] - known[0])
    return steps if list(steps) == known else tuple(known)


def _output_array(out: np.ndarray | None, shape: tuple[int, ...], has_crops: bool) -> np.ndarray:
    if out is None:
        return np.empty(shape, np.uint8)
    expected = shape if has_crops else shape[1:]
    if out.shape != expected or out.dtype != np.uint8:
        raise ValueError(
            f"`out` must be uint8 of shape {expected}. Received: {out.dtype} {out.shape}."
        )
    return out.reshape(shape)
