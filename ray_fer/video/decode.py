"""Decode untrusted videos and images with PyAV, under limits.

Everything that reads media goes through here, so that a hostile or broken file costs a bounded amount of
memory and time and always ends in one `MediaError` that names the file and the reason.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import av.error
import cv2
import numpy as np


class MediaError(ValueError):
    """A media file or image that cannot be used. `str()` is one line: name, then reason."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason

    def __reduce__(self) -> tuple[type[MediaError], tuple[str, str]]:
        return type(self), (self.name, self.reason)


@dataclass(frozen=True)
class DecodeLimits:
    """What a single file may cost. Exceeding any of them raises `MediaError`."""

    max_bytes: int = 2 * 1024**3
    max_seconds: float = 2 * 3600.0
    max_pixels: int = 4096 * 2304
    max_frames: int = 500_000
    max_image_bytes: int = 16 * 1024**2


DEFAULT_LIMITS = DecodeLimits()


@dataclass(frozen=True)
class Frame:
    """One decoded frame: position in the file, presentation time, pixels uint8 [H,W,3] in RGB order."""

    index: int
    pts_us: int
    image: np.ndarray


def iter_frames(
    path: str | Path, limits: DecodeLimits = DEFAULT_LIMITS, wanted: Sequence[int] | None = None
) -> Iterator[Frame]:
    """Yield frames in presentation order; with `wanted`, only those indices are converted to RGB.

    `pts_us` counts from the first frame. Raises MediaError for a file that is missing, not a video, over a
    limit, or that ends before the number of frames its header promises.
    """
    name = os.fspath(path)
    keep = None if wanted is None else set(wanted)
    last_wanted = None if keep is None else max(keep, default=-1)
    container = _open(name, limits)
    with container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        index = -1
        first_pts: int | None = None
        try:
            for index, frame in enumerate(container.decode(stream)):
                if index >= limits.max_frames:
                    raise MediaError(name, f"more than {limits.max_frames} frames; cut it, or raise max_frames")
                if frame.width * frame.height > limits.max_pixels:
                    raise MediaError(name, f"{frame.width}x{frame.height} exceeds {limits.max_pixels} pixels")
                pts = frame.pts if frame.pts is not None else 0
                first_pts = pts if first_pts is None else first_pts
                pts_us = round(float((pts - first_pts) * (frame.time_base or 0)) * 1e6)
                if pts_us > limits.max_seconds * 1e6:
                    raise MediaError(name, f"longer than {limits.max_seconds:g} s; cut it, or raise max_seconds")
                if keep is None or index in keep:
                    yield Frame(index, pts_us, frame.to_ndarray(format="rgb24"))
                if last_wanted is not None and index >= last_wanted:
                    return
        except av.error.FFmpegError as error:
            raise MediaError(name, f"damaged after frame {index + 1}: {_short(error)}") from error
        if index < 0:
            raise MediaError(name, "no frame could be decoded")
        if index + 1 < 0.95 * stream.frames:
            raise MediaError(name, f"truncated: {index + 1} of {stream.frames} frames are there; fetch the file again")


def count_frames(path: str | Path, limits: DecodeLimits = DEFAULT_LIMITS) -> int:
    """Number of frames that `iter_frames` would yield, counted from packets where the header does not say."""
    name = os.fspath(path)
    with _open(name, limits) as container:
        stream = container.streams.video[0]
        if stream.frames:
            return int(stream.frames)
        try:
            return sum(1 for packet in container.demux(stream) if packet.size)
        except av.error.FFmpegError as error:
            raise MediaError(name, f"damaged: {_short(error)}") from error


def video_size(path: str | Path, limits: DecodeLimits = DEFAULT_LIMITS) -> tuple[int, int]:
    """(width, height) of a video's frames in pixels, from its header."""
    with _open(os.fspath(path), limits) as container:
        context = container.streams.video[0].codec_context
        return int(context.width), int(context.height)


def decode_image(data: bytes, name: str = "image", limits: DecodeLimits = DEFAULT_LIMITS) -> np.ndarray:
    """Decode one JPEG or PNG into uint8 [H,W,3] RGB; raises MediaError when it is broken or too large."""
    if len(data) > limits.max_image_bytes:
        raise MediaError(name, f"{len(data)} bytes exceed the image limit of {limits.max_image_bytes}")
    width, height = image_size(data, name)
    if width * height > limits.max_pixels:
        raise MediaError(name, f"{width}x{height} exceeds {limits.max_pixels} pixels")
    if data[:2] == b"\xff\xd8" and b"\xff\xd9" not in data[-64:]:
        raise MediaError(name, "truncated JPEG: the end-of-image marker is missing")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise MediaError(name, "the image data is damaged")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def image_size(data: bytes, name: str = "image") -> tuple[int, int]:
    """(width, height) from the header of a JPEG or PNG, before any pixel is decoded (decompression bombs)."""
    try:
        with av.open(io.BytesIO(data), format="jpeg_pipe" if data[:2] == b"\xff\xd8" else "png_pipe") as container:
            context = container.streams.video[0].codec_context
            if context.width and context.height:
                return int(context.width), int(context.height)
    except (av.error.FFmpegError, IndexError):
        pass
    raise MediaError(name, "not a JPEG or PNG image")


def encode_jpeg(image: np.ndarray, quality: int = 95) -> bytes:
    """Encode uint8 [H,W,3] RGB as JPEG."""
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise ValueError(f"cannot encode an image of shape {image.shape} as JPEG")
    return data.tobytes()


def _open(name: str, limits: DecodeLimits) -> av.container.InputContainer:
    if not os.path.isfile(name):
        raise MediaError(name, "no such file")
    size = os.path.getsize(name)
    if size == 0:
        raise MediaError(name, "the file is empty (0 bytes)")
    if size > limits.max_bytes:
        raise MediaError(name, f"{size} bytes exceed the limit of {limits.max_bytes}; raise max_bytes")
    try:
        container = av.open(name, mode="r")
    except av.error.FFmpegError as error:
        raise MediaError(name, f"not a readable video: {_short(error)}") from error
    if not container.streams.video:
        container.close()
        raise MediaError(name, "holds no video track")
    return container


def _short(error: av.error.FFmpegError) -> str:
    return (error.strerror or str(error)).strip()
