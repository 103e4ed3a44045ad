"""Decode and encode single images. Everything is checked in the header before a pixel is decoded."""

from __future__ import annotations

import struct

import cv2
import numpy as np

from ray_fer.video.container import check_pixels
from ray_fer.video.limits import DEFAULT_LIMITS, DecodeLimits, MediaError

_PNG = b"\x89PNG\r\n\x1a\n"
# Start-of-frame markers of every JPEG kind; C4, C8 and CC mean something else.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_STANDALONE = frozenset((0x01, *range(0xD0, 0xD9)))
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
        # Phones append data of their own after the end, and a thumbnail before the last scan has an end of its own.
        if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
            raise MediaError(name, "truncated JPEG: the end-of-image marker is missing; fetch the file again")
        if data.count(b"\xff\xda") > _MAX_SCANS:
            raise MediaError(name, f"a JPEG of more than {_MAX_SCANS} scans, made to take hours; leave it out")
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
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
        elif marker in _JPEG_FRAMES:
            height, width = struct.unpack(">HH", data[place + 5 : place + 9])
            return width, height
        elif marker in _JPEG_STANDALONE:
            place += 2
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None
