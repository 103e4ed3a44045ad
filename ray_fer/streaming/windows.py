"""Event-time windows over one stream of frames.

Window k covers ``[k * stride, k * stride + size)`` of `pts_us`. It closes when the stream's newest frame is
`allowed_lateness` past its end, or when the stream is flushed. T frames of it are then chosen uniformly; nothing else
of a window is ever decoded. A window without frames between windows with frames is a gap.

The T frames are those nearest to the points of one time grid for the whole stream, ``j * size / T``. Every window
holds exactly T of its points whatever the stride, and overlapping windows choose the same frames: with 5 s windows
every second, 3.2 frames of a second are decoded instead of 16. A window that its stream does not fill, at the
stream's start and end, spreads its choice over the frames that are there.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ray_fer.video.sampling import uniform_indices

Verdict = Literal["kept", "duplicate", "late"]


class WindowConfig(BaseModel):
    """Sizes in seconds of event time; `idle_timeout` in seconds of wall-clock time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: float = Field(5.0, gt=0, description="length of a window")
    stride: float = Field(1.0, gt=0, description="distance between the starts of two windows")
    frames: int = Field(16, ge=1, description="frames chosen in each window")
    allowed_lateness: float = Field(0.5, ge=0, description="how long a window waits for frames that come late")
    idle_timeout: float = Field(5.0, gt=0, description="a stream silent for so long has its windows closed")
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


@dataclass(order=True)
class BufferedFrame:
    """A frame waiting in a stream's buffer, ordered by time. `face` caches what the face stage said of it."""

    pts_us: int
    seq: int
    payload: bytes = field(compare=False)
    record: Any = field(compare=False, default=None)
    offset: int = field(compare=False, default=0)
    arrived_ms: int | None = field(compare=False, default=None)
    face: Any = field(compare=False, default=None)


@dataclass(frozen=True)
class Window:
    """A closed window: `chosen` are its T frames (repeated when it holds fewer), `frames` how many it holds."""

    stream_id: str
    index: int
    start_us: int
    end_us: int
    frames: int
    chosen: tuple[BufferedFrame, ...]


def choose(times: list[int], start_us: int, config: WindowConfig) -> list[int]:
    """Positions of the T chosen frames among a window's frame times (ascending, in microseconds); [] without frames."""
    if not times:
        return []
    wanted, size = config.frames, config.size_us
    step = size / wanted
    if times[0] - start_us > step or start_us + size - times[-1] > step:
        return uniform_indices(len(times), wanted).tolist()
    first = -(-start_us * wanted // size)  # number of the first grid point at or after the start
    points = [(first + number) * size // wanted for number in range(wanted)]
    chosen = []
    for point in points:
        after = bisect.bisect_left(times, point)
        before = max(after - 1, 0)
        after = min(after, len(times) - 1)
        chosen.append(before if point - times[before] <= times[after] - point else after)
    return chosen


class StreamWindows:
    """The windows of one stream. Give frames to `add`, take closed windows from `ready` or `flush`.

    `next_index` is the first window not yet given out; a frame all of whose windows are out is late.
    """

    def __init__(self, stream_id: str, config: WindowConfig, next_index: int | None = None) -> None:
        self.stream_id = stream_id
        self.config = config
        self.next_index = next_index
        self._frames: list[BufferedFrame] = []
        self._newest = -1

    def add(self, frame: BufferedFrame) -> Verdict:
        """Put a frame into the buffer, or say why not."""
        if self.next_index is not None and frame.pts_us // self.config.stride_us < self.next_index:
            return "late"
        position = bisect.bisect_left(self._frames, frame)
        if position < len(self._frames) and self._frames[position] == frame:
            return "duplicate"
        self._frames.insert(position, frame)
        self._newest = max(self._newest, frame.pts_us)
        return "kept"

    def ready(self, limit: int | None = None) -> list[Window]:
        """Windows whose end the newest frame has passed by the allowed lateness; at most `limit`, the rest stays."""
        watermark = self._newest - self.config.lateness_us
        # Window k is closed when k * stride + size <= watermark.
        return self._take((watermark - self.config.size_us) // self.config.stride_us, limit)

    def flush(self, limit: int | None = None) -> list[Window]:
        """All windows that hold a frame, closed now, because the stream is idle or over; at most `limit`."""
        return self._take(self._newest // self.config.stride_us if self._frames else -1, limit)

    def oldest_offset(self) -> int | None:
        """Smallest log offset that an open window still needs; None when nothing is buffered."""
        return min((frame.offset for frame in self._frames), default=None)

    def __len__(self) -> int:
        return len(self._frames)

    def _take(self, last: int, limit: int | None) -> list[Window]:
        windows: list[Window] = []
        while self._frames and (limit is None or len(windows) < limit):
            oldest = self._frames[0].pts_us
            first = max(0, -(-(oldest - self.config.size_us + 1) // self.config.stride_us))  # first that holds `oldest`
            # Until a window is given out, frames that come out of order may still open earlier ones.
            index = first if self.next_index is None else self.next_index
            if index < first - self.config.max_gap_windows:
                index = first
            if index > last:
                break
            windows.append(self._window(index))
            self.next_index = index + 1
            self._drop_before(self.next_index * self.config.stride_us)
        return windows

    def _window(self, index: int) -> Window:
        start = index * self.config.stride_us
        end = start + self.config.size_us
        low = bisect.bisect_left(self._frames, start, key=lambda frame: frame.pts_us)
        high = bisect.bisect_left(self._frames, end, key=lambda frame: frame.pts_us)
        inside = self._frames[low:high]
        indices = choose([frame.pts_us for frame in inside], start, self.config)
        return Window(self.stream_id, index, start, end, len(inside), tuple(inside[i] for i in indices))

    def _drop_before(self, start_us: int) -> None:
        keep = bisect.bisect_left(self._frames, start_us, key=lambda frame: frame.pts_us)
        del self._frames[:keep]
