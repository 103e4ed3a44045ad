"""In what form the frames of a stream are sent: a JPEG each, or small video files of some seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ray_fer.streaming.frame_message import FrameMessage
from ray_fer.streaming.source import JPEG_QUALITY, jpeg_messages
from ray_fer.video.decode import Frame
from ray_fer.video.segments import encode_segments


@dataclass(frozen=True)
class Encoding:
    """JPEGs of `quality`, or H.264 segments of `segment_seconds` (their quality is fixed)."""

    segment_seconds: float | None = None
    quality: int = JPEG_QUALITY

    def messages(self, stream_id: str, frames: Iterator[Frame]) -> Iterator[FrameMessage]:
        """Messages of a stream's frames, whose `index` is their number and `pts_us` their event time.

        The end of `frames` ends the last segment.
        """
        if self.segment_seconds is None:
            yield from jpeg_messages(stream_id, frames, self.quality)
            return
        for segment in encode_segments(frames, self.segment_seconds):
            yield FrameMessage(stream_id, segment.pts_us, segment.first, "video/mp4", segment.data)
