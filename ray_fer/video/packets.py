"""What a video's packets say without decoding: how many frames there are, when each is shown, where decoding can start.

A packet is what the decoder is fed, in decoding order; a frame's rank is its place in presentation order. With
bidirectional prediction the two orders differ, and with edit lists some packets are decoded but never shown.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from ray_fer.video.container import check_length, header_seconds, read_packets, reason
from ray_fer.video.limits import Deadline, DecodeLimits, MediaError

# One packet is one shown frame, and decoding from a keyframe gives the same pixels as decoding from the start. Others
# are counted by decoding: VP8 hides frames, MPEG-4 packs two in a packet or leaves packets empty.
_ONE_FRAME_A_PACKET = frozenset(
    ("h264", "hevc", "vp9", "av1", "mpeg1video", "mpeg2video", "mjpeg", "prores", "dnxhd", "ffv1", "huffyuv")
)
# AVI has no presentation times, raw streams have none at all: what FFmpeg fills in is wrong for reordered frames.
_FORMATS_WITHOUT_TIMES = frozenset(("avi", "h264", "hevc", "m4v", "mpegvideo", "obu"))
UNKNOWN = np.iinfo(np.int64).min
# Packets of a file overlap when its tables point at the same bytes many times: a small file that costs gigabytes.
_MAX_OVERLAP = 4
_OVERLAP_BYTES = 64 * 1024**2
WHOLE = 0.95
"""Share of what a header promises that must be there; a few frames are often lost at the end when a recording stops."""


@dataclass(frozen=True)
class PacketIndex:
    """Times in units of `time_base`. N packets in decoding order, F frames in presentation order.

    pts and dts int64 [N], size int64 [N] in bytes; keyframe and hidden bool [N] (hidden: decoded, not shown); times
    int64 [F], ascending; packet_of int64 [F], the packet that holds each frame, or None where only decoding from the
    start tells a frame's rank.
    """

    time_base: Fraction
    pts: np.ndarray = field(repr=False)
    dts: np.ndarray = field(repr=False)
    size: np.ndarray = field(repr=False)
    keyframe: np.ndarray = field(repr=False)
    hidden: np.ndarray = field(repr=False)
    times: np.ndarray = field(repr=False)
    packet_of: np.ndarray | None = field(repr=False)
    counted: bool
    """Whether F is known; otherwise `with_frames` must tell what decoding gives."""
    frame_step: Fraction = Fraction(1, 25)
    """Seconds from one frame to the next, as the header has it or FFmpeg guesses."""
    joined: bool = False
    """Whether decoding times start again or the codec's header changes, as in files joined end to end."""
    timed: bool = True
    """Whether frames come out of the decoder with their own times, in order."""

    def __len__(self) -> int:
        return len(self.times)

    def microseconds(self, time: int) -> int:
        """Presentation time counted from the first frame."""
        elapsed = (int(time) - int(self.times[0])) * self.time_base
        return round(elapsed * 1_000_000)

    def with_frames(self, pts: Sequence[int | None]) -> PacketIndex:
        """The same packets, with frames as decoding from the start gave them, in that order."""
        known = [time for time in pts if time is not None]
        if len(known) < len(pts) or (self.pts == UNKNOWN).any():  # no times: frames at a constant rate
            return replace(
                self, time_base=self.frame_step, times=np.arange(len(pts)), packet_of=None, counted=True, timed=False
            )
        times = np.array(known, np.int64)
        if self.joined:
            return replace(self, times=self._continued(times), packet_of=None, counted=True)
        in_order = bool((np.diff(times) > 0).all())
        places = {int(time): place for place, time in enumerate(self.pts)}
        unique = len(places) == len(self.pts) and all(int(time) in places for time in times)
        seekable = in_order and unique and bool(self.keyframe[0])
        packet_of = np.array([places[int(time)] for time in times]) if seekable else None
        return replace(self, times=np.sort(times), packet_of=packet_of, counted=True)

    def _continued(self, times: np.ndarray) -> np.ndarray:
        """Times that increase: where they start again, all that follow are moved to one frame after the last one."""
        step = max(1, round(self.frame_step / self.time_base))
        between = np.diff(times)
        return times[0] + np.concatenate([[0], np.cumsum(np.where(between > 0, between, step))])


@dataclass(frozen=True)
class Run:
    """Packets `first` (a keyframe) to `last`, both inclusive, which give the frames in `ranks` (packet -> rank)."""

    first: int
    last: int
    ranks: dict[int, int]


def build_index(
    name: str, container: InputContainer, stream: VideoStream, limits: DecodeLimits, deadline: Deadline, keep: int
) -> tuple[PacketIndex, list[Packet] | None]:
    """Read all packets once, and return them too if they are no more than `keep` bytes and need one decoder only.

    Raises MediaError for a video that is cut off or too long, or whose packets are many times the file's size. A file
    that ends before its header's promise is refused unless 95% of its frames, or of its duration, are there.
    """
    packets: list[Packet] | None = []
    columns: list[tuple[int, int, int, bool, bool]] = []
    end, damage, partial = 0.0, None, False
    total, most = 0, max(_MAX_OVERLAP * container.size, _OVERLAP_BYTES)
    joined, last = False, UNKNOWN
    # Where only the whole file's duration is known, its longest track counts.
    source = read_packets(container, stream) if stream.duration is not None else read_packets(container)
    try:
        for packet in source:
            deadline.check()
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream_index != stream.index:
                continue
            pts = UNKNOWN if packet.pts is None else packet.pts
            dts = pts if packet.dts is None else packet.dts
            columns.append((pts, dts, packet.size, packet.is_keyframe, packet.is_discard))
            partial = packet.is_corrupt
            check_length(name, len(columns), 0.0, limits)
            joined |= packet.has_sidedata("new_extradata") or (packet.dts is not None and packet.dts <= last)
            last = last if packet.dts is None else packet.dts
            total += packet.size
            if total > most:
                raise MediaError(name, f"its packets overlap: more than {most} bytes in all; re-encode it")
            if joined or total > keep:
                packets = None
            if packets is not None:
                packets.append(packet)
    except av.error.FFmpegError as error:
        deadline.check()
        damage = reason(error)
    if partial:  # the file ends within its last packet
        columns.pop()
    table = np.array(columns, np.int64).reshape(-1, 5)
    if table[:, 4].all():
        raise MediaError(name, "no frame could be decoded" + (f": {damage}" if damage else ""))
    index = _index(container, stream, table, joined)
    _check_whole(name, container, stream, index, end, damage)
    return index, None if packets is None else packets[: len(columns)]


def plan_runs(index: PacketIndex, ranks: Iterable[int], gap: int) -> list[Run]:
    """Fewest packets that give the frames of `ranks`, in order; runs no more than `gap` packets apart are joined.

    A frame is decoded from the last keyframe that is neither after it in decoding order nor shown later: frames that
    follow an open group's keyframe but are shown before it need the group before.
    """
    assert index.packet_of is not None
    keyframes = np.flatnonzero(index.keyframe)
    runs: list[Run] = []
    for first, packet, rank in sorted(_starts(index, keyframes, ranks)):
        if runs and first <= runs[-1].last + 1 + gap:
            runs[-1].ranks[packet] = rank
            runs[-1] = replace(runs[-1], last=max(runs[-1].last, packet))
        else:
            runs.append(Run(first, packet, {packet: rank}))
    return runs


def _starts(index: PacketIndex, keyframes: np.ndarray, ranks: Iterable[int]) -> Iterator[tuple[int, int, int]]:
    assert index.packet_of is not None
    for rank in ranks:
        packet = int(index.packet_of[rank])
        before = keyframes[: np.searchsorted(keyframes, packet, side="right")]
        start = next((int(one) for one in before[::-1] if index.pts[one] <= index.pts[packet]), 0)
        yield start, packet, rank


def _index(container: InputContainer, stream: VideoStream, table: np.ndarray, joined: bool) -> PacketIndex:
    pts, keyframe, hidden = table[:, 0], table[:, 3].astype(bool), table[:, 4].astype(bool)
    shown = np.flatnonzero(~hidden)
    base, step = stream.time_base or Fraction(1, 1_000_000), 1 / (stream.guessed_rate or Fraction(25))
    timed = container.format.name not in _FORMATS_WITHOUT_TIMES and not joined
    index = PacketIndex(base, pts, table[:, 1], table[:, 2], keyframe, hidden, pts, None, False, step, joined, timed)
    if (pts == UNKNOWN).any():
        return replace(index, time_base=step, times=np.arange(len(shown)), timed=False)
    order = shown[np.argsort(pts[shown], kind="stable")]
    trusted = (
        stream.codec_context.codec.canonical_name in _ONE_FRAME_A_PACKET
        and timed
        and bool(keyframe[0])
        and bool((pts[shown] >= pts[0]).all())  # frames before the first keyframe cannot all be decoded
        and len(np.unique(pts)) == len(pts)
    )
    return replace(index, times=pts[order], packet_of=order if trusted else None, counted=trusted)


def _check_whole(
    name: str, container: InputContainer, stream: VideoStream, index: PacketIndex, end: float, damage: str | None
) -> None:
    there = len(index)
    promised = header_seconds(container, stream)
    seconds = None
    if promised is not None and len(index) > 1:
        step = float((index.times[-1] - index.times[0]) * index.time_base) / (len(index) - 1)
        seconds = max(end, index.microseconds(index.times[-1]) / 1e6 + step)
    frames_missing = there < WHOLE * stream.frames if stream.frames else None
    time_missing = seconds < WHOLE * promised if seconds is not None and promised is not None else None
    # An edit list may hide most frames, and a header may be wrong about the duration: only both together are a cut.
    if frames_missing is not False and time_missing is not False and (frames_missing or time_missing):
        what = f"{there} of {stream.frames} frames" if stream.frames else f"{seconds:.2f} of {promised:.2f} s"
        raise MediaError(name, f"truncated: {what} are there; fetch the file again")
    if damage and frames_missing is None and time_missing is None:
        raise MediaError(name, f"damaged after frame {there}: {damage}")


class IndexCache:
    """The last indices of this process, by path, size and time of change: a long video holds many clips.

    The key of what is not to be remembered is None.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: OrderedDict[tuple[str, int, int], PacketIndex] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[str, int, int] | None) -> PacketIndex | None:
        """The index of a file that has not changed since, or None."""
        with self._lock:
            if key is None or key not in self._known:
                return None
            self._known.move_to_end(key)
            return self._known[key]

    def put(self, key: tuple[str, int, int] | None, index: PacketIndex) -> None:
        """Remember an index; the one that was not used for longest is forgotten."""
        if key is None:
            return
        with self._lock:
            self._known[key] = index
            self._known.move_to_end(key)
            while len(self._known) > self._size:
                self._known.popitem(last=False)
