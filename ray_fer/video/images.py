"""Decode and encode single images. Everything is checked in the header before a pixel is decoded."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

import cv2
import numpy as np

from ray_fer.video.container import check_pixels
from ray_fer.video.limits import DEFAULT_LIMITS, DecodeLimits, MediaError

_PNG = b"\x89PNG\r\n\x1a\n"
# Start-of-frame markers of every JPEG kind; C4, C8 and CC mean something else.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_STANDALONE = frozenset((0x01, *range(0xD0, 0xD9)))
_JPEG_END, _JPEG_SCAN = 0xD9, 0xDA
# What ends the entropy-coded data of a scan: a marker that is neither a stuffed 00, a restart nor a fill byte.
_JPEG_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
# A progressive JPEG has about ten scans. Each costs a pass over the whole picture, and an empty one takes a few bytes.
_MAX_SCANS = 100


def decode_image(data: bytes, name: str = "image", limits: DecodeLimits = DEFAULT_LIMITS) -> np.ndarray:
    """Decode one JPEG or PNG into uint8 [H,W,3] RGB; raises MediaError when it is broken or too large.

    The EXIF orientation is applied. 16-bit samples keep their upper 8 bits, grey is repeated over the channels, alpha
    is dropped, as for video.
    """
    if len(data) > limits.max_image_bytes:
        raise MediaError(name, f"{len(data)} bytes exceed the image limit of {limits.max_image_bytes}")
    check_pixels(name, *image_size(data, name), limits)
    if data[:2] == b"\xff\xd8":
        markers = [marker for marker, _ in _jpeg_segments(data)]
        if markers.count(_JPEG_SCAN) > _MAX_SCANS:
            raise MediaError(name, f"a JPEG of more than {_MAX_SCANS} scans, made to take hours; leave it out")
        if markers[-1:] != [_JPEG_END]:
            raise MediaError(name, "truncated JPEG: the end-of-image marker is missing; fetch the file again")
    elif b"IEND" not in data:
        raise MediaError(name, "truncated PNG: its end is missing; fetch the file again")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        image = None
    if image is None:
        raise MediaError(name, "the image data is damaged; fetch the file again")
    return image


def image_size(data: bytes, name: str = "image") -> tuple[int, int]:
    """(width, height) as stored, from the header of a JPEG or PNG. Raises MediaError for anything else."""
    size = None
    if data[:8] == _PNG and data[12:16] == b"IHDR" and len(data) >= 24:
        size = struct.unpack(">II", data[16:24])
    elif data[:2] == b"\xff\xd8":
        size = _jpeg_size(data)
    if size is None or 0 in size:
        raise MediaError(name, "not a JPEG or PNG image")
    return size[0], size[1]


def encode_jpeg(image: np.ndarray, quality: int = 95) -> bytes:
    """Encode uint8 [H,W,3] RGB as JPEG."""
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise ValueError(f"cannot encode an image of shape {image.shape} as JPEG")
    return data.tobytes()


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    for marker, place in _jpeg_segments(data):
        if marker in _JPEG_FRAMES and place + 9 <= len(data):
            height, width = struct.unpack(">HH", data[place + 5 : place + 9])
            return width, height
    return None


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """(marker, place) of each segment up to the end of the image, over thumbnails within and whatever is appended."""
    place = 2
    while place + 2 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        yield marker, place
        if marker == _JPEG_END:
            return
        place += 2 if marker in _JPEG_STANDALONE else 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == _JPEG_SCAN:
            after = _JPEG_AFTER_SCAN.search(data, place)
            place = after.start() if after else len(data)
