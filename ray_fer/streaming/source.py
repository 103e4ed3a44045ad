"""Video files as streams of frame messages: what producers send and what `predict` reads, from one piece of code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ray_fer.streaming.messages import FrameMessage
from ray_fer.video.decode import iter_frames
from ray_fer.video.images import encode_jpeg
from ray_fer.video.limits import DEFAULT_LIMITS, DecodeLimits

JPEG_QUALITY = 92


def video_messages(
    path: str | Path, stream_id: str, start_us: int = 0, limits: DecodeLimits = DEFAULT_LIMITS
) -> Iterator[FrameMessage]:
    """Frames of a video as JPEG messages, event time counted from `start_us`. Raises MediaError on a broken file."""
    for frame in iter_frames(path, limits):
        yield FrameMessage(
            stream_id, start_us + frame.pts_us, frame.index, "image/jpeg", encode_jpeg(frame.image, JPEG_QUALITY)
        )
