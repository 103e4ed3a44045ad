"""Windows to predictions: order, caching, broken frames, gaps, with stages that count what they are asked."""

from __future__ import annotations

import numpy as np

from ray_fer.action_units.blendshape_map import packaged_map
from ray_fer.labels import AU_NAMES, EXPRESSIONS
from ray_fer.serving.inference import Stages, infer_windows
from ray_fer.serving.stages import FaceResult
from ray_fer.streaming.messages import ModelInfo
from ray_fer.streaming.windows import BufferedFrame, StreamWindows, Window, WindowConfig
from ray_fer.video.face_clip import FaceFrame


class Recorder:
    """Stages that see a face in payload b"<n>", none in b"none", and fail on b"broken"; class n wins for crop n."""

    def __init__(self) -> None:
        self.searched: list[bytes] = []
        self.batches: list[int] = []

    def find(self, payloads: list[bytes]) -> list[FaceResult]:
        self.searched += payloads
        return [self._one(payload) for payload in payloads]

    def _one(self, payload: bytes) -> FaceResult:
        if payload == b"broken":
            return FaceResult(None, "the image data is damaged")
        if payload == b"none":
            return FaceResult(None)
        value = int(payload)
        crop = np.full((224, 224, 3), value, np.uint8)
        return FaceResult(FaceFrame(crop, np.zeros((478, 3), np.float32), np.full(52, value / 10, np.float32)))

    def classify(self, clips: list[np.ndarray]) -> np.ndarray:
        self.batches.append(len(clips))
        return np.stack([np.eye(7, dtype=np.float32)[clip[0, 0, 0, 0]] for clip in clips])

    def stages(self) -> Stages:
        return Stages(self.find, self.classify, list(EXPRESSIONS), ModelInfo(name="m", version="1"))


def windows_of(payloads: list[bytes], size: float = 2, stride: float = 1, frames: int = 2) -> list[Window]:
    stream = StreamWindows("s", WindowConfig(size=size, stride=stride, frames=frames))
    for second, payload in enumerate(payloads):
        if payload:
            stream.add(BufferedFrame(second * 1_000_000, second, payload))
    return stream.flush()


def test_predictions_come_in_order_with_their_windows() -> None:
    recorder = Recorder()
    windows = windows_of([b"1", b"1", b"4", b"4", b"6", b"6"], size=2, stride=2)
    predictions = infer_windows(recorder.stages(), windows).predictions
    assert [p.expression for p in predictions] == [EXPRESSIONS[1], EXPRESSIONS[4], EXPRESSIONS[6]]
    assert [p.window.index for p in predictions] == [0, 1, 2]
    assert [p.window.faces for p in predictions] == [2, 2, 2]
    assert recorder.batches == [3]
    assert set(predictions[0].action_units) == set(AU_NAMES)
    smile = packaged_map().aus["AU12"]
    assert predictions[0].action_units["AU12"] == round(0.1 * smile.weights["mouthSmile"] + smile.offset, 4)
    assert predictions[0].latency_ms is None


def test_a_frame_is_searched_once_however_many_windows_chose_it() -> None:
    recorder = Recorder()
    windows = windows_of([b"1", b"2", b"3", b"4"])
    infer_windows(recorder.stages(), windows[:2])
    infer_windows(recorder.stages(), windows[2:])
    assert sorted(recorder.searched) == [b"1", b"2", b"3", b"4"]


def test_windows_without_a_face_and_gaps_reach_no_model() -> None:
    recorder = Recorder()
    windows = windows_of([b"none", b"", b"", b"3"], size=1, stride=1)
    predictions = infer_windows(recorder.stages(), windows).predictions
    assert [p.status for p in predictions] == ["no_face", "gap", "gap", "ok"]
    assert [p.window.frames for p in predictions] == [1, 0, 0, 1]
    assert recorder.batches == [1]


def test_a_face_in_passing_is_no_face() -> None:
    windows = windows_of([b"1", b"none", b"none", b"none", b"none"], size=5, stride=5, frames=5)
    (prediction,) = infer_windows(Recorder().stages(), windows).predictions
    assert (prediction.status, prediction.window.faces) == ("no_face", 1)


def test_a_broken_frame_is_reported_once_and_its_window_goes_on() -> None:
    recorder = Recorder()
    windows = windows_of([b"broken", b"2", b"2"], size=2, stride=1)
    inference = infer_windows(recorder.stages(), windows)
    assert [(frame.seq, reason) for frame, reason in inference.broken] == [(0, "the image data is damaged")]
    assert [p.status for p in inference.predictions] == ["ok", "ok", "ok"]
    assert inference.predictions[0].window.faces == 1
    assert infer_windows(recorder.stages(), windows).broken == []
