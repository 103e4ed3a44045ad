"""Media made to break who decodes them: bombs, tables that lie, references to elsewhere, in many containers.

`recipes` has them by name. Each takes random numbers and an address, or a path, that nobody may open.
"""

from __future__ import annotations

import random
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from tests.encoded_video import picture, write_video

Make = Callable[[random.Random, str], bytes]

_EXTREMES = (0, 1, 0x7F, 0xFFFF, 0x10000, 0x00FFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF)
_CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"mvex", b"moof", b"traf")
_TABLES = (b"stts", b"stsz", b"stco", b"stsc", b"stss", b"ctts", b"elst", b"trun")


def recipes() -> dict[str, tuple[str, Make]]:
    """What is wrong -> (form field that it goes to, what makes it)."""
    found: dict[str, tuple[str, Make]] = {}
    for damage in (_fields_lied, _bytes_flipped, _blocks_moved, _cut):
        for field, files in (("video", _videos), ("images", _images)):
            found[f"{field}: {damage.__name__.strip('_')}"] = (field, _damaged(damage, files))
    makes = {"video": _VIDEO_RECIPES, "images": _IMAGE_RECIPES}
    return found | {make.__name__.strip("_"): (field, make) for field in makes for make in makes[field]}


@cache
def _videos() -> dict[str, bytes]:
    keyed = {"x264-params": "keyint=12"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written = [
            write_video(folder / "front.mp4", options=keyed, container={"movflags": "faststart"}),
            write_video(folder / "end.mp4", options=keyed),
            write_video(folder / "parts.mp4", options=keyed, container={"movflags": "frag_keyframe+empty_moov"}),
            write_video(folder / "hevc.mp4", "libx265", frames=30, options={"x265-params": "log-level=none"}),
            write_video(folder / "h264.mkv", options=keyed),
            write_video(folder / "h264.ts", options=keyed),
            write_video(folder / "h264.flv", options=keyed),
            write_video(folder / "plain.h264", options=keyed),
            write_video(folder / "vp8.webm", "libvpx", frames=20),
            write_video(folder / "vp9.webm", "libvpx-vp9", frames=20),
            write_video(folder / "mpeg4.avi", "mpeg4"),
            write_video(folder / "mpeg2.mpg", "mpeg2video"),
            write_video(folder / "mjpeg.mov", "mjpeg", frames=20, pixels="yuvj420p"),
            write_video(folder / "animated.gif", "gif", frames=10, pixels="rgb8"),
        ]
        return {path.name: path.read_bytes() for path in written}


@cache
def _images() -> dict[str, bytes]:
    image = picture(0)
    made = {
        "plain.jpg": (image, []),
        "progressive.jpg": (image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        "restarts.jpg": (image, [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]),
        "plain.png": (image, []),
        "deep.png": (image.astype(np.uint16) << 8, []),
        "clear.png": (cv2.cvtColor(image, cv2.COLOR_RGB2RGBA), []),
    }
    return {name: cv2.imencode(name[-4:], pixels, options)[1].tobytes() for name, (pixels, options) in made.items()}


def _any(chance: random.Random, files: dict[str, bytes], *endings: str) -> bytes:
    return files[chance.choice([name for name in files if not endings or name.endswith(endings)])]


def _put(data: bytes, place: int, content: bytes) -> bytes:
    return data[:place] + content + data[place + len(content) :]


def _damaged(damage: Callable[[bytes, random.Random], bytes], files: Callable[[], dict[str, bytes]]) -> Make:
    return lambda chance, _: damage(_any(chance, files()), chance)


def _fields_lied(data: bytes, chance: random.Random) -> bytes:
    """Extreme numbers, of either byte order, in the place of fields of the header or of anything else."""
    for _ in range(chance.choice([1, 2, 8])):
        size = chance.choice([2, 4, 4, 8])
        number = chance.choice(_EXTREMES) * (chance.choice([1, 2**32]) if size == 8 else 1) % 2 ** (8 * size)
        place = chance.choice([chance.randrange(min(len(data), 2000)), chance.randrange(len(data))])
        data = _put(data, place, number.to_bytes(size, chance.choice(["big", "little"])))[: len(data)]
    return data


def _bytes_flipped(data: bytes, chance: random.Random) -> bytes:
    changed, end = bytearray(data), chance.choice([len(data), min(len(data), 1500)])
    for _ in range(chance.choice([1, 5, 50, 1 + end // 20])):
        changed[chance.randrange(end)] ^= chance.randrange(1, 256)
    return bytes(changed)


def _blocks_moved(data: bytes, chance: random.Random) -> bytes:
    size = chance.choice([16, 188, 512])
    blocks = [data[place : place + size] for place in range(0, len(data), size)]
    for _ in range(chance.choice([1, 4, 16])):
        blocks.insert(chance.randrange(len(blocks)), chance.choice([*chance.choices(blocks, k=2), bytes(size)]))
        del blocks[chance.randrange(len(blocks))]
    return b"".join(blocks)


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.choice([chance.randrange(64), chance.randrange(len(data)), len(data) - chance.randrange(64)])]


# MP4 (ISO 14496-12): boxes of a size, a type and a content.


class _Box(NamedTuple):
    place: int
    kind: bytes
    size: int


def _boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[_Box]:
    while start + 8 <= (len(data) if end is None else end):
        size, kind = struct.unpack(">I4s", data[start : start + 8])
        yield _Box(start, kind, size)
        if kind in _CONTAINERS:
            yield from _boxes(data, start + 8, start + size)
        start += size


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def _mp4_box_of_a_lying_size(chance: random.Random, _: str) -> bytes:
    data = _any(chance, _videos(), ".mp4")
    box = chance.choice(list(_boxes(data)))
    if chance.random() < 0.4:
        size = chance.choice([0, 8, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1])
        return data[: box.place] + struct.pack(">I4sQ", 1, box.kind, size) + data[box.place + 8 :]
    lies = (0, 1, 2, 7, box.size - 1, box.size + 1, 2 * box.size, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
    return _put(data, box.place, struct.pack(">I", chance.choice(lies)))


def _mp4_table_that_lies(chance: random.Random, _: str) -> bytes:
    data = _any(chance, _videos(), ".mp4")
    box = chance.choice([box for box in _boxes(data) if box.kind in _TABLES])
    if box.size > 24 and chance.random() < 0.3:
        return _put(data, box.place + chance.randrange(16, box.size, 4), struct.pack(">I", chance.choice(_EXTREMES)))
    place = box.place + (16 if box.kind == b"stsz" else 12)
    data = _put(data, place, struct.pack(">I", chance.choice([100_000, *_EXTREMES[4:]])))
    if box.kind == b"stsz" and chance.random() < 0.7:  # all samples of one size: the table takes no room at all
        data = _put(data, box.place + 12, struct.pack(">I", chance.choice([1, 8, 0x7FFFFFFF])))
    return data


def _mp4_of_a_thousand_tracks(chance: random.Random, _: str) -> bytes:
    data = _videos()["end.mp4"]
    moov = next(box for box in _boxes(data) if box.kind == b"moov")
    track = next(box for box in _boxes(data) if box.kind == b"trak")
    content = data[track.place : track.place + track.size] * chance.choice([100, 1500])
    return data[: moov.place] + _box(b"moov", data[moov.place + 8 : track.place] + content)


def _mp4_of_deep_boxes(chance: random.Random, _: str) -> bytes:
    depth, kind = chance.choice([100, 5000, 60_000]), chance.choice(_CONTAINERS)
    sizes = (struct.pack(">I", 8 * (depth - level)) + kind for level in range(depth))
    return _box(b"ftyp", b"isom\0\0\0\0isom") + b"".join(sizes)


def _mp4_of_a_packed_header(chance: random.Random, _: str) -> bytes:
    """QuickTime's compressed moov, which promises gigabytes."""
    packed = struct.pack(">I", chance.choice([2**31 - 1, 2**32 - 1, 200 * 1024**2])) + _zeros(50)
    moov = _box(b"moov", _box(b"cmov", _box(b"dcom", b"zlib") + _box(b"cmvd", packed)))
    return _box(b"ftyp", b"qt  \0\0\0\0qt  ") + moov


def _mp4_whose_samples_lie_elsewhere(chance: random.Random, bait: str) -> bytes:
    """The data reference of its track names another file."""
    data, address = _videos()["end.mp4"], bait.encode()
    moov = next(box for box in _boxes(data) if box.kind == b"moov")
    path = address.removeprefix(b"file://")
    alias = bytes(146) + struct.pack(">hH", 2, len(path)) + path + bytes(len(path) % 2) + struct.pack(">hH", -1, 0)
    entry = chance.choice([_box(b"url ", bytes(4) + address + b"\0"), _box(b"alis", bytes(4) + alias)])
    header = data[moov.place : moov.place + moov.size]
    boxes, place = list(_boxes(header)), header.index(b"dref") - 4
    (old,) = struct.unpack(">I", header[place : place + 4])
    new = _box(b"dref", struct.pack(">II", 0, 1) + entry)
    for box in boxes:  # whatever holds it grows with it
        if box.place < place < box.place + box.size:
            header = _put(header, box.place, struct.pack(">I", box.size + len(new) - old))
    return data[: moov.place] + header[:place] + new + header[place + old :]


def _mp4_that_refers_to_another_movie(chance: random.Random, bait: str) -> bytes:
    address = bait.encode() + b"\0"
    reference = _box(b"rdrf", bytes(4) + b"url " + struct.pack(">I", len(address)) + address)
    return _box(b"ftyp", b"qt  \0\0\0\0qt  ") + _box(b"moov", _box(b"rmra", _box(b"rmda", reference)))


# Matroska (RFC 8794): elements of a name, a length and a content.


def _element(name: bytes, content: bytes) -> bytes:
    return name + struct.pack(">Q", len(content) | 1 << 56) + content


_EBML = _element(b"\x1a\x45\xdf\xa3", _element(b"\x42\x82", b"matroska"))
_SEGMENT, _INFO, _TRACKS, _CLUSTER = b"\x18\x53\x80\x67", b"\x15\x49\xa9\x66", b"\x16\x54\xae\x6b", b"\x1f\x43\xb6\x75"
_LENGTHS = (b"\xff", b"\x01" + b"\xff" * 7, b"\x01" + b"\xff" * 6 + b"\xfe", b"\x00", b"\x08" + b"\xff" * 4)


def _matroska_element_of_a_huge_length(chance: random.Random, _: str) -> bytes:
    data = _any(chance, _videos(), ".mkv", ".webm")
    name = chance.choice([_SEGMENT, _INFO, _TRACKS, _CLUSTER, b"\xae", b"\xe0", b"\xa3"])
    after = data.index(name, data.index(_SEGMENT)) + len(name)
    return data[:after] + chance.choice(_LENGTHS) + data[after + chance.choice([0, 1, 8]) :]


def _matroska_of_deep_elements(chance: random.Random, _: str) -> bytes:
    tags = _element(b"\x73\x73", b"")
    for _level in range(chance.choice([50, 2000])):
        tags = _element(b"\x67\xc8", tags)  # SimpleTag in SimpleTag
    return _EBML + _element(_SEGMENT, _element(b"\x12\x54\xc3\x67", tags))


def _matroska_of_packed_frames(chance: random.Random, _: str) -> bytes:
    """Each of its frames is many megabytes of zeros, deflated."""
    packed = _element(b"\x50\x34", _element(b"\x42\x54", b"\0"))
    encodings = _element(b"\x6d\x80", _element(b"\x62\x40", packed))
    size = _element(b"\xe0", b"\xb0\x82\x07\x80\xba\x82\x04\x38")
    numbers = b"\xd7\x81\x01\x73\xc5\x81\x01\x83\x81\x01"  # track 1, a video
    track = _element(b"\xae", numbers + _element(b"\x86", b"V_MJPEG") + size + encodings)
    frame = _zeros(chance.choice([9, 30]))
    blocks = [_element(b"\xa3", b"\x81" + struct.pack(">hB", number, 0x80) + frame) for number in range(40)]
    cluster = _element(_CLUSTER, b"\xe7\x81\x00" + b"".join(blocks))
    return _EBML + _element(_SEGMENT, _element(_TRACKS, track) + cluster)


_VIDEO_RECIPES: tuple[Make, ...] = (
    _mp4_box_of_a_lying_size, _mp4_table_that_lies, _mp4_of_a_thousand_tracks, _mp4_of_deep_boxes,
    _mp4_of_a_packed_header, _mp4_whose_samples_lie_elsewhere, _mp4_that_refers_to_another_movie,
    _matroska_element_of_a_huge_length, _matroska_of_deep_elements, _matroska_of_packed_frames,
)  # fmt: skip


def _jpeg_frame(data: bytes) -> int:
    return max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))


def _jpeg_header_that_lies(chance: random.Random, _: str) -> bytes:
    data, sides = _any(chance, _images(), ".jpg"), (0, 1, 16, 3000, 65500, 65535)
    size = struct.pack(">HH", chance.choice(sides), chance.choice(sides))
    changes = ((5, size), (5, size), (1, b"\xc9"), (1, b"\xc3"), (4, b"\x0c"), (9, b"\xff"), (11, b"\xff"))
    place, content = chance.choice(changes)
    return _put(data, _jpeg_frame(data) + place, content)


def _jpeg_of_empty_scans(chance: random.Random, _: str) -> bytes:
    """Each scan takes some bytes, and a pass over a picture as large as is allowed."""
    data = _images()["progressive.jpg"]
    first = data.index(b"\xff\xda")
    head = _put(data[:first], _jpeg_frame(data) + 5, struct.pack(">HH", *chance.choice([(2304, 4096), (65500, 65500)])))
    scan = data[first : data.index(b"\xff\xda", first + 2)]
    refinement = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00"
    return head + scan + refinement * chance.choice([90, 5000]) + b"\xff\xd9"


def _jpeg_of_lying_segments(chance: random.Random, _: str) -> bytes:
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">HHHII", 65535, 0x0112, 3, 0xFFFFFFFF, 8)  # a table in itself
    length = struct.pack(">H", chance.choice([0, 1, 2, 2 + len(exif), 0xFFFF]))
    marker = chance.choice([b"\xff\xe1", b"\xff\xe2", b"\xff\xdb", b"\xff\xc4", b"\xff\xfe"])
    data = _any(chance, _images(), ".jpg")
    return data[:2] + b"\xff" * chance.choice([0, 100_000]) + marker + length + exif + data[2:]


@cache
def _zeros(megabytes: int) -> bytes:
    return zlib.compress(bytes(megabytes * 1024**2), 9)


def _chunk(kind: bytes, content: bytes, checksum: int | None = None, length: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content) if length is None else length) + kind + content + struct.pack(">I", checksum)


def _png(size: tuple[int, int], *chunks: bytes, bits: int = 8, colour: int = 2, interlaced: int = 0) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, interlaced))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + _chunk(b"IEND", b"")


def _png_header_that_lies(chance: random.Random, _: str) -> bytes:
    sides = (0, 1, 3000, 65535, 2**31 - 1, 2**31, 2**32 - 1)
    return _png(
        (chance.choice(sides), chance.choice(sides)), _chunk(b"IDAT", zlib.compress(bytes(10_000))),
        bits=chance.choice([0, 1, 8, 16, 255]), colour=chance.choice([0, 2, 3, 6, 9]),
        interlaced=chance.choice([0, 1, 7]),
    )  # fmt: skip


def _png_bombs(chance: random.Random, _: str) -> bytes:
    """Far more pixels than the header says, or as many as are allowed, in some kilobytes; and texts of that kind."""
    text = chance.choice([b"zTXtname\0\0", b"iCCPname\0\0", b"iTXtname\0\1\0\0\0"])
    texts = _chunk(text[:4], text[4:] + _zeros(100)) * chance.choice([0, 1, 30])
    size = chance.choice([(64, 64), (4096, 2304)])
    return _png(size, texts, _chunk(b"IDAT", _zeros(100)), interlaced=chance.choice([0, 1]))


def _png_of_broken_chunks(chance: random.Random, _: str) -> bytes:
    pixels = zlib.compress(bytes(64 * (1 + 3 * 64)))
    whole, endless = _chunk(b"IDAT", pixels), _chunk(b"IDAT", pixels, length=chance.choice([0, 2**31 - 1, 2**32 - 1]))
    variants = (
        (_chunk(b"IDAT", pixels, checksum=0),), (endless,), (), (_chunk(b"IDAT", b"") * 50_000, whole),
        (_chunk(b"PLTE", bytes(3 * 300)), whole), (_chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)), whole),
        (_chunk(b"IEND", b""), whole),
    )  # fmt: skip
    return _png((64, 64), *chance.choice(variants), colour=chance.choice([2, 3]))


_IMAGE_RECIPES: tuple[Make, ...] = (
    _jpeg_header_that_lies, _jpeg_of_empty_scans, _jpeg_of_lying_segments, _png_header_that_lies, _png_bombs,
    _png_of_broken_chunks,
)  # fmt: skip
