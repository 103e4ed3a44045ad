"""Event-time windows over one stream of frames.

Window k covers ``[k * stride, k * stride + size)`` of `pts_us`. It is sealed as soon as the stream's newest frame is
`allowed_lateness` past its end, or when the stream is flushed; from then on no frame joins it. T frames of it are then
chosen uniformly; nothing else of a window is ever decoded. A window without frames between windows that have some is a
gap.

Sealing is decided by each frame as it comes, whoever asks for windows how often. So what a window holds is a function
of the order of the log alone, and a worker that reads a part of the log again finds the same windows.

The T frames are those nearest to the points of one time grid for the whole stream, ``j * size / T``. Every window
holds exactly T of its points whatever the stride, and overlapping windows choose the same frames: with 5 s windows
every second, 3.2 frames of a second are decoded instead of 16. A window that its stream does not fill, at the
stream's start and end, spreads its choice over its candidates: the frames right before and right after a grid point.

What no window can choose any more need not be kept. A frame without a grid point between its neighbours (after the one
before it, up to the one after it) is no candidate of any window that they are all in. Nor is it where a window's border
cuts off a neighbour: the frames inside are then the only ones whose neighbours changed, and a candidate of a window is
one of the whole stream. More frames only bring neighbours nearer. So such a frame is let go of at once, all but its
time and number, which are counted: at 30 frames/s, 6.4 pictures of a second stay in memory instead of 30.
"""

from __future__ import annotations

import bisect
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ray_fer.streaming.payload import Payload

Verdict = Literal["kept", "duplicate", "late", "restart"]

MAX_REORDER = 1000
"""A late frame whose number is further behind than this was not delayed: its stream counts anew."""


LET_GO = Payload("", b"")
"""In the place of what is not kept."""


class WindowConfig(BaseModel):
    """Sizes in seconds of event time; `idle_timeout` in seconds of wall-clock time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: float = Field(5.0, gt=0, description="length of a window")
    stride: float = Field(1.0, gt=0, description="distance between the starts of two windows")
    frames: int = Field(16, ge=1, description="frames chosen in each window")
    allowed_lateness: float = Field(0.5, ge=0, description="how long a window waits for frames that come late")
    idle_timeout: float = Field(5.0, gt=0, description="a stream silent for so long has its windows closed")
    forget_after: float = Field(
        3600.0, gt=0, description="a stream silent for so long is forgotten: if it comes back, it begins a new session"
    )
    max_gap_windows: int = Field(
        60, ge=0, description="gap windows reported in a row; a longer silence is skipped over"
    )

    @model_validator(mode="after")
    def _overlap(self) -> WindowConfig:
        if self.stride > self.size:
            raise ValueError(
                f"stride {self.stride:g} s exceeds size {self.size:g} s: frames would fall between windows"
            )
        return self

    @property
    def size_us(self) -> int:
        return round(self.size * 1e6)

    @property
    def stride_us(self) -> int:
        return round(self.stride * 1e6)

    @property
    def lateness_us(self) -> int:
        return round(self.allowed_lateness * 1e6)


@dataclass(order=True, slots=True)
class BufferedFrame:
    """A frame waiting in a stream's buffer, ordered by time: frame `index` of its payload.

    As soon as no window can choose it, `payload` is `LET_GO` and `record` None. `face` caches what the face stage said
    of it. The last three are noted by `StreamWindows.add`: the first window that was still open when it came, and the
    newest time and highest number before it.
    """

    pts_us: int
    seq: int
    payload: Payload = field(compare=False)
    index: int = field(default=0, compare=False)
    record: Any = field(compare=False, default=None)
    offset: int = field(compare=False, default=0)
    arrived_ms: int | None = field(compare=False, default=None)
    face: Any = field(compare=False, default=None)
    first_window: int = field(compare=False, default=0)
    newest_before: int = field(compare=False, default=-1)
    highest_before: int = field(compare=False, default=-1)


@dataclass(frozen=True)
class Window:
    """A closed window: `chosen` are its T frames (repeated when it holds fewer), `frames` how many it holds.

    `session` tells runs of a stream apart in which event time starts again. `skipped`: nobody shall look at it.
    `failed`: why nobody can, because the model breaks on it.
    """

    stream_id: str
    index: int
    start_us: int
    end_us: int
    frames: int
    chosen: tuple[BufferedFrame, ...]
    session: int = 0
    skipped: bool = False
    failed: str | None = None


def choose(times: list[int], start_us: int, config: WindowConfig) -> list[int]:
    """Positions of the T chosen frames among a window's frame times (ascending, in microseconds); [] without frames."""
    if not times:
        return []
    wanted, size = config.frames, config.size_us
    first = -(-start_us * wanted // size)  # number of the first grid point at or after the start
    points = [(first + number) * size // wanted for number in range(wanted)]
    following = [bisect.bisect_left(times, point) for point in points]
    step = size / wanted
    if times[0] - start_us > step or start_us + size - times[-1] > step:
        beside = {place for after in following for place in (after - 1, after)}
        candidates = sorted(beside & set(range(len(times))))
        return [candidates[(2 * number + 1) * len(candidates) // (2 * wanted)] for number in range(wanted)]
    chosen = []
    for point, after in zip(points, following, strict=True):
        before = max(after - 1, 0)
        after = min(after, len(times) - 1)
        chosen.append(before if point - times[before] <= times[after] - point else after)
    return chosen


@dataclass(frozen=True)
class Resume:
    """What it takes to go on with a session: its first window that was not given out, the log offset of the first frame
    that is still needed, and the newest time and highest number that were seen before that frame."""

    next_index: int | None
    offset: int
    newest_us: int
    highest: int


class StreamWindows:
    """The windows of one session of a stream. Give frames to `add`, take sealed windows from `ready` or `flush`.

    `next_index` is the first window not yet given out.
    """

    def __init__(self, stream_id: str, config: WindowConfig, session: int = 0, resume: Resume | None = None) -> None:
        self.stream_id = stream_id
        self.config = config
        self.session = session
        self.next_index = None if resume is None else resume.next_index
        self._next_sealed = self.next_index
        self._sealed: deque[int] = deque()
        self._frames: list[BufferedFrame] = []
        self._newest = -1 if resume is None else resume.newest_us
        self._highest = -1 if resume is None else resume.highest

    def add(self, frame: BufferedFrame) -> Verdict:
        """Put a frame into the buffer, or say why not.

        "late": the time of all windows that it belongs to has passed. "restart": it has, and the frame's number says
        that it was not delayed: it is the stream's first (0), or higher than any before although the time is not (the
        clock went back), or far behind.
        """
        first_open = max(self._passed() + 1, self._next_sealed or 0)
        if frame.pts_us // self.config.stride_us < first_open:
            back = frame.seq > self._highest and frame.pts_us < self._newest
            again = frame.seq == 0 or back or frame.seq < self._highest - MAX_REORDER
            return "restart" if again else "late"
        position = bisect.bisect_left(self._frames, frame)
        if position < len(self._frames) and self._frames[position] == frame:
            return "duplicate"
        frame.first_window = first_open
        frame.newest_before, frame.highest_before = self._newest, self._highest
        self._frames.insert(position, frame)
        for place in range(max(position - 1, 1), min(position + 2, len(self._frames) - 1)):
            self._let_go(place)
        # A newer frame with a lower number: the stream counts anew, and its clock ran on.
        self._highest = frame.seq if frame.pts_us > self._newest else max(self._highest, frame.seq)
        self._newest = max(self._newest, frame.pts_us)
        self._seal(self._passed())
        return "kept"

    def ready(self, limit: int | None = None) -> list[Window]:
        """Sealed windows, at most `limit`; the rest stays."""
        windows: list[Window] = []
        while self._sealed and (limit is None or len(windows) < limit):
            windows.append(self._window(self._sealed.popleft()))
            self.next_index = windows[-1].index + 1
            self._drop_before(self.next_index * self.config.stride_us)
        return windows

    def flush(self, limit: int | None = None) -> list[Window]:
        """All windows that hold a frame, because the stream is over; at most `limit`."""
        self.seal_all()
        return self.ready(limit)

    def seal_all(self) -> None:
        """Seal every window that holds a frame now, because the stream is idle or over."""
        if self._frames:
            self._seal(self._newest // self.config.stride_us)

    def waiting(self) -> int:
        """How many windows are sealed and not given out."""
        return len(self._sealed)

    def resume(self, handled: int) -> Resume:
        """Where to go on after everything that was given out is committed; `handled` is the next record of the log."""
        if not self._frames:
            return Resume(self.next_index, handled, self._newest, self._highest)
        first = min(self._frames, key=lambda frame: frame.offset)
        return Resume(self.next_index, first.offset, first.newest_before, first.highest_before)

    def held(self) -> tuple[int, int]:
        """How many frames are in the buffer, and how many bytes their payloads have."""
        payloads = {id(frame.payload): len(frame.payload.data) for frame in self._frames}
        return len(self._frames), sum(payloads.values())

    def __len__(self) -> int:
        return len(self._frames)

    def _passed(self) -> int:
        """The last window whose end the newest frame has passed by the allowed lateness: k * stride + size <= mark."""
        return (self._newest - self.config.lateness_us - self.config.size_us) // self.config.stride_us

    def _seal(self, last: int) -> None:
        """Seal windows up to `last`, as far as there are frames in or after them."""
        while True:
            start = 0 if self._next_sealed is None else self._next_sealed * self.config.stride_us
            position = bisect.bisect_left(self._frames, start, key=lambda frame: frame.pts_us)
            if position == len(self._frames):
                return
            oldest = self._frames[position]
            first = max(self._first_spanning(oldest.pts_us), oldest.first_window)
            # Until a window is sealed, frames that come out of order may still open earlier ones.
            index = first if self._next_sealed is None else self._next_sealed
            if index < first - self.config.max_gap_windows:
                index = first
            if index > last:
                return
            self._sealed.append(index)
            self._next_sealed = index + 1

    def _let_go(self, place: int) -> None:
        """Keep only the time and number of a frame that has neighbours, if no window can choose it."""
        before, frame, after = self._frames[place - 1 : place + 2]
        size, wanted = self.config.size_us, self.config.frames
        # Number of the first grid point after the one before it; points are rounded down to microseconds.
        point = -(-(before.pts_us + 1) * wanted // size)
        earliest = max(frame.first_window, self._first_spanning(frame.pts_us))
        if point * size // wanted > after.pts_us and max(before.first_window, after.first_window) <= earliest:
            frame.payload, frame.record = LET_GO, None

    def _first_spanning(self, pts_us: int) -> int:
        return -(-(pts_us - self.config.size_us + 1) // self.config.stride_us)

    def _window(self, index: int) -> Window:
        start = index * self.config.stride_us
        end = start + self.config.size_us
        low = bisect.bisect_left(self._frames, start, key=lambda frame: frame.pts_us)
        high = bisect.bisect_left(self._frames, end, key=lambda frame: frame.pts_us)
        inside = [frame for frame in self._frames[low:high] if frame.first_window <= index]
        indices = choose([frame.pts_us for frame in inside], start, self.config)
        chosen = tuple(inside[i] for i in indices)
        return Window(self.stream_id, index, start, end, len(inside), chosen, self.session)

    def _drop_before(self, start_us: int) -> None:
        keep = bisect.bisect_left(self._frames, start_us, key=lambda frame: frame.pts_us)
        del self._frames[:keep]
