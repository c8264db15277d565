"""Frames in presentation order, with or without those that nobody wants."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import av

# Containers whose packets state when they are shown; an AVI's may not.
_RANKABLE_FORMATS = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})


class UnrankedError(Exception):
    """The packets' time stamps do not tell the frames' order."""


def decode_all(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    is_wanted: Callable[[int], bool],
) -> Iterator[tuple[int, int | None, av.VideoFrame | None]]:
    """Gives the index, the time stamp and the frame of all, wanted or not."""
    for index, frame in enumerate(container.decode(stream)):
        yield index, frame.pts, frame


def decode_ranked(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    is_wanted: Callable[[int], bool],
) -> Iterator[tuple[int, int | None, av.VideoFrame | None]]:
    """The same, but passes over unwanted frames that no other needs; time stamps count the frames.

    If the last frame is passed over, its place and its time come without it: the number of frames
    must not depend on which are wanted.
    """
    context = stream.codec_context
    if context.name != "h264" or container.format.name not in _RANKABLE_FORMATS:
        raise UnrankedError
    ranks: dict[int, int] = {}
    expected = 0
    last_rank, last_tick = -1, None
    for packet, rank in _ranked_packets(container.demux(stream)):
        if rank is not None:
            ranks[packet.pts] = rank
            if rank > last_rank:
                last_rank, last_tick = rank, packet.pts
            context.skip_frame = "DEFAULT" if is_wanted(rank) else "NONREF"
        for frame in packet.decode():
            if frame.pts not in ranks:
                raise UnrankedError
            rank = ranks.pop(frame.pts)
            if rank < expected or any(is_wanted(skipped) for skipped in range(expected, rank)):
                raise UnrankedError  # a packet gave no frame
            expected = rank + 1
            yield rank, frame.pts, frame
            for tick in [tick for tick in ranks if tick < frame.pts]:
                del ranks[tick]
    if any(is_wanted(skipped) for skipped in range(expected, last_rank + 1)):
        raise UnrankedError
    if last_rank >= expected:
        yield last_rank, last_tick, None


def _ranked_packets(
    packets: Iterable[av.Packet],
) -> Iterator[tuple[av.Packet, int | None]]:
    """Pairs packets with their frames' places in presentation order, in bounded memory.

    A place is known when a packet comes that is decoded no earlier than the frame is shown, since
    all later frames are shown later.
    """
    waiting: deque[av.Packet] = deque()
    unranked: list[int] = []
    ranks: dict[int, int] = {}
    num_ranked = 0
    for packet in packets:
        waiting.append(packet)
        is_flush = packet.size == 0
        if not is_flush:
            if packet.pts is None or packet.dts is None or packet.is_corrupt or packet.is_discard:
                raise UnrankedError
            heapq.heappush(unranked, packet.pts)
        while unranked and (is_flush or unranked[0] <= packet.dts):
            ranks[heapq.heappop(unranked)] = num_ranked
            num_ranked += 1
        while waiting and (waiting[0].size == 0 or waiting[0].pts in ranks):
            head = waiting.popleft()
            yield head, ranks.pop(head.pts, None) if head.size else None
