"""Video files as streams of messages: what producers send and what `predict` reads, from one piece of code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ray_fer.streaming.frame_message import FrameMessage
from ray_fer.streaming.messages import MAX_FRAME_BYTES
from ray_fer.streaming.payload import SEGMENT_LIMITS
from ray_fer.video.decode import Frame, iter_frames
from ray_fer.video.images import encode_jpeg
from ray_fer.video.limits import DEFAULT_LIMITS, DecodeLimits, MediaError
from ray_fer.video.segments import Segment, cut_video

JPEG_QUALITY = 92
LONGEST_SEGMENT_S = SEGMENT_LIMITS.max_seconds / 2
"""Longest that may be asked for: a segment may become twice as long, up to the next keyframe."""


def video_messages(path: str | Path, stream_id: str, limits: DecodeLimits = DEFAULT_LIMITS) -> Iterator[FrameMessage]:
    """Frames of a video as JPEG messages, event time counted from 0. Raises MediaError on a broken file."""
    return jpeg_messages(stream_id, iter_frames(path, limits))


def jpeg_messages(stream_id: str, frames: Iterable[Frame], quality: int = JPEG_QUALITY) -> Iterator[FrameMessage]:
    """Each frame as a JPEG; its `index` is the message's number and `pts_us` its event time."""
    for frame in frames:
        yield FrameMessage(stream_id, frame.pts_us, frame.index, "image/jpeg", encode_jpeg(frame.image, quality))


def segment_messages(
    path: str | Path, stream_id: str, seconds: float, limits: DecodeLimits = DEFAULT_LIMITS
) -> Iterator[FrameMessage]:
    """A video as MP4 messages of about `seconds` each (at most twice that), event time counted from 0.

    They hold what `video_messages` sends, at about a tenth of its bytes; `cut_video` says when pixels change. Raises
    MediaError on a broken file and for a segment that no receiver would take, ValueError for `seconds` that are not
    between 0 and 30.
    """
    if not 0 < seconds <= LONGEST_SEGMENT_S:
        raise ValueError(f"segments of {seconds:g} s: choose more than 0 and at most {LONGEST_SEGMENT_S:g} s")
    for segment in cut_video(path, seconds, limits):
        _check_size(str(path), segment)
        yield FrameMessage(stream_id, segment.pts_us, segment.first, "video/mp4", segment.data)


def _check_size(name: str, segment: Segment) -> None:
    for what, there, most in (
        ("bytes", len(segment.data), MAX_FRAME_BYTES),
        ("frames", segment.frames, SEGMENT_LIMITS.max_frames),
    ):
        if there > most:
            where = segment.pts_us / 1e6
            raise MediaError(
                name, f"its segment at {where:.1f} s has {there} {what}, more than {most}; choose shorter segments"
            )
