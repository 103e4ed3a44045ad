"""What SOURCE arguments name: files, folders of videos and images, and what the command refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from ray_fer.cli import main
from ray_fer.streaming.encoding import Encoding
from ray_fer.streaming.find_streams import find_streams
from ray_fer.streaming.frame_message import FrameMessage, parse_frame
from ray_fer.streaming.timetable import passes
from ray_fer.video.decode import iter_frames
from ray_fer.video.images import decode_image


def messages(sources: list[str | Path], encoding: Encoding | None = None, **options: object) -> list[FrameMessage]:
    """All messages of recorded sources, one stream after the other."""
    found = find_streams([str(source) for source in sources], encoding or Encoding(), **options)  # type: ignore[arg-type]
    return [outgoing.message for stream in found.recorded for outgoing in passes(stream, 0, loop=False)]


@pytest.fixture
def tree(tmp_path: Path, media: Path, jpeg: bytes) -> Path:
    """A folder as datasets have it: videos at two depths, frames of a clip, and things that are neither."""
    root = tmp_path / "recordings"
    (root / "day 1" / "clip").mkdir(parents=True)
    for name in ("b.MP4", "day 1/a.mp4", "day 1/._a.mp4"):
        (root / name).symlink_to(media / "single_face.mp4")
    for number in (10, 9, 1):
        (root / "day 1" / "clip" / f"img{number}.jpg").write_bytes(jpeg + bytes([number]))
    (root / "labels.csv").write_text("a,b")
    return root


def test_a_folder_holds_a_stream_for_every_video_and_every_folder_of_images(tree: Path) -> None:
    found = find_streams([str(tree)], Encoding())
    assert [stream.stream_id for stream in found.recorded] == ["b", "day 1/a", "day 1/clip"]
    assert found.passed_over == 1


def test_images_are_sent_as_they_are_stored_in_natural_order(tree: Path, jpeg: bytes) -> None:
    sent = messages([tree / "day 1" / "clip"], fps=50)
    assert [(m.stream_id, m.pts_us, m.seq) for m in sent] == [("clip", 0, 0), ("clip", 20_000, 1), ("clip", 40_000, 2)]
    assert [m.payload for m in sent] == [jpeg + bytes([number]) for number in (1, 9, 10)]


def test_the_type_of_an_image_is_what_it_is_not_what_its_name_says(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    (message,) = messages([tmp_path])
    assert parse_frame(message.payload, message.headers()).content_type == "image/png"


def test_frames_of_a_video_are_its_frames_as_jpegs(media: Path) -> None:
    sent = messages([media / "single_face.mp4"], Encoding(quality=50), stream_id="me")
    frames = list(iter_frames(media / "single_face.mp4"))
    assert [(m.stream_id, m.pts_us, m.seq) for m in sent] == [("me", frame.pts_us, frame.index) for frame in frames]
    assert np.abs(decode_image(sent[40].payload).astype(int) - frames[40].image).mean() < 4
    better = messages([media / "single_face.mp4"], Encoding(quality=95))
    assert len(better[40].payload) > 2 * len(sent[40].payload)


@pytest.mark.parametrize("source", ["single_face.mp4", "images"])
def test_segments_hold_the_same_frames_at_the_same_times(source: str, media: Path, tmp_path: Path) -> None:
    path = media / source
    if source == "images":
        path = tmp_path / "images"
        path.mkdir()
        for number in range(30):
            cv2.imwrite(str(path / f"{number}.png"), np.full((33, 35, 3), 8 * number, np.uint8))
    single, segments = messages([path]), messages([path], Encoding(segment_seconds=0.5))
    assert {message.content_type for message in segments} == {"video/mp4"}
    assert len(segments) > 1
    inside = [(pts_us, seq) for message in segments for pts_us, seq, _ in message.frames()]
    assert inside == [(message.pts_us, message.seq) for message in single]
    last = list(iter_frames(segments[-1].payload))[-1].image
    assert np.abs(last.astype(int) - decode_image(single[-1].payload)).mean() < 4


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (lambda tree: ["/nowhere.mp4"], "/nowhere.mp4: no such file or folder"),
        (lambda tree: [f"{tree}/day 1", f"{tree}/day 1/a.mp4"], "two streams would be 'a'"),
        (lambda tree: [str(tree), "--stream-id", "x"], "--stream-id is for a single stream, and these are 3"),
        (lambda tree: [f"{tree}/b.MP4", "--stream-id", "x" * 201], "can be no stream id"),
        (lambda tree: [f"{tree}/b.MP4", "--stream-id", "a\nb"], "can be no stream id"),
        (lambda tree: ["camera:0", "--loop"], "--speed and --loop are for files"),
        (lambda tree: ["rtsp://host/x", "--speed", "2"], "--speed and --loop are for files"),
        (lambda tree: ["udp://host:1234"], "udp:// is no source that is read"),
        (lambda tree: [f"{tree}/b.MP4", "--start", "yesterday"], "cannot start at 'yesterday': give now, 0, or a time"),
        (lambda tree: [f"{tree}/b.MP4", "--start", "1969-12-31T00:00+00:00"], "event time begins in 1970"),
        (lambda tree: [f"{tree}/b.MP4", "--segment-seconds", "2", "--quality", "80"], "--quality is of JPEGs"),
        (lambda tree: [f"{tree}/b.MP4", "--bootstrap-servers", "127.0.0.1:9"], "no Kafka broker at 127.0.0.1:9"),
    ],
)
def test_what_cannot_be_sent_is_one_line_and_exit_code_2(
    arguments: Callable[[Path], list[str]], expected: str, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["stream", "produce", *arguments(tree)])
    said = capsys.readouterr()
    assert exit_.value.code == 2
    assert said.out == ""
    assert expected in said.err
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1


def test_a_folder_without_streams_says_what_it_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(FileNotFoundError, match=r"no video \(\.mp4 .*\) and no image"):
        find_streams([str(tmp_path)], Encoding())
