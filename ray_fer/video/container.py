"""Open untrusted video files: regular files of known formats, judged by their headers before a frame is decoded."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import av
import av.error
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from ray_fer.video.limits import DecodeLimits, MediaError

# Formats that hold their frames themselves. Playlists and scripts (HLS, DASH, ffconcat, SDP, image sequences, lavfi)
# are left out: they make FFmpeg open other files and addresses that whoever wrote the file has chosen.
FORMATS = "mov,matroska,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,obu,ivf,flv,asf,ogg,gif,apng,mjpeg,dv,wav,mp3,aac,flac"
_FFMPEG_MAX_PIXELS = 2**31 - 1
_NO_PROTOCOL = "none"  # which no protocol is called
# Codecs whose decoder leaves out a frame that no other refers to, when told so.
_DROPS_UNREFERENCED = frozenset(("h264", "mpeg1video", "mpeg2video", "mpeg4"))


def check_file(name: str, max_bytes: int, limit: str) -> os.stat_result:
    """Status of a regular file of 1 to `max_bytes` bytes; `limit` names that limit. Raises MediaError.

    Pipes and devices are refused before they are opened, because opening or reading them may never return.
    """
    try:
        found = os.stat(name)
    except FileNotFoundError as error:
        raise MediaError(name, "no such file") from error
    except (OSError, ValueError) as error:
        raise MediaError(name, f"cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(found.st_mode):
        raise MediaError(name, "is a folder, not a file; a folder of images is media `frames`")
    if not stat.S_ISREG(found.st_mode):
        raise MediaError(name, "is no regular file but a device, pipe or socket")
    if found.st_size == 0:
        raise MediaError(name, "the file is empty (0 bytes)")
    if found.st_size > max_bytes:
        raise MediaError(name, f"{found.st_size} bytes exceed the limit of {max_bytes}; raise {limit}")
    return found


@contextmanager
def open_video(
    name: str, limits: DecodeLimits, threads: int = 1, data: bytes | None = None
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A container and its first video stream, ready to decode with `threads` threads. Raises MediaError.

    Refuses what the header already says is over a limit: resolution, frames, duration. With `data`, a whole file in
    memory, nothing is opened and `name` is for errors only.
    """
    if data is None:
        check_file(name, limits.max_bytes, "max_bytes")
    elif not 0 < len(data) <= limits.max_bytes:
        raise MediaError(name, f"{len(data)} bytes are not 1 to {limits.max_bytes}; raise max_bytes")
    # FFmpeg compares the coded picture, which is larger than the shown one by up to a block; `check_pixels` is exact.
    max_pixels = str(min(2 * limits.max_pixels + 4096, _FFMPEG_MAX_PIXELS))
    try:
        container = av.open(
            # A name never selects one of FFmpeg's other protocols.
            f"file:{os.path.abspath(name)}" if data is None else io.BytesIO(data),
            options={
                "format_whitelist": FORMATS,
                "protocol_whitelist": "file" if data is None else _NO_PROTOCOL,
                "max_pixels": max_pixels,
            },
            metadata_errors="replace",
            timeout=limits.max_decode_seconds,
        )
    except (av.error.FFmpegError, UnicodeError) as error:
        raise MediaError(name, f"not a readable video: {_open_reason(error)}") from error
    with container:
        stream = _video_stream(name, container)
        check_pixels(name, stream.codec_context.width, stream.codec_context.height, limits)
        check_length(name, stream.frames, header_seconds(container, stream) or 0.0, limits)
        if stream.duration is not None:
            for other in container.streams:
                if other.index != stream.index:
                    other.discard = Discard.all
        context = stream.codec_context
        context.options = {"max_pixels": max_pixels}
        context.thread_count = threads
        context.thread_type = "AUTO"
        yield container, stream


def read_packets(container: InputContainer, *streams: VideoStream) -> Iterator[Packet]:
    """Packets that hold data, of `streams` or of all, from where the container stands. Raises FFmpegError."""
    # At the end, PyAV looks for every stream, also for those that came up while reading, which it does not know.
    with suppress(IndexError):
        yield from (packet for packet in container.demux(*streams) if packet.size)


def header_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """Duration in seconds that the stream's header, else the file's, promises."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / 1e6


def drops_unreferenced(stream: VideoStream) -> bool:
    """Whether the stream's decoder leaves out just the frames that no other refers to, when told so."""
    codec, header = stream.codec_context.codec.canonical_name, stream.codec_context.extradata or b""
    # HEVC marks a frame that its own temporal layer does not refer to: the same thing where there is one layer only,
    # which `numTemporalLayers` of the decoder configuration record (ISO 14496-15, 8.3.3.1) tells.
    one_layer = len(header) > 21 and header[0] == 1 and header[21] >> 3 & 7 == 1
    return codec in _DROPS_UNREFERENCED or (codec == "hevc" and one_layer)


def check_pixels(name: str, width: int, height: int, limits: DecodeLimits) -> None:
    """Raise MediaError for a frame of more than `max_pixels`."""
    if width * height > limits.max_pixels:
        raise MediaError(name, f"{width}x{height} exceeds {limits.max_pixels} pixels; shrink it, or raise max_pixels")


def check_length(name: str, frames: int, seconds: float, limits: DecodeLimits) -> None:
    """Raise MediaError for a video of more than `max_frames` or `max_seconds`."""
    if frames > limits.max_frames:
        raise MediaError(name, f"more than {limits.max_frames} frames; cut it, or raise max_frames")
    if seconds > limits.max_seconds:
        raise MediaError(name, f"longer than {limits.max_seconds:g} s; cut it, or raise max_seconds")


def reason(error: Exception) -> str:
    """One line of what FFmpeg said."""
    return (getattr(error, "strerror", None) or str(error)).strip().split("\n")[0]


def _open_reason(error: Exception) -> str:
    if isinstance(error, av.error.ArgumentError) and "whitelist" in str(error):
        return "a playlist, an image or another format that is not read; convert it to MP4"
    if isinstance(error, av.error.EOFError):
        return "it ends within its header or has no frame; fetch the file again"
    if isinstance(error, av.error.ExitError):
        return "opening it took too long; re-encode it, or raise max_decode_seconds"
    return reason(error)


def _video_stream(name: str, container: InputContainer) -> VideoStream:
    # The cover picture of an audio file is a video stream too.
    streams = [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]
    if not streams:
        raise MediaError(name, "holds no video track")
    if streams[0].codec_context is None:
        raise MediaError(name, "its video codec is unknown; convert it to MP4 with H.264")
    return streams[0]
