"""Decode untrusted videos with PyAV, under limits, and only what is needed.

Everything that reads video goes through here, so that a hostile or broken file costs a bounded amount of memory and
time and always ends in one `MediaError` that names the file and the reason.

`read_frames` decodes from the keyframe before each wanted frame and leaves out frames that nobody refers to. What it
returns is what decoding everything would have given: each frame is known by its presentation time, and where times are
missing or a decoder answers otherwise than the packets said, the video is decoded from its start.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ray_fer.video.container import check_length, drops_unreferenced, open_video, read_packets, reason
from ray_fer.video.limits import DEFAULT_LIMITS, Deadline, DecodeLimits, MediaError
from ray_fer.video.packets import WHOLE, IndexCache, PacketIndex, Run, build_index, plan_runs
from ray_fer.video.pixels import to_rgb

Source = str | Path | bytes
"""A path, or a whole file in memory."""
Wanted = Sequence[int] | Callable[[int], Sequence[int]]
"""Ranks in presentation order, ascending and distinct; or what gives them for a number of frames."""

_INDICES = IndexCache(16)
# Packets of up to this size in all stay in memory between the index and the decoder, so that it is read once.
_KEPT_BYTES = 32 * 1024**2
# Decoding on over this many packets costs no more than seeking in a file.
_SEEK_COST = 4
_SEEK_ATTEMPTS = 3


@dataclass(frozen=True)
class Frame:
    """One decoded frame: position in the file, presentation time, pixels uint8 [H,W,3] in RGB order."""

    index: int
    pts_us: int
    image: np.ndarray


def read_frames(source: Source, wanted: Wanted, limits: DecodeLimits = DEFAULT_LIMITS, threads: int = 1) -> list[Frame]:
    """Frames of the `wanted` ranks, in order. `pts_us` counts from the first frame of the file.

    One thread decodes each file by default: worker pools have a process for each core, and two threads cost about 15%
    more time of the cores than one. Raises MediaError for a file that is missing, not a video, over a limit or damaged,
    that ends before the frames its header promises, or that has no frame of a wanted rank.
    """
    with _opened(source, limits, threads) as video:
        try:
            frames = list(_frames_of(video, _ranks(video, wanted)))
        except _InexactError:
            video = _from_start_only(video)
            frames = list(_frames_of(video, _ranks(video, wanted)))
    return sorted(frames, key=lambda frame: frame.index)


def iter_frames(
    source: Source,
    limits: DecodeLimits = DEFAULT_LIMITS,
    wanted: Sequence[int] | None = None,
    threads: int = 1,
    frame_by_frame: bool = True,
) -> Iterator[Frame]:
    """All frames in presentation order, or those of the `wanted` ranks that exist, one in memory at a time.

    Times and errors are those of `read_frames`; the limit of time holds for each frame, or, without `frame_by_frame`,
    for all of them and what the caller does between them.
    """
    with _opened(source, limits, threads, frame_by_frame, stream_all=wanted is None) as video:
        if wanted is not None:
            yield from _some_frames(video, [rank for rank in wanted if rank < len(video.index)])
            return
        rank, last = -1, None
        for rank, frame in enumerate(_decode_all(video)):
            if not video.index.counted:
                video, last = _while_uncounted(video, frame.pts, last), frame.pts
            yield _frame(video, rank, frame)
        _check_decoded(video, rank + 1)


def _while_uncounted(video: _Video, time: int | None, last: int | None) -> _Video:
    """The video with what is needed to give the time of a frame that follows the one at `last`."""
    if time is None or (last is not None and time <= last):
        return _counted(replace(video, packets=None))  # with a decoder of its own
    return video if last is not None else replace(video, index=replace(video.index, times=np.array([time])))


def _some_frames(video: _Video, ranks: list[int]) -> Iterator[Frame]:
    given = set()
    try:
        for frame in _frames_of(video, ranks):
            yield frame
            given.add(frame.index)
    except _InexactError:
        video = _from_start_only(video)
        yield from _frames_of(video, [rank for rank in ranks if rank not in given])


def packet_index(source: Source, limits: DecodeLimits = DEFAULT_LIMITS) -> PacketIndex:
    """Times and packets of the frames that `iter_frames` yields; decoded only where packets do not tell them.

    Raises MediaError.
    """
    with _opened(source, limits, 1) as video:
        return video.index


def count_frames(source: Source, limits: DecodeLimits = DEFAULT_LIMITS) -> int:
    """Number of frames that `iter_frames` yields, from the packets where they tell it. Raises MediaError."""
    return len(packet_index(source, limits))


def video_size(source: Source, limits: DecodeLimits = DEFAULT_LIMITS) -> tuple[int, int]:
    """(width, height) in pixels of a video's first frame as it is returned: upright, with square pixels."""
    return read_frames(source, [0], limits)[0].image.shape[1::-1]


class _InexactError(Exception):
    """The decoder or the container did not give what the packet index said."""


@dataclass(frozen=True)
class _Video:
    """An open video; `packets` are all of its packets when it is small and was indexed just now.

    `data` is the whole file when it lies in memory; `key` stands for a file in the cache of indices.
    """

    name: str
    data: bytes | None
    container: InputContainer
    stream: VideoStream
    index: PacketIndex
    packets: list[Packet] | None
    limits: DecodeLimits
    deadline: Deadline
    threads: int
    key: tuple[str, int, int] | None
    frame_by_frame: bool

    def open_again(self) -> AbstractContextManager[tuple[InputContainer, VideoStream]]:
        """The same video from its start, with a decoder of its own."""
        return open_video(self.name, self.limits, self.threads, self.data)


@contextmanager
def _opened(
    source: Source, limits: DecodeLimits, threads: int, frame_by_frame: bool = False, stream_all: bool = False
) -> Iterator[_Video]:
    """With `frame_by_frame` the limit of time holds for each frame; with `stream_all` frames need not be counted."""
    name, data = ("video", source) if isinstance(source, bytes) else (os.fspath(source), None)
    deadline = Deadline(name, limits.max_decode_seconds)
    with open_video(name, limits, threads, data) as (container, stream):
        key = _cache_key(name) if data is None else None
        index, packets = _INDICES.get(key), None
        if index is None:
            index, packets = build_index(name, container, stream, limits, deadline, _KEPT_BYTES)
        video = _Video(name, data, container, stream, index, packets, limits, deadline, threads, key, frame_by_frame)
        if not index.counted and not (stream_all and index.timed):
            video = _counted(video)
        _INDICES.put(key, video.index)
        check_length(name, len(video.index), video.index.microseconds(video.index.times[-1]) / 1e6, limits)
        yield video


def _cache_key(name: str) -> tuple[str, int, int]:
    status = os.stat(name)
    return os.path.abspath(name), status.st_size, status.st_mtime_ns


def _counted(video: _Video) -> _Video:
    times = [frame.pts for frame in _decode_all(video)]
    _check_decoded(video, len(times))
    return replace(video, index=video.index.with_frames(times))


def _from_start_only(video: _Video) -> _Video:
    video = _counted(video)
    video = replace(video, index=replace(video.index, packet_of=None))
    _INDICES.put(video.key, video.index)
    return video


def _check_decoded(video: _Video, decoded: int) -> None:
    if decoded == 0:
        raise MediaError(video.name, "no frame could be decoded")
    # Before frames are counted, there may be fewer than packets for good reasons.
    if decoded < WHOLE * len(video.index) and video.index.counted:
        raise MediaError(
            video.name, f"damaged: only {decoded} of {len(video.index)} frames can be decoded; fetch the file again"
        )


def _ranks(video: _Video, wanted: Wanted) -> list[int]:
    count = len(video.index)
    ranks = [int(rank) for rank in (wanted(count) if callable(wanted) else wanted)]
    if ranks and not 0 <= min(ranks) <= max(ranks) < count:
        raise MediaError(video.name, f"ends before frame {max(ranks)}: it has {count} frames")
    return ranks


def _frames_of(video: _Video, ranks: list[int]) -> Iterator[Frame]:
    if video.index.packet_of is not None:
        for run in plan_runs(video.index, ranks, _SEEK_COST if video.packets is None else 0):
            yield from _run_frames(video, run)
        return
    chosen = set(ranks)
    for rank, frame in islice(enumerate(_decode_all(video)), max(ranks, default=-1) + 1):
        if rank in chosen:
            chosen.remove(rank)
            yield _frame(video, rank, frame)
    if chosen:
        raise MediaError(video.name, f"damaged: frame {min(chosen)} cannot be decoded; fetch the file again")


def _frame(video: _Video, rank: int, frame: VideoFrame) -> Frame:
    index = video.index
    guessed = (index.packet_of is None and index.counted) or frame.pts is None
    time = index.times[min(rank, len(index) - 1)] if guessed else frame.pts
    image = to_rgb(frame, video.stream.sample_aspect_ratio, video.name, video.limits)
    return Frame(rank, index.microseconds(time), image)


def _decode_all(video: _Video) -> Iterator[VideoFrame]:
    for rank, frame in enumerate(_decoded_from_start(video)):
        if frame.is_corrupt:
            raise MediaError(video.name, f"damaged at frame {rank}: parts of it are missing; fetch the file again")
        yield frame


def _decoded_from_start(video: _Video) -> Iterator[VideoFrame]:
    if video.packets is not None:
        video.stream.codec_context.flush_buffers()
        video.stream.codec_context.skip_frame = "DEFAULT"
        yield from _decode(video, video.stream, video.packets)
        return
    with video.open_again() as (container, stream):
        # What follows the indexed packets is the damaged end of a file that is whole enough.
        yield from _decode(video, stream, islice(read_packets(container, stream), len(video.index.pts)))


def _run_frames(video: _Video, run: Run) -> Iterator[Frame]:
    pts = video.index.pts
    awaited = {int(pts[packet]): rank for packet, rank in run.ranks.items()}
    # With intra refresh a "keyframe" only starts the repair of the picture: its own frame does not come out.
    start = None if video.index.hidden[run.first] else int(pts[run.first])
    video.stream.codec_context.flush_buffers()
    for frame in _decode(video, video.stream, _run_packets(video, run)):
        if frame.is_corrupt:
            break
        start = None if frame.pts == start else start
        if frame.pts in awaited:
            if start is not None:
                break
            yield _frame(video, awaited.pop(frame.pts), frame)
    if awaited:
        raise _InexactError


def _run_packets(video: _Video, run: Run) -> Iterator[Packet]:
    context = video.stream.codec_context
    drops = drops_unreferenced(video.stream)
    packets = _packets_from(video, run.first) if video.packets is None else iter(video.packets[run.first :])
    for place, packet in zip(range(run.first, run.last + 1), packets, strict=False):
        if drops:
            context.skip_frame = "DEFAULT" if place in run.ranks or place == run.first else "NONREF"
        yield packet


def _packets_from(video: _Video, first: int) -> Iterator[Packet]:
    """Packets from place `first` of the index on, after seeking; where seeking fails, after reading all before them."""
    index = video.index
    keyframes = np.flatnonzero(index.keyframe[: first + 1])[::-1]
    for keyframe in keyframes[:_SEEK_ATTEMPTS]:
        try:
            video.container.seek(int(index.dts[keyframe]), stream=video.stream)
            packets = read_packets(video.container, video.stream)
            landed = next(packets, None)
        except av.error.FFmpegError:
            break
        place = np.flatnonzero(index.pts == landed.pts).tolist() if landed is not None else []
        if len(place) == 1 and place[0] <= first:
            yield from _as_indexed(index, chain([landed], packets), place[0], first)
            return
    with video.open_again() as (container, stream):
        yield from _as_indexed(index, read_packets(container, stream), 0, first)


def _as_indexed(index: PacketIndex, packets: Iterable[Packet], place: int, first: int) -> Iterator[Packet]:
    for here, packet in enumerate(packets, start=place):
        if here < first:
            continue
        # After seeking, some demuxers give a part of a packet, or give it the time of another.
        if here >= len(index.pts) or packet.pts != index.pts[here] or packet.size != index.size[here]:
            raise _InexactError
        yield packet


def _decode(video: _Video, stream: VideoStream, packets: Iterable[Packet]) -> Iterator[VideoFrame]:
    decoded = 0
    try:
        for packet in chain(packets, [None]):
            video.deadline.check()
            for frame in stream.codec_context.decode(packet):
                decoded += 1
                yield frame
                if video.frame_by_frame:
                    video.deadline.restart()
    except av.error.FFmpegError as error:
        known = video.index.packet_of is not None and packet is not None
        rank = np.searchsorted(video.index.times, packet.pts) if known else decoded
        raise MediaError(video.name, f"damaged at frame {rank}: {reason(error)}; fetch the file again") from error
