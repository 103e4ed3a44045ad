"""Files that nobody sends who means well, made from a seed: for whoever takes uploads."""

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

from tests.encoded_video import write_video

CANARY = "canary-4d1f"
"""In files of this machine that a playlist refers to; nothing that comes back may hold it."""


class Upload(NamedTuple):
    """One file of a request: the form field, and what is said of it."""

    kind: str
    field: str
    filename: str
    content_type: str
    data: bytes


class RawRequest(NamedTuple):
    """A request whose body no client library would make; `query` is what stands behind the address."""

    kind: str
    query: str
    headers: dict[str, str]
    body: bytes


def hostile_uploads(seed: int, count: int, secret: Path, address: str) -> Iterator[Upload]:
    """So many uploads. Playlists refer to the file `secret` and to the web address `address`."""
    chance = random.Random(seed)
    makers: list[tuple[str, Callable[[random.Random], bytes]]] = [
        ("truncated", _truncated), ("flipped", _flipped), ("shuffled", _shuffled), ("zeroed", _zeroed),
        ("lying box", _lying_box), ("many samples", _many_samples), ("EBML", _lying_ebml), ("nested", _nested),
        ("JPEG size", _jpeg_size), ("JPEG scans", _jpeg_scans), ("PNG size", _png_size), ("PNG bomb", _png_bomb),
        ("PNG sum", _png_sum), ("other format", _other_format), ("noise", _noise),
        ("reference", lambda one: _reference(one, secret, address)),
        ("address", lambda one: _target(one, secret, address).encode()),
    ]  # fmt: skip
    for number in range(count):
        kind, make = makers[number % len(makers)]
        if kind == "address":
            yield Upload(kind, "url", "", "", make(chance))
            continue
        field = "images" if kind.startswith(("JPEG", "PNG")) or chance.random() < 0.15 else "video"
        yield Upload(kind, field, chance.choice(_NAMES), chance.choice(_TYPES), make(chance))


_NAMES = [
    "video.mp4", "../../../../etc/passwd", "/etc/shadow", "..\\..\\boot.ini", "a\r\nX-Injected: yes", 'quo"te.mp4', "",
    "n" * 5000, "видео\u202e4pm.mp4", "nul\0l.mp4", "concat:/etc/passwd|/etc/hosts", "file:///etc/passwd", "-y",
    "%00.mp4",
    "subfile,,start,0,end,0,,:/etc/passwd", "x.m3u8", "x.ffconcat", "x.sdp", "x.jpg",
]  # fmt: skip
_TYPES = [
    "video/mp4",
    "image/jpeg",
    "text/html",
    "application/x-mpegURL",
    "",
    "multipart/form-data",
    "a/b; c=" + "d" * 900,
]


@cache
def whole_files() -> list[bytes]:
    """Small files that are as they should be: five containers with as many codecs, a JPEG and a PNG."""
    with tempfile.TemporaryDirectory() as folder:
        files = [
            write_video(Path(folder) / name, codec, 12, (64, 48), pixels).read_bytes()
            for name, codec, pixels in (
                ("a.mp4", "libx264", "yuv420p"), ("b.mkv", "libx264", "yuv420p"), ("c.webm", "libvpx", "yuv420p"),
                ("d.avi", "mpeg4", "yuv420p"), ("e.mp4", "mpeg4", "yuv420p"), ("f.mov", "mjpeg", "yuvj420p"),
                ("g.ts", "mpeg2video", "yuv420p"), ("h.webm", "libvpx-vp9", "yuv420p"),
            )
        ]  # fmt: skip
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    return [*files, *(cv2.imencode(name, picture)[1].tobytes() for name in (".jpg", ".png"))]


def _some(chance: random.Random) -> bytearray:
    return bytearray(chance.choice(whole_files()))


def _mp4(chance: random.Random) -> bytearray:
    return bytearray(whole_files()[chance.choice((0, 4))])


def _truncated(chance: random.Random) -> bytes:
    data = _some(chance)
    return bytes(data[: chance.randrange(len(data))])


def _flipped(chance: random.Random) -> bytes:
    data = _some(chance)
    for _ in range(chance.choice((1, 3, 30, 300))):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


def _shuffled(chance: random.Random) -> bytes:
    data, size = bytes(_some(chance)), chance.choice((16, 64, 256))
    blocks = [data[place : place + size] for place in range(0, len(data), size)]
    for _ in range(chance.randrange(1, 6)):
        one, other = chance.randrange(len(blocks)), chance.randrange(len(blocks))
        blocks[one], blocks[other] = blocks[other], blocks[one]
    return b"".join([*blocks, chance.choice(blocks) * chance.choice((0, 1, 50))])


def _zeroed(chance: random.Random) -> bytes:
    data = _some(chance)
    start = chance.randrange(len(data))
    end = min(len(data), start + chance.choice((4, 64, 1024)))
    data[start:end] = bytes(end - start)
    return bytes(data)


def _lying_box(chance: random.Random) -> bytes:
    """An MP4 with a box that is not as long as it says."""
    data = _mp4(chance)
    names = [
        name
        for name in (b"ftyp", b"moov", b"mdat", b"trak", b"stbl", b"stsd", b"stsz", b"stts", b"avcC")
        if name in data
    ]
    place = data.find(chance.choice(names)) - 4
    size = chance.choice((0, 1, 7, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000))
    data[place : place + 4] = struct.pack(">I", size)
    if size == 1:  # then eight bytes follow with the real size
        data[place + 8 : place + 16] = struct.pack(">Q", chance.choice((0, 2**63, 2**64 - 1, 15)))
    return bytes(data)


def _many_samples(chance: random.Random) -> bytes:
    """An MP4 whose tables say that they have more entries than there is memory."""
    data = _mp4(chance)
    for name in chance.sample([b"stts", b"stsz", b"stsc", b"stco", b"ctts", b"elst"], 3):
        place = data.find(name)
        if place > 0:
            data[place + 8 : place + 16] = struct.pack(
                ">II", chance.choice((0, 1, 2**31)), chance.choice((2**31 - 1, 2**32 - 1))
            )
    return bytes(data)


def _lying_ebml(chance: random.Random) -> bytes:
    """A Matroska whose elements say that they are longer than the file, or of no length."""
    data = bytearray(whole_files()[chance.choice((1, 2))])
    for _ in range(chance.randrange(1, 4)):
        place = chance.randrange(4, min(len(data) - 9, 600))
        data[place : place + 8] = chance.choice(
            (b"\x01" + b"\xff" * 7, b"\x01" + b"\x7f" * 7, b"\x01" + bytes(7), b"\xff" * 8)
        )
    return bytes(data)


def _nested(chance: random.Random) -> bytes:
    """Boxes in boxes, or elements in elements, very deep."""
    depth, name = chance.choice((100, 5000)), chance.choice((b"moov", b"trak", b"udta", b"meta"))
    if chance.random() < 0.5:
        data = b""
        for _ in range(depth):
            data = struct.pack(">I", len(data) + 8) + name + data
        return struct.pack(">I", 16) + b"ftypisom" + bytes(4) + data
    return b"\x1a\x45\xdf\xa3\x80" + b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff" * depth


def _jpeg_size(chance: random.Random) -> bytes:
    data = bytearray(whole_files()[-2])
    place = next(at for at in range(len(data)) if data[at] == 0xFF and data[at + 1] in (0xC0, 0xC2))
    height, width = chance.choice(((65535, 65535), (0, 64), (1, 65535), (65500, 65500)))
    data[place + 5 : place + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def _jpeg_scans(chance: random.Random) -> bytes:
    data = whole_files()[-2]
    place = data.index(b"\xff\xda")
    scan = data[place:-2][:60]
    return data[:place] + scan * chance.choice((101, 5000)) + b"\xff\xd9"


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(width: int, height: int, pixels: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _png_size(chance: random.Random) -> bytes:
    width, height = chance.choice(((2**31 - 1, 2**31 - 1), (0, 0), (50_000, 50_000), (1, 2**31 - 1)))
    return _png(width, height, zlib.compress(b"\0" * 100))


def _png_bomb(chance: random.Random) -> bytes:
    """Some kilobytes that become many megabytes."""
    side = chance.choice((1000, 2000))
    text = _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(30_000_000)))
    whole = _png(side, side, zlib.compress(bytes((3 * side + 1) * side)))
    return whole[:33] + text * chance.choice((0, 1, 3)) + whole[33:]


def _png_sum(chance: random.Random) -> bytes:
    data = bytearray(whole_files()[-1])
    data[chance.choice((29, 30, len(data) - 20))] ^= 0xFF
    return bytes(data)


def _other_format(chance: random.Random) -> bytes:
    begins = (
        b"GIF89a\xff\xff\xff\xff\xf7\0\0", b"II*\0\x08\0\0\0\xff\xff", b"BM\xff\xff\xff\x7f\0\0\0\0", b"%PDF-1.7\n",
        b"PK\x03\x04", b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        b"<html><script>alert(1)</script>", b"\x7fELF\x02\x01\x01", b"RIFF\xff\xff\xff\xffWAVEfmt ",
        b"ID3\x04\0\0\x7f\x7f\x7f\x7f",
        b"OggS\0\x02", b"FLV\x01\x05\0\0\0\x09", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", b"MZ\x90\0", b"#!/bin/sh\n",
        b"\x1f\x8b\x08",
    )  # fmt: skip
    return chance.choice(begins) + chance.randbytes(chance.choice((0, 10, 3000)))


def _noise(chance: random.Random) -> bytes:
    return chance.choice(
        (b"", b"\0" * 5000, b"text\n" * 300, chance.randbytes(20_000), b"\xff" * 3000, b"\x47" * 188 * 20)
    )


def _reference(chance: random.Random, secret: Path, address: str) -> bytes:
    """What names files and addresses that shall not be opened."""
    target = _target(chance, secret, address)
    texts = (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{target}'\n",
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\na=control:{target}\n",
        f"<MPD xmlns='urn:mpeg:dash:schema:mpd:2011'><Period><BaseURL>{target}</BaseURL></Period></MPD>",
        f"[playlist]\nFile1={target}\nNumberOfEntries=1\n", f"RTSPtext\n{target}\n", f"{target}\n",
    )  # fmt: skip
    return chance.choice(texts).encode()


def _target(chance: random.Random, secret: Path, address: str) -> str:
    return chance.choice(
        (f"file://{secret}", str(secret), address, f"concat:{secret}|{secret}", f"subfile,,start,0,end,9,,:{secret}")
    )


def malformed_requests(seed: int, count: int) -> Iterator[RawRequest]:
    """So many requests for predictions that are no forms, or are forms of what no form may hold."""
    chance = random.Random(seed)
    makers = (_no_boundary, _other_boundary, _broken_off, _many_fields, _huge_field, _odd_part, _no_form, _odd_values)
    for number in range(count):
        make = makers[number % len(makers)]
        yield make(chance)._replace(kind=make.__name__.strip("_"))


def _part(name: str, content: bytes, rest: str = "") -> bytes:
    return f'Content-Disposition: form-data; name="{name}"{rest}\r\n\r\n'.encode() + content


def _form(*parts: bytes, query: str = "", said: str = "; boundary=edge", boundary: bytes = b"edge") -> RawRequest:
    body = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + boundary + b"--\r\n"
    return RawRequest("", query, {"content-type": f"multipart/form-data{said}"}, body)


def _file(chance: random.Random) -> bytes:
    return _part("video", bytes(_some(chance)), '; filename="a.mp4"')


def _jpegs(count: int) -> list[bytes]:
    return [_part("images", whole_files()[-2], '; filename="a.jpg"')] * count


def _no_boundary(chance: random.Random) -> RawRequest:
    return _form(_file(chance), said=chance.choice(("", ";", "; boundary", "; boundary=", '; boundary=""')))


def _other_boundary(chance: random.Random) -> RawRequest:
    said = chance.choice(("other", "edg", "edgee", "e" * 5000, "--edge", "\u00ff".encode().decode("latin-1")))
    return _form(_file(chance), said=f"; boundary={said}")


def _broken_off(chance: random.Random) -> RawRequest:
    whole = _form(_file(chance), _part("fps", b"3"))
    return whole._replace(body=whole.body[: chance.randrange(len(whole.body))])


def _many_fields(chance: random.Random) -> RawRequest:
    name = chance.choice(("pts_us", "fps", "x"))
    part = chance.choice((_part(name, b"1"), _part("images", b"x", '; filename="x.jpg"'), b"\r\n"))
    return _form(*[part] * chance.choice((999, 1001, 20_000)), *_jpegs(1))


def _huge_field(chance: random.Random) -> RawRequest:
    return _form(_part(chance.choice(("url", "fps", "pts_us", "x" * 100_000)), b"9" * 1_500_000), *_jpegs(1))


def _odd_part(chance: random.Random) -> RawRequest:
    parts = (
        b"no header at all", b"\r\n", b": \r\n\r\n", b"Content-Disposition: form-data\r\n\r\nx",
        b'Content-Disposition: form-data; name="video\r\n\r\nx', b"X-Long: " + b"y" * 200_000 + b"\r\n\r\nx",
        b"X-Many: y\r\n" * 5000 + b"\r\nx", b"Content-Disposition: \xff\xfe\0; name=video\r\n\r\nx",
        b"Content-Type: multipart/mixed; boundary=edge\r\n" + _part("video", b"--edge--", '; filename="a"'),
        b"Content-Transfer-Encoding: base64\r\n" + _part("video", b"AAAA", '; filename="a"'),
        _part("video", b"a text, and no file"), _part("images", b"a text, and no file"),
        _part("url", b"http://a/", '; filename="a file, and no text"'), _part("url", b"\xff\xfe http://\0/"),
    )  # fmt: skip
    charset = chance.choice(("", *(f"; charset={name}" for name in ("undefined", "idna", "zip", "no\tsuch", "utf-16"))))
    return _form(chance.choice(parts), said=f"; boundary=edge{charset}")


def _no_form(chance: random.Random) -> RawRequest:
    said = chance.choice(
        ("application/json", "application/x-www-form-urlencoded", "text/plain", "video/mp4", "multipart/mixed", "x", "")
    )
    body = chance.choice((b"", b'{"url": "http://a/"}', b"video=a&url=http://a/", b"[" * 100_000, b"url=%ff%00%zz"))
    return RawRequest("", "", {"content-type": said}, body)


def _odd_values(chance: random.Random) -> RawRequest:
    """A form as it should be, with numbers and names that nobody means."""
    fps = chance.choice((b"nan", b"inf", b"-1", b"0", b"1e999", b"1e-12", b"\xd9\xa3", b"9" * 5000, b"0x10"))
    pts_us = chance.choice((b"-1", b"1e3", b"9007199254740993", b"9" * 5000, b"", b"\0", b"1_0"))
    query = chance.choice(
        ("", "?size=nan", "?stride=inf", "?size=1e-9", "?format=%00", "?model=%0d%0aX:%20y", "?model=" + "m" * 5000,
         "?size=1&size=2&stride=3", "?%ff=%fe", "?model=../../etc/passwd")
    )  # fmt: skip
    good = _part("fps", b"25")  # with which the query is what is looked at
    field = chance.choice((_part("fps", fps), _part("pts_us", pts_us), good, good))
    return _form(*_jpegs(2), field, query=query)
