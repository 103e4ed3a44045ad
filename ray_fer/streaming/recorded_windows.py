"""The windows of a recorded video, of which only those frames are decoded that a window chooses."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from ray_fer.streaming.payload import Payload
from ray_fer.streaming.source import JPEG_QUALITY
from ray_fer.streaming.windows import LET_GO, BufferedFrame, StreamWindows, Window, WindowConfig
from ray_fer.video.decode import iter_frames, packet_index
from ray_fer.video.images import encode_jpeg
from ray_fer.video.limits import DEFAULT_LIMITS, DecodeLimits

Pictures = Callable[[Sequence[int]], Iterator[tuple[int, bytes]]]
"""(number, JPEG) of each of the asked frames of a video, whose numbers ascend."""


def recorded_windows(
    stream_id: str, times_us: Sequence[int], pictures: Pictures, config: WindowConfig
) -> Iterator[Window]:
    """The windows of frames at these event times, each as soon as its frames are there.

    They are those that a stream of all frames would give. Windows that overlap share their frames, on which face
    results are kept; a frame lives for as long as a window that is still to come needs it.
    """
    stream = StreamWindows(stream_id, config)
    found: deque[Window] = deque()
    for number, time_us in enumerate(times_us):
        stream.add(BufferedFrame(time_us, number, LET_GO))
        found.extend(stream.ready())
    found.extend(stream.flush())
    waiting = {frame.seq: frame for window in found for frame in window.chosen}
    given = pictures(sorted(waiting))
    while found:
        window = found.popleft()
        missing = {frame.seq for frame in window.chosen} & waiting.keys()
        while missing:
            number, jpeg = next(given)
            waiting.pop(number).payload = Payload("image/jpeg", jpeg)
            missing.discard(number)
        yield window


def count_windows(times_us: Iterable[int], config: WindowConfig) -> int:
    """How many windows a stream of frames at these event times has, without making them."""
    count = upcoming = 0
    for number, time_us in enumerate(sorted(times_us)):
        first = max(0, -(-(time_us - config.size_us + 1) // config.stride_us))
        begin = first if number == 0 or upcoming < first - config.max_gap_windows else upcoming
        end = time_us // config.stride_us + 1
        count += max(0, end - begin)
        upcoming = max(upcoming, end)
    return count


def video_windows(
    path: str | Path, stream_id: str, config: WindowConfig, limits: DecodeLimits = DEFAULT_LIMITS
) -> Iterator[Window]:
    """The windows of a video file. Raises MediaError on a broken one."""

    def pictures(wanted: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        for frame in iter_frames(path, limits, wanted):
            yield frame.index, encode_jpeg(frame.image, JPEG_QUALITY)

    yield from recorded_windows(stream_id, frame_times_us(path, limits), pictures, config)


def frame_times_us(path: str | Path, limits: DecodeLimits = DEFAULT_LIMITS) -> list[int]:
    """Event time of each frame of a video file, from 0. Raises MediaError."""
    index = packet_index(path, limits)
    return [index.microseconds(time) for time in index.times]
