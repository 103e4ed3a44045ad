"""What the records of a stream carry: encoded pictures and video segments, or the addresses where they lie.

Pixels are made here and nowhere else, and only those that a window chose.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ray_fer.streaming.references import ReferencePolicy, fetch
from ray_fer.video.decode import iter_frames
from ray_fer.video.images import decode_image
from ray_fer.video.limits import DecodeLimits, MediaError

IMAGE_TYPES = ("image/jpeg", "image/png")
VIDEO_TYPES = ("video/mp4", "video/webm", "video/x-matroska")
SEGMENT_LIMITS = DecodeLimits(max_seconds=60.0, max_frames=3600, max_decode_seconds=60.0)
"""What one segment may cost. The size of the record, or of the referenced file, has a limit of its own."""

_EBML = b"\x1a\x45\xdf\xa3"
# Content type -> (place, signature).
_SIGNATURES = {
    "image/jpeg": (0, b"\xff\xd8\xff"),
    "image/png": (0, b"\x89PNG\r\n\x1a\n"),
    "video/mp4": (4, b"ftyp"),
    "video/webm": (0, _EBML),
    "video/x-matroska": (0, _EBML),
}


@dataclass(eq=False)
class Payload:
    """What a record carries, not yet decoded. The frames of a segment share one; requests are grouped by identity."""

    content_type: str
    """An image or video type, also for references."""
    data: bytes
    """The encoded picture or video; ``b""`` for a reference that has not been fetched."""
    uri: str | None = None
    """Where it lies instead."""
    error: str | None = None
    """Why a frame of it could not be given. Set by whoever reports that, so that it is reported once."""


@dataclass(frozen=True)
class PictureRequest:
    """Some frames of one payload, as the face stage is asked for them."""

    payload: Payload
    indices: tuple[int, ...]
    """Which frames, ascending; (0,) for an image."""


def chunks(requests: Sequence[PictureRequest], pictures: int) -> list[list[PictureRequest]]:
    """`requests` in their order, cut into lists of about `pictures` pictures. A request stays whole: a segment would
    be decoded once more for each of its parts."""
    cut: list[list[PictureRequest]] = []
    held = pictures
    for request in requests:
        if held >= pictures:
            cut.append([])
            held = 0
        cut[-1].append(request)
        held += len(request.indices)
    return cut


def signature_error(content_type: str, data: bytes) -> str | None:
    """Why `data` cannot be what its type says, from its first bytes; None when it may be."""
    place, signature = _SIGNATURES[content_type]
    if data[place : place + len(signature)] != signature:
        return f"the content is not {content_type}: wrong signature; correct the content type"
    return None


def decode(request: PictureRequest, policy: ReferencePolicy) -> Iterator[tuple[int, np.ndarray | MediaError]]:
    """(index, picture uint8 [H,W,3] RGB) for each index of `request`, once each, one in memory at a time.

    A reference is fetched first; a segment is decoded once, and only what its wanted frames need. Nothing is raised for
    a broken payload: each index that cannot be given has the error in the place of its picture. Raises StoreAwayError
    when the store of a reference does not answer.
    """
    missing = set(request.indices)
    name = request.payload.uri or request.payload.content_type
    error = MediaError(name, "the segment ends before this frame; send it again")
    try:
        for index, picture in _pictures(request, policy, name):
            missing.remove(index)
            yield index, picture
    except MediaError as broken:
        error = broken
    for index in sorted(missing):
        yield index, error


def _pictures(request: PictureRequest, policy: ReferencePolicy, name: str) -> Iterator[tuple[int, np.ndarray]]:
    payload = request.payload
    data = payload.data
    if payload.uri is not None and not data:
        data = fetch_payload(payload, policy)
    if payload.content_type in IMAGE_TYPES:
        yield 0, decode_image(data, name)
        return
    for frame in iter_frames(data, SEGMENT_LIMITS, request.indices, frame_by_frame=False):
        yield frame.index, frame.image


def fetch_payload(payload: Payload, policy: ReferencePolicy) -> bytes:
    """What lies at the payload's URI, if it may be what its type says. Raises MediaError."""
    assert payload.uri is not None
    data = fetch(payload.uri, policy)
    wrong = signature_error(payload.content_type, data)
    if wrong:
        raise MediaError(payload.uri, wrong)
    return data
