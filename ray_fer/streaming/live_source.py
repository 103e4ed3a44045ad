"""Live sources: each is read by a thread of its own, reconnects for ever, and drops its oldest frames when it must.

A live picture cannot be asked for again and is worth less every second. So what the broker does not take in time is
dropped, the oldest first, and counted; `seq` shows receivers the gap.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator

import av.error

from ray_fer.streaming.encoding import Encoding
from ray_fer.streaming.live_input import SILENCE_S, LiveFrame, live_frames
from ray_fer.streaming.timetable import Outgoing
from ray_fer.video.container import reason
from ray_fer.video.decode import Frame
from ray_fer.video.limits import MediaError

LONGEST_DELAY_S = 30.0
WAITING_BYTES = 32 * 1024**2
_LARGEST_STEP_US = 10_000_000

# What waiting does not mend, when it is the first thing that is heard of a source.
_FINAL = (
    MediaError,
    av.error.ArgumentError,
    av.error.DecoderNotFoundError,
    av.error.DemuxerNotFoundError,
    av.error.FileNotFoundError,
    av.error.HTTPBadRequestError,
    av.error.HTTPForbiddenError,
    av.error.HTTPNotFoundError,
    av.error.HTTPUnauthorizedError,
    av.error.InvalidDataError,
    av.error.PermissionError,
    av.error.ProtocolNotFoundError,
)


class Arrivals:
    """What live sources have ready for the sender. Holds `max_bytes` of payloads; beyond, the oldest is dropped."""

    def __init__(self, max_bytes: int = WAITING_BYTES) -> None:
        self.dropped: Counter[str] = Counter()
        """Frames by stream id."""
        self._max_bytes = max_bytes
        self._bytes = 0
        self._waiting: deque[Outgoing] = deque()
        self._changed = threading.Condition()

    def put(self, arrived: Outgoing) -> None:
        """Add one, and drop what is too much; never waits."""
        with self._changed:
            self._waiting.append(arrived)
            self._bytes += len(arrived.message.payload)
            while self._bytes > self._max_bytes and len(self._waiting) > 1:
                oldest = self._pop()
                self.dropped[oldest.message.stream_id] += oldest.frames
            self._changed.notify()

    def take(self, timeout_s: float) -> Outgoing | None:
        """The oldest; None when nothing has come within `timeout_s` seconds."""
        with self._changed:
            if not self._waiting and timeout_s > 0:
                self._changed.wait(timeout_s)
            return self._pop() if self._waiting else None

    def _pop(self) -> Outgoing:
        oldest = self._waiting.popleft()
        self._bytes -= len(oldest.message.payload)
        return oldest


class EventTimes:
    """Event times of a live stream's frames, in microseconds, always rising.

    They follow the source's own clock, as frames come in bursts; where it jumps or stops, and while the source is away,
    they follow ours.
    """

    def __init__(self, start_us: int) -> None:
        self._event = start_us
        self._own: int | None = None
        self._arrived: int | None = None

    def of(self, own_us: int | None, arrived_us: int) -> int:
        """Event time of the next frame, from its time by the source's clock and by ours, which never goes back."""
        if self._arrived is not None:
            passed = max(1, arrived_us - self._arrived)
            step = passed
            if own_us is not None and self._own is not None and 0 < own_us - self._own <= passed + _LARGEST_STEP_US:
                step = own_us - self._own
            self._event += step
        self._own, self._arrived = own_us, arrived_us
        return self._event

    def disconnected(self) -> None:
        """The source's clock starts anew."""
        self._own = None


class LiveSource:
    """A camera or an address, and how its frames are sent: at most `fps` a second, from event time `start_us` on.

    With `start_us` None, the event time of the first frame is when it comes.
    """

    def __init__(
        self,
        source: str,
        stream_id: str,
        encoding: Encoding,
        fps: float | None = None,
        start_us: int | None = None,
        opened: Callable[[str], Iterator[LiveFrame]] = live_frames,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stream_id = stream_id
        self._source = source
        self._encoding = encoding
        self._apart_us = 0.0 if fps is None else 1e6 / fps
        self._start_us = start_us
        self._opened = opened
        self._clock = clock
        self._times: EventTimes | None = None
        self._next_us = 0.0
        self._seq = 0
        self._lost_at: float | None = None
        self._why_lost = ""

    def run(self, arrivals: Arrivals, report: Callable[[str], None], stop: threading.Event) -> None:
        """Put frames into `arrivals` until `stop` is set, and `report` each loss of the source, and its return.

        Raises MediaError when the first connection says that there is no live video.
        """
        delay = 1.0
        while not stop.is_set():
            began = self._clock()
            for message in self._encoding.messages(self.stream_id, self._frames(report, stop)):
                arrivals.put(Outgoing.of(message))
            if stop.is_set():
                return
            if self._clock() - began > LONGEST_DELAY_S:  # it held for a while: begin with short delays again
                delay = 1.0
            if self._lost_at is None:
                self._lost_at = self._clock()
                report(
                    f"{self.stream_id}: {self._why_lost}; trying again in {delay:g} s, "
                    f"then less and less often, at least every {LONGEST_DELAY_S:g} s"
                )
            stop.wait(delay)
            delay = min(2 * delay, LONGEST_DELAY_S)

    def _frames(self, report: Callable[[str], None], stop: threading.Event) -> Iterator[Frame]:
        """The frames that are to be sent of one connection. Its loss ends them, so that a segment is completed."""
        self._why_lost = "it has ended"
        try:
            for own_us, picture in self._opened(self._source):
                if stop.is_set():
                    return
                if self._lost_at is not None:
                    report(f"{self.stream_id}: back after {self._clock() - self._lost_at:.0f} s")
                    self._lost_at = None
                event = self._event_time(own_us)
                # Half a frame early is in time: a source of just the highest rate keeps all frames, though they jitter.
                if event >= self._next_us - self._apart_us / 2:
                    self._next_us = max(self._next_us + self._apart_us, event + self._apart_us / 2)
                    yield Frame(self._seq, event, picture())
                    self._seq += 1
        except (av.error.FFmpegError, MediaError) as error:
            self._why_lost = _why(error)
            if self._times is None and isinstance(error, _FINAL):
                raise MediaError(self.stream_id, self._why_lost) from error
        if self._times is not None:
            self._times.disconnected()

    def _event_time(self, own_us: int | None) -> int:
        if self._times is None:
            self._times = EventTimes(time.time_ns() // 1000 if self._start_us is None else self._start_us)
        return self._times.of(own_us, round(self._clock() * 1e6))


def _why(error: av.error.FFmpegError | MediaError) -> str:
    if isinstance(error, MediaError):
        return error.reason
    if isinstance(error, av.error.ExitError):
        return f"nothing came for {SILENCE_S:g} s"
    return reason(error)
