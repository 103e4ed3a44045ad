"""What a request brings to be looked at: a video file, an address of one, or images; and the windows that they make.

Whatever comes from outside is decoded in a process of its own (`isolated`). What goes on to the model's replicas are
JPEGs that we encoded ourselves, and images that this process has decoded without coming to harm.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple
from urllib.parse import urlsplit

import httpx

from ray_fer.serving.catalogue import ServedModel
from ray_fer.serving.inference import Stages, always, infer_windows
from ray_fer.serving.isolated import IsolatedDecoder
from ray_fer.serving.options import UploadLimits
from ray_fer.streaming.messages import Prediction
from ray_fer.streaming.payload import IMAGE_TYPES, Payload, signature_error
from ray_fer.streaming.recorded_windows import count_windows, recorded_windows
from ray_fer.streaming.windows import BufferedFrame, StreamWindows, Window, WindowConfig
from ray_fer.video.limits import DecodeLimits, MediaError

_WINDOWS_AT_ONCE = 8
_CHUNK = 1024**2
_SILENCE_S, _FETCH_S = 10.0, 120.0
"""What another server may be silent for, and what it may take in all, from the first byte asked to the last given."""


class TooLargeError(ValueError):
    """More than a request may bring."""


class Broken(NamedTuple):
    """Something in a request that cannot be used, while the rest can."""

    item: str
    reason: str


class Image(NamedTuple):
    """One image of a request: its name, event time in microseconds, and bytes."""

    name: str
    pts_us: int
    data: bytes


def decode_limits(limits: UploadLimits) -> DecodeLimits:
    """What a file of a request may cost to decode."""
    return DecodeLimits(
        max_bytes=limits.max_bytes, max_seconds=limits.max_seconds, max_frames=limits.max_frames,
        max_decode_seconds=limits.max_decode_seconds,
    )  # fmt: skip


def kept(source: BinaryIO, stack: ExitStack) -> Path:
    """The content of a stream in a file of our own name, which says nothing about its format; gone with `stack`."""
    file = _file(stack)
    while chunk := source.read(_CHUNK):
        file.write(chunk)
    file.flush()
    return Path(file.name)


def fetched(url: str, hosts: Sequence[str], limits: UploadLimits, stack: ExitStack) -> Path:
    """The file at an address, of a listed host only; gone with `stack`. Redirections are not followed.

    Raises PermissionError for a host that is not listed, MediaError when there is no file, TooLargeError.
    """
    try:
        parts = urlsplit(url)
        named = parts.hostname or "" if parts.port is None else f"{parts.hostname}:{parts.port}"
    except ValueError as error:
        raise MediaError("url", f"no address of a file: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        raise MediaError("url", "give an http:// or https:// address without a user's name")
    if named not in hosts:
        raise PermissionError(f"videos are not fetched from {named}; the operator may add it with --allow-host {named}")
    file = _file(stack)
    try:
        asyncio.run(asyncio.wait_for(_fetch(url, named, limits.max_bytes, file), _FETCH_S))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise MediaError("url", f"{named} does not give the file: {error}") from None
    except TimeoutError:
        raise MediaError("url", f"{named} takes longer than {_FETCH_S:.0f} s to give the file; send it") from None
    file.flush()
    return Path(file.name)


async def _fetch(url: str, named: str, most: int, file: IO[bytes]) -> None:
    # As it lies there: a compressed answer may be a thousand times as large as what has come of it.
    asked = {"Accept-Encoding": "identity"}
    async with (
        httpx.AsyncClient(timeout=_SILENCE_S, follow_redirects=False, headers=asked) as client,
        client.stream("GET", url) as answer,
    ):
        if answer.status_code != 200:
            raise MediaError("url", f"{named} answers with status {answer.status_code}; give the file's own address")
        encoding = answer.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise MediaError("url", f"{named} gives the file in the encoding {encoding}; send it")
        async for chunk in answer.aiter_raw():
            file.write(chunk)
            if file.tell() > most:
                raise TooLargeError(f"the file has more than {most / 1e6:.0f} MB; send a shorter one")


def _file(stack: ExitStack) -> tempfile._TemporaryFileWrapper[bytes]:
    # No ending: it would say which demuxer to take.
    return stack.enter_context(tempfile.NamedTemporaryFile(prefix="ray-fer-upload-"))


@dataclass
class Upload:
    """Windows of what was sent. `broken` is known in full when the windows are."""

    windows: Iterator[Window]
    broken: list[Broken] = field(default_factory=list)


def video_upload(decoder: IsolatedDecoder, path: Path, stream_id: str, config: WindowConfig, most: int) -> Upload:
    """Of a video file, at most so many windows. Raises TooLargeError, and MediaError here or while they are read."""
    times = decoder.open_video(path)
    _check_windows(times, config, most)
    return Upload(recorded_windows(stream_id, times, decoder.pictures, config))


def image_upload(
    decoder: IsolatedDecoder, images: Sequence[Image], stream_id: str, config: WindowConfig, most: int
) -> Upload:
    """Of single images, each of which may be broken; at most so many windows. Raises MediaError when all are broken,
    TooLargeError."""
    _check_windows([image.pts_us for image in images], config, most)
    stream = StreamWindows(stream_id, config)
    broken = []
    for number, image in enumerate(sorted(images, key=lambda one: one.pts_us)):
        try:
            payload = checked(decoder, image.data)
        except MediaError as error:
            broken.append(Broken(image.name, error.reason))
            continue
        if stream.add(BufferedFrame(image.pts_us, number, payload)) != "kept":
            broken.append(Broken(image.name, "another image has the same time; give each its own in pts_us"))
    if len(broken) == len(images):
        raise MediaError(broken[0].item, broken[0].reason)
    return Upload(iter(stream.flush()), broken)


def _check_windows(times_us: Sequence[int], config: WindowConfig, most: int) -> None:
    """Frames may be few and their windows many, when these are long and close to each other. Raises TooLargeError."""
    windows = count_windows(times_us, config)
    if windows > most:
        raise TooLargeError(
            f"{windows} windows of {config.size:g} s, one every {config.stride:g} s; a request may ask for {most}: "
            "choose a longer stride, or send less"
        )


def checked(decoder: IsolatedDecoder, data: bytes) -> Payload:
    """An image that can be decoded. Raises MediaError."""
    payload = image_payload(data)
    decoder.check_image(data)
    return payload


def image_payload(data: bytes) -> Payload:
    """An image by its first bytes, which nobody has decoded. Raises MediaError."""
    for content_type in IMAGE_TYPES:
        if signature_error(content_type, data) is None:
            return Payload(content_type, data)
    raise MediaError("image", "neither a JPEG nor a PNG")


def answers(upload: Upload, stages: Stages, model: ServedModel) -> Iterator[Prediction]:
    """Predictions of the windows, some windows at a time. Raises MediaError, and what the stages raise."""
    while gathered := list(islice(upload.windows, _WINDOWS_AT_ONCE)):
        yield from infer_windows(stages, gathered, always(model)).predictions
