"""Broken and hostile media of every kind that turns up in datasets and uploads; each must end in one `MediaError`."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from tests.encoded_video import picture, write_video


@dataclass(frozen=True)
class Corrupt:
    """One input that cannot be used: what is wrong with it, and its row in a manifest."""

    name: str
    path: Path
    media: str = "video"
    start_frame: int | None = None
    end_frame: int | None = None

    def row(self) -> dict[str, Any]:
        """Columns of the manifest that say what to read."""
        return {
            "path": str(self.path),
            "media": self.media,
            "start_frame": self.start_frame,
            "end_frame": self.end_frame,
        }


def make_corrupt(folder: Path) -> list[Corrupt]:
    """Write all kinds below `folder`; the same bytes for the same versions of the encoders."""
    good = folder / "good"
    good.mkdir(parents=True)
    video = write_video(
        good / "good.mp4", size=(160, 120), options={"x264-params": "keyint=12"}, container={"movflags": "faststart"}
    )
    found: list[Corrupt] = []
    for make in (_no_video, _cut_videos, _patched_videos, _playlists, _special_files, _images, _folders):
        place = folder / make.__name__.strip("_")
        place.mkdir()
        found += make(place, video)
    whole = Corrupt("", video)
    found += [
        replace(whole, name="range beyond the end", start_frame=50, end_frame=90),
        replace(whole, name="range behind the end", start_frame=500, end_frame=516),
        replace(whole, name="empty range", start_frame=7, end_frame=7),
        replace(whole, name="range that runs backwards", start_frame=9, end_frame=3),
        replace(whole, name="negative start", start_frame=-5, end_frame=10),
    ]
    return found


def _write(folder: Path, contents: dict[str, bytes], media: str = "video") -> list[Corrupt]:
    found = []
    for name, content in contents.items():
        path = folder / name.replace(" ", "_")
        path.write_bytes(content)
        found.append(Corrupt(name, path, media))
    return found


def _no_video(folder: Path, video: Path) -> list[Corrupt]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("clip.mp4", video.read_bytes()[:1000])
    tone = folder / "audio only.m4a"
    with av.open(str(tone), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux([*stream.encode(frame), *stream.encode()])
    silent = folder / "zero frames.mkv"
    with av.open(str(silent), "w") as container:
        header = container.add_stream("mjpeg", rate=30)
        header.width, header.height, header.pix_fmt = 64, 64, "yuvj420p"
        container.start_encoding()
    return [
        Corrupt("missing", folder / "missing.mp4"),
        Corrupt("audio only", tone),
        Corrupt("zero frames", silent),
        *_write(
            folder,
            {
                "empty.mp4": b"",
                "one byte.mp4": b"\x00",
                "text.mp4": b"this is not a video\n" * 50,
                "text.avi": b"RIFF, they said\n" * 50,
                "html error page.mp4": b"<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>\n" * 9,
                "zip.mp4": archive.getvalue(),
                "json.mp4": b'{"error": {"code": 403, "message": "quota exceeded"}}',
                "jpeg.mp4": _jpeg(),
                "subtitles only.mkv": b"1\n00:00:01,000 --> 00:00:02,000\nHello\n\n" * 3,
                "zeros.mp4": bytes(10_000),
                "noise.mp4": np.random.default_rng(0).bytes(50_000),
            },
        ),
    ]


def _cut_videos(folder: Path, video: Path) -> list[Corrupt]:
    data = video.read_bytes()
    matroska = write_video(folder / "whole.mkv", options={"x264-params": "keyint=12"}).read_bytes()
    moov_at_end = write_video(folder / "whole.mp4").read_bytes()
    contents = {f"cut at {share} percent.mp4": data[: len(data) * share // 100] for share in (10, 25, 50, 75, 90)}
    contents |= {
        "cut at half.mkv": matroska[: len(matroska) // 2],
        "moov lost with the end.mp4": moov_at_end[: moov_at_end.rindex(b"moov") - 4],
        "moov cut.mp4": data[: data.index(b"stbl") + 40],
    }
    return _write(folder, contents)


def _patched_videos(folder: Path, video: Path) -> list[Corrupt]:
    data = video.read_bytes()
    moov, mdat = data.index(b"moov"), data.index(b"mdat")
    rng = np.random.default_rng(0)

    def patched(place: int, content: bytes) -> bytes:
        return data[:place] + content + data[place + len(content) :]

    def flipped(start: int, end: int, share: float) -> bytes:
        noise = rng.integers(1, 256, len(data), np.uint8) * (rng.random(len(data)) < share)
        noise[:start] = 0
        noise[end:] = 0
        return (np.frombuffer(data, np.uint8) ^ noise).tobytes()

    matroska = write_video(folder / "whole.mkv", frames=20).read_bytes()
    huge = write_video(folder / "whole.mov", "mjpeg", frames=20, pixels="yuvj420p").read_bytes()
    return _write(
        folder,
        {
            "mdat zeroed.mp4": patched(mdat + 4, bytes(len(data) - mdat - 4)),
            "mdat noise.mp4": patched(mdat + 4, rng.bytes(len(data) - mdat - 4)),
            "moov missing.mp4": patched(moov, b"lost"),
            "header flipped.mp4": flipped(moov, mdat - 4, 0.2),
            "flipped everywhere.mp4": flipped(0, len(data), 0.05),
            "no sample table.mp4": patched(data.index(b"stsz"), b"skip"),
            "offsets out of the file.mp4": patched(data.index(b"stco") + 12, b"\x7f" * 4),
            "huge dimensions in every frame.mov": _patched_sizes(huge, 65500, 65500),
            "huge dimensions in the parameter set.h264": _huge_h264(),
            "huge number of frames.mp4": patched(data.index(b"stts") + 12, b"\x7f\xff\xff\xff"),
            "huge duration.mkv": _with_duration(matroska, 1e12),
            "bomb.gif": _gif(65535, 65535),
            "keyframe zeroed.mp4": _zeroed_keyframe(video, 2),
            "first keyframe zeroed.mp4": _zeroed_keyframe(video, 0),
        },
    )


def _playlists(folder: Path, video: Path) -> list[Corrupt]:
    address = f"file:{video}"
    return _write(
        folder,
        {
            "file.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{address}\n#EXT-X-ENDLIST\n".encode(),
            "http.m3u8": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
            "ffconcat.mp4": f"ffconcat version 1.0\nfile '{video}'\n".encode(),
            "session.sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n"
            b"a=rtpmap:96 H264/90000\n",
            "dash.mpd": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
            f'<AdaptationSet mimeType="video/mp4"><Representation id="1"><BaseURL>{address}</BaseURL></Representation>'
            f"</AdaptationSet></Period></MPD>".encode(),
        },
    )


def _special_files(folder: Path, video: Path) -> list[Corrupt]:
    (folder / "folder.mp4").mkdir()
    os.mkfifo(folder / "pipe.mp4")
    os.mkfifo(folder / "pipe.png")
    (folder / "device.mp4").symlink_to("/dev/zero")
    (folder / "device.png").symlink_to("/dev/zero")
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    (folder / "dangling.mp4").symlink_to(folder / "nowhere.mp4")
    for name, size in (("too big.mp4", 3 * 1024**3), ("too big.png", 17 * 1024**2)):
        with open(folder / name, "wb") as file:
            file.truncate(size)  # sparse: takes no room
    return [
        Corrupt(file.name, file, "image" if file.suffix == ".png" else "video") for file in sorted(folder.iterdir())
    ] + [Corrupt("name with a null byte", folder / "a\0b.mp4"), Corrupt("address", Path("http://127.0.0.1:9/a.mp4"))]


def _images(folder: Path, video: Path) -> list[Corrupt]:
    png, jpeg = _png(), _jpeg()
    data = png.index(b"IDAT")
    length = int.from_bytes(png[data - 4 : data], "big")
    scans = jpeg[jpeg.index(b"\xff\xda") : -2]
    contents = {
        "text.jpg": b"not an image",
        "empty.png": b"",
        "gif.png": _gif(8, 8),
        "cut.jpg": jpeg[: len(jpeg) * 2 // 3],
        "cut.png": png[: data + length // 2],
        "bad checksum.png": png[: data + 4 + length] + bytes(4) + png[data + 8 + length :],
        "huge dimensions.png": _huge_png(60000, 60000),
        "huge dimensions.jpg": _patched_sizes(jpeg, 65500, 65500),
        "thousand scans.jpg": jpeg[:-2] + scans * 1000 + b"\xff\xd9",
        "no dimensions.png": _huge_png(0, 0),
    }
    return [*_write(folder, contents, "image"), Corrupt("missing.jpg", folder / "missing.jpg", "image")]


def _folders(folder: Path, video: Path) -> list[Corrupt]:
    def filled(name: str, files: dict[str, bytes]) -> Path:
        place = folder / name.replace(" ", "_")
        place.mkdir()
        for file, content in files.items():
            (place / file).write_bytes(content)
        return place

    three = {f"{number}.jpg": _jpeg() for number in (1, 2, 3)}
    good = filled("good", three)
    stuck = filled("a pipe among frames", three)
    os.mkfifo(stuck / "4.jpg")
    return [
        Corrupt("folder missing", folder / "absent", "frames"),
        Corrupt("folder empty", filled("empty", {}), "frames"),
        Corrupt("folder of texts", filled("texts", {"1.txt": b"1", "2.txt": b"2"}), "frames"),
        Corrupt("folder with a broken frame", filled("broken", three | {"2.jpg": _jpeg()[:200]}), "frames"),
        Corrupt("folder with a pipe", stuck, "frames"),
        Corrupt("file where a folder should be", good / "1.jpg", "video"),
        Corrupt("folder range beyond the end", good, "frames", 1, 9),
        Corrupt("folder range negative", good, "frames", -2, 2),
        Corrupt("folder range empty", good, "frames", 2, 2),
    ]


def _zeroed_keyframe(video: Path, number: int) -> bytes:
    with av.open(str(video)) as container:
        places = [
            (packet.pos, packet.size) for packet in container.demux(video=0) if packet.size and packet.is_keyframe
        ]
    data = video.read_bytes()
    start, size = places[number]
    return data[: start + size // 2] + bytes(size - size // 2) + data[start + size :]


def _jpeg() -> bytes:
    return cv2.imencode(".jpg", picture(0))[1].tobytes()


def _png() -> bytes:
    return cv2.imencode(".png", picture(0))[1].tobytes()


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _huge_png(width: int, height: int) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(bytes(1000))) + _chunk(b"IEND", b"")


def _patched_sizes(jpegs: bytes, width: int, height: int) -> bytes:
    """Every JPEG in the data says that it is of that size."""
    start = b"\xff\xc0\x00\x11\x08"
    parts = jpegs.split(start)
    return parts[0] + b"".join(start + struct.pack(">HH", height, width) + part[4:] for part in parts[1:])


def _with_duration(matroska: bytes, milliseconds: float) -> bytes:
    element = b"\x44\x89\x88"  # Duration, 8 bytes: a double
    at = matroska.index(element) + len(element)
    return matroska[:at] + struct.pack(">d", milliseconds) + matroska[at + 8 :]


def _gif(width: int, height: int) -> bytes:
    picture = b"\x2c\x00\x00\x00\x00" + struct.pack("<HH", width, height) + b"\x00\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\x00\x00\x00\x00\x00\xff\xff\xff" + picture + b"\x3b"


def _huge_h264() -> bytes:
    """Annex B with a sequence parameter set of 65536 x 65536, and slices that refer to it."""

    def ue(value: int) -> str:
        digits = f"{value + 1:b}"
        return "0" * (len(digits) - 1) + digits

    def unit(header: int, bits: str) -> bytes:
        bits += "1"
        bits += "0" * (-len(bits) % 8)
        return b"\x00\x00\x00\x01" + bytes([header]) + int(bits, 2).to_bytes(len(bits) // 8, "big")

    profile = f"{66:08b}{0:08b}{62:08b}"
    sequence = profile + ue(0) + ue(0) + ue(2) + ue(1) + "0" + ue(4095) + ue(4095) + "1100"
    parameters = ue(0) + ue(0) + "00" + ue(0) + ue(0) + ue(0) + "000" + ue(0) + ue(0) + ue(0) + "000"
    slices = unit(0x65, ue(0) + ue(7) + ue(0) + "0000" + ue(0) + "00" + ue(0) + "10" * 200)
    return unit(0x67, sequence) + unit(0x68, parameters) + slices * 20
