"""Videos as messages: single frames and segments of a file say the same, and receivers take what producers make."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ray_fer.streaming import source
from ray_fer.streaming.frame_message import FrameMessage, parse_frame
from ray_fer.streaming.payload import PictureRequest, decode
from ray_fer.streaming.references import ReferencePolicy
from ray_fer.streaming.source import segment_messages, video_messages
from ray_fer.video.decode import iter_frames
from ray_fer.video.limits import MediaError


def frames_of(messages: list[FrameMessage]) -> tuple[list[tuple[int, int]], list[np.ndarray]]:
    """(event time, number) of all frames as a receiver reads them, and their pixels."""
    stamps, images = [], []
    for message in messages:
        message = parse_frame(message.payload, message.headers())
        frames = message.frames()
        indices = tuple(index for _, _, index in frames)
        stamps += [(pts, seq) for pts, seq, _ in frames]
        for _, picture in decode(PictureRequest(message.source(), indices), ReferencePolicy()):
            assert isinstance(picture, np.ndarray)
            images.append(picture)
    return stamps, images


def test_segments_and_single_frames_say_the_same(media: Path) -> None:
    """A real video with keyframes a second apart: copied, so pixels are the file's own."""
    path = media / "face_noface.mov"
    single, cut = list(video_messages(path, "s")), list(segment_messages(path, "s", 2))
    assert len(cut) == 3
    stamps, images = frames_of(cut)
    assert [seq for _, seq in stamps] == [message.seq for message in single]
    assert [pts for pts, _ in stamps] == pytest.approx([message.pts_us for message in single], abs=1)
    for image, frame in zip(images, iter_frames(path), strict=True):
        np.testing.assert_array_equal(image, frame.image)
    assert 4 * sum(len(message.payload) for message in cut) < sum(len(message.payload) for message in single)


def test_one_long_group_is_encoded_again(media: Path) -> None:
    """A real video with one keyframe; as JPEGs, its pixels change by 0.8 on average."""
    path = media / "single_face.mp4"
    stamps, images = frames_of(list(segment_messages(path, "s", 1)))
    assert [seq for _, seq in stamps] == list(range(72))
    for (pts, _), image, frame in zip(stamps, images, iter_frames(path), strict=True):
        assert pts == pytest.approx(frame.pts_us, abs=1)
        assert 0 < np.abs(image.astype(int) - frame.image).mean() < 2.5


def test_a_segment_no_receiver_takes_is_not_sent(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = media / "single_face.mp4"
    for seconds in (0, -1, 31, float("nan")):
        with pytest.raises(ValueError, match="choose more than 0 and at most 30 s"):
            next(segment_messages(path, "s", seconds))
    monkeypatch.setattr(source, "MAX_FRAME_BYTES", 1000)
    with pytest.raises(MediaError, match=r"its segment at 0.0 s has \d+ bytes, more than 1000; choose shorter"):
        next(segment_messages(path, "s", 1))
