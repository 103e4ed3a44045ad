"""Open cameras and live addresses with PyAV: frames as they come, each with the source's own time.

What a server sends is not to be trusted: only formats that hold their frames themselves and live playlists over the
network are read, so that nothing it says makes FFmpeg open a local file; and nothing is waited for without an end.
"""

from __future__ import annotations

import functools
import re
import sys
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from ray_fer.video.container import FORMATS, check_pixels, reason
from ray_fer.video.limits import DEFAULT_LIMITS, MediaError
from ray_fer.video.pixels import to_rgb

LiveFrame = tuple[int | None, Callable[[], np.ndarray]]
"""Time in microseconds by the source's clock, where it has one, and what gives the picture, uint8 [H,W,3] RGB."""

SCHEMES = ("rtsp", "rtsps", "http", "https")
OPEN_S = 10.0
SILENCE_S = 10.0
"""A connection that gives nothing for so long is taken for dead."""

_CAMERA = re.compile(r"camera:(\d+)")
_DEVICES = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}"), "win32": ("dshow", "video={}")}
# RTSP over TCP: with UDP, every lost packet is a damaged picture, and few networks let it through.
_NETWORK = {
    "rtsp_transport": "tcp",
    "protocol_whitelist": "rtp,tcp,tls,udp,http,https,httpproxy,crypto",
    "format_whitelist": f"{FORMATS},rtsp,hls,mpjpeg",
}
_DAMAGED_IN_A_ROW = 100
_AFTER_NOTHING_S = 0.01


def is_live(source: str) -> bool:
    """Whether a SOURCE is a camera or an address. Raises ValueError for an address of a kind that is not read."""
    scheme, found, _ = source.partition("://")
    if found and scheme.lower() not in SCHEMES:
        raise ValueError(f"{scheme}:// is no source that is read; give {', '.join(f'{one}://' for one in SCHEMES)}")
    if source.startswith("camera:") and not _CAMERA.fullmatch(source):
        raise ValueError(f"{source!r} is no camera; give its number, as in camera:0")
    return bool(found) or source.startswith("camera:")


def live_name(source: str) -> str:
    """What a live source is called: `camera:0`, or host and path of its address, without user, password and query."""
    if source.startswith("camera:"):
        return source
    parts = urlsplit(source)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def live_frames(source: str) -> Iterator[LiveFrame]:
    """Frames of a camera or an address until it ends.

    Raises MediaError where it is no video that can be decoded, and av.error.FFmpegError where it cannot be reached, is
    lost, or is silent for `SILENCE_S`.
    """
    name = live_name(source)
    with _open(source) as container:
        stream = next(iter(container.streams.video), None)
        if stream is None or stream.codec_context is None:
            raise MediaError(name, "sends no video that can be decoded")
        check_pixels(name, stream.codec_context.width, stream.codec_context.height, DEFAULT_LIMITS)
        damaged = 0
        for packet in _packets(container, stream):
            try:
                frames = packet.decode()
                damaged = 0
            except av.error.InvalidDataError as error:
                # Where the connection began within a picture, or a part was lost: the next keyframe mends it.
                damaged += 1
                if damaged > _DAMAGED_IN_A_ROW:
                    raise MediaError(name, f"cannot be decoded: {reason(error)}") from error
                continue
            for frame in frames:
                if not frame.is_corrupt:
                    at = None if frame.pts is None else int(frame.pts * frame.time_base * 1_000_000)
                    yield at, functools.partial(to_rgb, frame, stream.sample_aspect_ratio, name, DEFAULT_LIMITS)


def _open(source: str) -> InputContainer:
    camera = _CAMERA.fullmatch(source)
    if camera is None:
        return av.open(source, options=_NETWORK, metadata_errors="replace", timeout=(OPEN_S, SILENCE_S))
    if sys.platform not in _DEVICES:
        raise MediaError(source, f"cameras are not read on {sys.platform}")
    device, file = _DEVICES[sys.platform]
    return av.open(file.format(camera[1]), format=device, timeout=(OPEN_S, SILENCE_S))


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
    while True:
        try:
            yield from container.demux(stream)
            return
        except av.error.BlockingIOError:  # some cameras answer so when there is no picture yet
            time.sleep(_AFTER_NOTHING_S)
