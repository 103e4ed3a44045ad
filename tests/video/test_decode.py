"""Decoding of good, broken and hostile media."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from ray_fer.video.container import read_packets
from ray_fer.video.decode import count_frames, iter_frames, read_frames, video_size
from ray_fer.video.limits import DecodeLimits, MediaError
from tests.encoded_video import picture, write_video


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


def test_cover_pictures_are_no_video(tmp_path: Path, media: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        tone = container.add_stream("aac", rate=16000, layout="mono")
        cover = container.add_stream("mjpeg")
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux([*tone.encode(frame), *tone.encode()])
        container.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        container.mux(cover.encode())
    with pytest.raises(MediaError, match="no video track"):
        list(iter_frames(path))


@pytest.mark.parametrize(("codec", "pixels"), [("mjpeg", "yuvj420p"), ("libx264", "yuv420p"), ("mpeg4", "yuv420p")])
def test_a_few_frames_missing_at_the_end_are_no_damage(tmp_path: Path, codec: str, pixels: str) -> None:
    options = {"g": "12", "bf": "0"} if codec == "libx264" else {"g": "12"}
    whole = write_video(
        tmp_path / "whole.mp4", codec, frames=100, pixels=pixels, options=options, container={"movflags": "faststart"}
    )
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.98)])
    count = count_frames(cut)
    assert 95 <= count < 100
    assert [frame.index for frame in iter_frames(cut)] == list(range(count))
    assert len(read_frames(cut, lambda there: range(0, there, 9))) == -(-count // 9)
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.9)])
    with pytest.raises(MediaError, match=r"truncated: [89]\d of 100 frames are there"):
        count_frames(cut)


def test_a_track_that_is_shorter_than_its_sound_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mjpeg", rate=30)
        video.width, video.height, video.pix_fmt = 96, 80, "yuvj420p"
        tone = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for number in range(5):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        for second in range(3):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = 8000, 8000 * second
            container.mux(tone.encode(frame))
        container.mux(video.encode())
    assert count_frames(path) == 5


def test_a_track_that_comes_up_while_reading_ends_no_file() -> None:
    class Container:
        """As PyAV behaves on a damaged transport stream, at its end."""

        def demux(self) -> Iterator[av.Packet]:
            yield from (av.Packet(b"one"), av.Packet(0))
            raise IndexError("list index out of range")

    assert [bytes(packet) for packet in read_packets(Container())] == [b"one"]


def test_decoding_has_a_deadline(media: Path) -> None:
    with pytest.raises(MediaError, match=r"took (longer|too long)"):
        count_frames(media / "single_face.mp4", DecodeLimits(max_decode_seconds=0.0))


def test_the_deadline_of_a_stream_is_that_of_one_frame(media: Path) -> None:
    for frame in iter_frames(media / "single_face.mp4", DecodeLimits(max_decode_seconds=1.0)):
        if frame.index == 3:
            time.sleep(1.2)
    assert frame.index == 71


def test_size_and_frames_with_any_number_of_threads(media: Path) -> None:
    path = media / "single_face.mp4"
    assert video_size(path) == (640, 360)
    one, four = (read_frames(path, range(0, 72, 7), threads=threads) for threads in (1, 4))
    np.testing.assert_array_equal([frame.image for frame in one], [frame.image for frame in four])


@pytest.mark.parametrize("scheme", ["file", "http"])
@pytest.mark.parametrize("kind", ["m3u8", "ffconcat"])
def test_a_file_never_makes_another_be_opened(tmp_path: Path, kind: str, scheme: str) -> None:
    """A playlist that FFmpeg itself would follow; nobody may connect to the address in it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        good = write_video(tmp_path / "good.ts")
        target = f"file:{good}" if scheme == "file" else f"http://127.0.0.1:{server.getsockname()[1]}/good.ts"
        lines = {
            "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n",
            "ffconcat": f"ffconcat version 1.0\nfile '{target}'\n",
        }
        path = tmp_path / f"list.{kind}"
        path.write_text(lines[kind])
        with pytest.raises(MediaError, match="not a readable video"):
            read_frames(path, [0])
        with pytest.raises(BlockingIOError):
            server.accept()


def test_errors_survive_a_process_boundary() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(MediaError("a.mp4", "broken")))
    assert str(error) == "a.mp4: broken"
