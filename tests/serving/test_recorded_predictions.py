"""`predict` decodes only what windows choose, and says what it would say of a stream of all frames."""

from __future__ import annotations

from pathlib import Path

from ray_fer.bundle import PACKAGED
from ray_fer.serving.catalogue import served
from ray_fer.serving.in_process import InProcess
from ray_fer.serving.inference import always, infer_windows
from ray_fer.serving.predict import predict_video
from ray_fer.streaming.payload import Payload
from ray_fer.streaming.source import video_messages
from ray_fer.streaming.windows import BufferedFrame, StreamWindows, WindowConfig


def test_predictions_are_those_of_a_stream_of_all_frames(media: Path) -> None:
    model, video = served(PACKAGED), media / "single_face.mp4"
    stream = StreamWindows(video.name, WindowConfig(frames=model.transform.frames))
    for message in video_messages(video, video.name):
        stream.add(BufferedFrame(message.pts_us, message.seq, Payload("image/jpeg", message.payload)))
    with InProcess() as running:
        expected = infer_windows(running.stages, stream.flush(), always(model)).predictions
    found = list(predict_video(PACKAGED, video))
    assert len(found) == 3
    for one, other in zip(found, expected, strict=True):
        assert one.model_copy(update={"latency_ms": None}) == other.model_copy(update={"latency_ms": None})
