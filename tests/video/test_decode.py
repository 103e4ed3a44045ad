"""Decoding of good, broken and hostile media."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import av
import numpy as np
import pytest

from ray_fer.video.decode import DecodeLimits, MediaError, count_frames, decode_image, encode_jpeg, iter_frames


def test_frames_and_times_of_a_real_video(media: Path) -> None:
    path = media / "single_face.mp4"
    frames = list(iter_frames(path))
    assert len(frames) == count_frames(path) == 72
    assert [frame.index for frame in frames] == list(range(72))
    assert frames[0].image.shape == (360, 640, 3)
    assert np.diff([frame.pts_us for frame in frames]) == pytest.approx(1e6 / 30, abs=2)


def test_wanted_frames_are_the_same_pixels(media: Path) -> None:
    path = media / "single_face.mp4"
    everything = list(iter_frames(path))
    some = list(iter_frames(path, wanted=[3, 40, 71]))
    assert [frame.index for frame in some] == [3, 40, 71]
    for frame in some:
        np.testing.assert_array_equal(frame.image, everything[frame.index].image)


def test_pixels_agree_with_another_decoder(media: Path) -> None:
    import cv2

    path = str(media / "single_face.mp4")
    capture = cv2.VideoCapture(path)
    ok, theirs = capture.read()
    capture.release()
    assert ok
    ours = next(iter_frames(path)).image
    assert np.abs(ours.astype(int) - theirs[:, :, ::-1].astype(int)).mean() < 2.0


def broken_files(folder: Path, media: Path) -> dict[str, Path]:
    whole = (media / "single_face.mp4").read_bytes()
    # The index of this file lies at its end; moved to the front, a truncated copy opens and then runs out of frames.
    remuxed = folder / "faststart.mp4"
    with (
        av.open(str(media / "single_face.mp4")) as source,
        av.open(str(remuxed), "w", options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    contents = {
        "text.mp4": b"this is not a video\n" * 50,
        "empty.mp4": b"",
        "cut.mp4": whole[: len(whole) // 2],
        "cut_faststart.mp4": remuxed.read_bytes()[: remuxed.stat().st_size // 2],
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("text.mp4", "not a readable video"),
        ("empty.mp4", "empty"),
        ("cut.mp4", "not a readable video"),
        ("cut_faststart.mp4", "truncated|damaged"),
        ("absent.mp4", "no such file"),
    ],
)
def test_a_broken_file_is_one_clear_error(tmp_path: Path, media: Path, name: str, reason: str) -> None:
    broken_files(tmp_path, media)
    with pytest.raises(MediaError, match=reason) as caught:
        list(iter_frames(tmp_path / name))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (DecodeLimits(max_bytes=1000), "bytes exceed"),
        (DecodeLimits(max_frames=10), "more than 10 frames"),
        (DecodeLimits(max_seconds=1.0), "longer than 1 s"),
        (DecodeLimits(max_pixels=1000), "exceeds 1000 pixels"),
    ],
)
def test_limits_hold(media: Path, limits: DecodeLimits, reason: str) -> None:
    with pytest.raises(MediaError, match=reason):
        list(iter_frames(media / "single_face.mp4", limits))


def test_audio_alone_is_not_a_video(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(MediaError, match="no video track"):
        list(iter_frames(path))


def test_jpeg_round_trip_is_close() -> None:
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    image = np.stack([np.broadcast_to(ramp, (48, 64)), np.broadcast_to(ramp[::-1], (48, 64)), np.full((48, 64), 90)], 2)
    back = decode_image(encode_jpeg(image.astype(np.uint8)))
    assert back.shape == image.shape
    assert np.abs(back.astype(int) - image.astype(int)).mean() < 3


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    data = zlib.compress(b"\0" * 100)
    png += struct.pack(">I", len(data)) + b"IDAT" + data + struct.pack(">I", zlib.crc32(b"IDAT" + data))
    with pytest.raises(MediaError):
        decode_image(png)


@pytest.mark.parametrize("data", [b"", b"hello", b"\xff\xd8\xff\xe0" + b"\0" * 100, b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(MediaError):
        decode_image(data)


def test_a_truncated_jpeg_is_refused(jpeg: bytes) -> None:
    with pytest.raises(MediaError, match=r"truncated|damaged|not a JPEG"):
        decode_image(jpeg[:-20])


def test_png_is_read_exactly() -> None:
    from PIL import Image

    image = np.random.default_rng(3).integers(0, 255, (20, 30, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    np.testing.assert_array_equal(decode_image(buffer.getvalue()), image)


def test_errors_survive_a_process_boundary() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(MediaError("a.mp4", "broken")))
    assert str(error) == "a.mp4: broken"
