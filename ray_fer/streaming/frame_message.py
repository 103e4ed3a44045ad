"""What the stream gets: records with one frame, one video segment, or the address of either.

Key = stream id. Headers:

* ``stream-id``;
* ``pts-us``: event time of the first frame in microseconds; frame i of a segment is as much later as it is shown later;
* ``seq``: number of the first frame in its stream; frame i of a segment has ``seq`` + i;
* ``content-type``: ``image/jpeg`` or ``image/png`` for one frame; ``video/mp4``, ``video/webm`` or ``video/x-matroska``
  for a segment, which is a complete small video file; ``text/uri-list`` (RFC 2483) for one URI where either lies;
* ``payload-type``, of a ``text/uri-list`` only: the content type of what lies there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from ray_fer.streaming.messages import MAX_FRAME_BYTES, Headers
from ray_fer.streaming.payload import (
    IMAGE_TYPES,
    SEGMENT_LIMITS,
    VIDEO_TYPES,
    Payload,
    fetch_payload,
    signature_error,
)
from ray_fer.streaming.references import ReferencePolicy, locate, uri_error
from ray_fer.video.decode import packet_index
from ray_fer.video.limits import DecodeLimits, MediaError

REFERENCE_TYPE = "text/uri-list"
CONTENT_TYPES = (*IMAGE_TYPES, *VIDEO_TYPES, REFERENCE_TYPE)
MAX_STREAM_ID = 200
MAX_PTS_US = 2**53  # readable by JavaScript; the year 2255 in microseconds


class MessageError(ValueError):
    """A record that is not a valid frame message; `str()` is the reason given to the dead-letter topic."""


@dataclass(frozen=True)
class FrameMessage:
    """One record of one stream; the module's docstring says what its fields mean. `payload` is the record's value."""

    stream_id: str
    pts_us: int
    seq: int
    content_type: str
    payload: bytes
    payload_type: str | None = None

    def key(self) -> bytes:
        return self.stream_id.encode()

    def headers(self) -> Headers:
        headers = [
            ("stream-id", self.stream_id.encode()),
            ("pts-us", str(self.pts_us).encode()),
            ("seq", str(self.seq).encode()),
            ("content-type", self.content_type.encode()),
        ]
        if self.payload_type is not None:
            headers.append(("payload-type", self.payload_type.encode()))
        return headers

    def source(self) -> Payload:
        """What the record carries; the same object at every call, as requests for its frames are grouped by it."""
        return self._source

    def frames(
        self, limits: DecodeLimits = SEGMENT_LIMITS, policy: ReferencePolicy | None = None
    ) -> list[tuple[int, int, int]]:
        """(event time in microseconds, number in the stream, index in the payload) of each frame, in that order.

        The packets of a segment tell its times; it is decoded only where they do not (VP8). A segment by reference is
        fetched for them and stays in `source()`. Raises MessageError when the segment is broken or over a limit, or
        when the policy (by default: none) forbids the reference, and StoreAwayError when its store does not answer.
        """
        source, policy = self._source, policy or ReferencePolicy()
        try:
            if source.uri is not None:
                locate(source.uri, policy)
            if source.content_type in IMAGE_TYPES:
                return [(self.pts_us, self.seq, 0)]
            if source.uri is not None:
                source.data = fetch_payload(source, policy)
            index = packet_index(source.data, limits)
        except MediaError as error:
            raise MessageError(error.reason) from error
        times = [index.microseconds(time) for time in index.times]
        return [(self.pts_us + time, self.seq + number, number) for number, time in enumerate(times)]

    @cached_property
    def _source(self) -> Payload:
        if self.payload_type is None:
            return Payload(self.content_type, self.payload)
        return Payload(self.payload_type, b"", _uri(self.payload))


def parse_frame(value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> FrameMessage:
    """Check a Kafka record and read it as a message; raises MessageError with the reason.

    Only what is cheap is checked here (headers, size, signature, a JPEG's end marker, a reference's form): `frames`
    looks into a segment, and pixels are decoded later, only for frames that a window chose.
    """
    fields: dict[str, bytes] = {name: content for name, content in headers if content is not None}
    content_type = _choice(fields, "content-type", CONTENT_TYPES)
    payload_type = _choice(fields, "payload-type", CONTENT_TYPES[:-1]) if content_type == REFERENCE_TYPE else None
    stream_id = _text(fields, "stream-id")
    if not 0 < len(stream_id) <= MAX_STREAM_ID:
        raise MessageError(f"stream-id must have 1 to {MAX_STREAM_ID} characters, got {len(stream_id)}")
    if not value:
        raise MessageError("the value is empty")
    if len(value) > MAX_FRAME_BYTES:
        raise MessageError(f"{len(value)} bytes exceed the limit of {MAX_FRAME_BYTES}")
    if payload_type is not None:
        _uri(value)
    elif wrong := signature_error(content_type, value):
        raise MessageError(wrong)
    if content_type == "image/jpeg" and b"\xff\xd9" not in value[-64:]:
        raise MessageError("truncated JPEG: the end-of-image marker is missing")
    pts_us, seq = _number(fields, "pts-us"), _number(fields, "seq")
    return FrameMessage(stream_id, pts_us, seq, content_type, value, payload_type)


def _uri(value: bytes) -> str:
    """The one URI of a ``text/uri-list``; lines that start with # are comments."""
    try:
        lines = value.decode().splitlines()
    except UnicodeDecodeError:
        raise MessageError("the list of URIs is not UTF-8") from None
    uris = [line for line in lines if line and not line.startswith("#")]
    if len(uris) != 1:
        raise MessageError(f"the list must hold one URI, got {len(uris)}")
    if wrong := uri_error(uris[0]):
        raise MessageError(wrong)
    return uris[0]


def _choice(fields: dict[str, bytes], name: str, choices: tuple[str, ...]) -> str:
    text = _text(fields, name)
    if text not in choices:
        raise MessageError(f"{name} {text[:40]!r} is not supported; send one of {', '.join(choices)}")
    return text


def _text(fields: dict[str, bytes], name: str) -> str:
    if name not in fields:
        raise MessageError(f"header {name!r} is missing")
    try:
        return fields[name].decode()
    except UnicodeDecodeError:
        raise MessageError(f"header {name!r} is not UTF-8") from None


def _number(fields: dict[str, bytes], name: str) -> int:
    text = _text(fields, name)
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= MAX_PTS_US):
        raise MessageError(f"header {name!r} must be a whole number from 0 to {MAX_PTS_US}, got {text[:40]!r}")
    return int(text)
