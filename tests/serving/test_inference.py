"""Windows to predictions: order, caching, broken frames, gaps, with stages that count what they are asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ray_fer.action_units.blendshape_map import packaged_map
from ray_fer.labels import AU_NAMES, EXPRESSIONS
from ray_fer.models.transform import TransformConfig
from ray_fer.serving.catalogue import Route, ServedModel
from ray_fer.serving.inference import Shadowed, Stages, always, infer_windows
from ray_fer.serving.stages import FaceResult
from ray_fer.streaming.messages import ModelInfo
from ray_fer.streaming.payload import Payload, PictureRequest
from ray_fer.streaming.windows import BufferedFrame, StreamWindows, Window, WindowConfig
from ray_fer.video.face_clip import FaceFrame


class Recorder:
    """Stages that see a face in content b"<n>", none in b"none", and fail on b"broken"; class n wins for crop n.

    The content of a segment is that of its frames, joined by blanks.
    """

    def __init__(self) -> None:
        self.requests: list[PictureRequest] = []
        self.batches: list[int] = []
        self.asked: list[str] = []
        self.cuts: list[int] = []

    def find(self, requests: list[PictureRequest], transform: TransformConfig) -> list[list[FaceResult]]:
        self.requests += requests
        self.cuts.append(transform.canvas)
        return [
            [replace(self._one(content_of(request, index)), crop=transform.crop) for index in request.indices]
            for request in requests
        ]

    def searched(self) -> list[bytes]:
        return sorted(content_of(request, index) for request in self.requests for index in request.indices)

    def _one(self, content: bytes) -> FaceResult:
        if content == b"broken":
            return FaceResult(None, "the image data is damaged")
        if content == b"none":
            return FaceResult(None)
        value = int(content)
        crop = np.full((224, 224, 3), value, np.uint8)
        return FaceResult(FaceFrame(crop, np.zeros((478, 3), np.float32), np.full(52, value / 10, np.float32)))

    def classify(self, clips: list[np.ndarray], model: ServedModel) -> np.ndarray:
        self.batches.append(len(clips))
        self.asked.append(model.info.name)
        return np.stack([np.eye(7, dtype=np.float32)[clip[0, 0, 0, 0]] for clip in clips])

    def stages(self) -> Stages:
        return Stages(self.find, self.classify)


def model(name: str, canvas: int = 224) -> ServedModel:
    return ServedModel(
        ModelInfo(name=name, version="1"), f"/bundles/{name}", tuple(EXPRESSIONS), (), TransformConfig(canvas=canvas)
    )


MODEL = model("m")


def content_of(request: PictureRequest, index: int) -> bytes:
    return request.payload.data.split()[index]


def windows_of(contents: list[bytes], size: float = 2, stride: float = 1, frames: int = 2) -> list[Window]:
    """A frame every second; several contents in one make a segment."""
    stream = StreamWindows("s", WindowConfig(size=size, stride=stride, frames=frames))
    second = 0
    for content in contents:
        payload = Payload("video/mp4" if b" " in content else "image/jpeg", content)
        for index in range(len(content.split())):
            stream.add(BufferedFrame(second * 1_000_000, second, payload, index))
            second += 1
        second += not content
    return stream.flush()


def test_predictions_come_in_order_with_their_windows() -> None:
    recorder = Recorder()
    windows = windows_of([b"1", b"1", b"4", b"4", b"6", b"6"], size=2, stride=2)
    predictions = infer_windows(recorder.stages(), windows, always(MODEL)).predictions
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
    infer_windows(recorder.stages(), windows[:2], always(MODEL))
    infer_windows(recorder.stages(), windows[2:], always(MODEL))
    assert recorder.searched() == [b"1", b"2", b"3", b"4"]


def test_the_frames_of_a_segment_are_one_request() -> None:
    recorder = Recorder()
    windows = windows_of([b"1", b"2 3 4 5", b"6"], size=3, stride=1, frames=3)
    predictions = infer_windows(recorder.stages(), windows, always(MODEL)).predictions
    assert [request.indices for request in recorder.requests] == [(0,), (0, 1, 2, 3), (0,)]
    assert [p.expression for p in predictions[:1]] == [EXPRESSIONS[1]]
    assert recorder.searched() == [b"1", b"2", b"3", b"4", b"5", b"6"]
    assert [p.window.faces for p in predictions[:4]] == [3, 3, 3, 3]


def test_windows_without_a_face_and_gaps_reach_no_model() -> None:
    recorder = Recorder()
    windows = windows_of([b"none", b"", b"", b"3"], size=1, stride=1)
    predictions = infer_windows(recorder.stages(), windows, always(MODEL)).predictions
    assert [p.status for p in predictions] == ["no_face", "gap", "gap", "ok"]
    assert [p.window.frames for p in predictions] == [1, 0, 0, 1]
    assert recorder.batches == [1]


def test_a_face_in_passing_is_no_face() -> None:
    windows = windows_of([b"1", b"none", b"none", b"none", b"none"], size=5, stride=5, frames=5)
    (prediction,) = infer_windows(Recorder().stages(), windows, always(MODEL)).predictions
    assert (prediction.status, prediction.window.faces) == ("no_face", 1)


def test_a_broken_frame_is_reported_once_and_its_window_goes_on() -> None:
    recorder = Recorder()
    windows = windows_of([b"broken", b"2", b"2"], size=2, stride=1)
    inference = infer_windows(recorder.stages(), windows, always(MODEL))
    assert [(frame.seq, reason) for frame, reason in inference.broken] == [(0, "the image data is damaged")]
    assert [p.status for p in inference.predictions] == ["ok", "ok", "ok"]
    assert inference.predictions[0].window.faces == 1
    assert infer_windows(recorder.stages(), windows, always(MODEL)).broken == []


def test_a_broken_segment_is_reported_once_however_many_of_its_frames_break() -> None:
    recorder = Recorder()
    windows = windows_of([b"1 broken 3 broken broken 2"], size=2, stride=1)
    reported = [infer_windows(recorder.stages(), [window], always(MODEL)).broken for window in windows]
    assert [[(frame.seq, reason) for frame, reason in broken] for broken in reported if broken] == [
        [(1, "the image data is damaged")]
    ]
    assert recorder.searched() == [b"1", b"2", b"3", b"broken", b"broken", b"broken"]


def away(clips: list[np.ndarray], model: ServedModel) -> np.ndarray:
    raise RuntimeError("the model is away")


def test_what_broke_is_reported_after_all_when_the_model_failed_in_between() -> None:
    recorder = Recorder()
    stages = recorder.stages()
    windows = windows_of([b"broken", b"2"])

    with pytest.raises(RuntimeError, match="away"):
        infer_windows(replace(stages, classify=away), windows, always(MODEL))
    assert [frame.seq for frame, _ in infer_windows(stages, windows, always(MODEL)).broken] == [0]
    assert recorder.searched() == [b"2", b"broken"]


def test_windows_that_nobody_shall_look_at() -> None:
    recorder = Recorder()
    one, two, three = windows_of([b"1", b"2", b"3"])
    windows = [
        replace(one, chosen=(), skipped=True),
        replace(two, chosen=(), failed="out of memory"),
        replace(three, session=4),
    ]
    predictions = infer_windows(recorder.stages(), windows, always(MODEL)).predictions
    assert [(p.status, p.error, p.window.session) for p in predictions] == [
        ("skipped", None, 0), ("failed", "out of memory", 0), ("ok", None, 4),
    ]  # fmt: skip
    assert [p.window.frames for p in predictions] == [2, 2, 1]
    assert recorder.searched() == [b"3"]


def test_streams_of_two_models_are_asked_of_each_and_come_in_order() -> None:
    recorder = Recorder()
    ours, theirs = windows_of([b"1", b"2"]), [replace(one, stream_id="t") for one in windows_of([b"3", b"4"])]
    mixed = [ours[0], theirs[0], ours[1], theirs[1]]
    routes = {"s": Route(MODEL), "t": Route(model("other"))}
    predictions = infer_windows(recorder.stages(), mixed, routes.__getitem__).predictions
    assert [(p.stream_id, p.window.index, p.model.name) for p in predictions] == [
        ("s", 0, "m"), ("t", 0, "other"), ("s", 1, "m"), ("t", 1, "other"),
    ]  # fmt: skip
    assert recorder.asked == ["m", "other"]


def test_faces_that_were_cut_for_one_model_are_cut_again_for_another_that_reads_them_otherwise() -> None:
    recorder = Recorder()
    windows = windows_of([b"1", b"none"])
    infer_windows(recorder.stages(), windows, always(MODEL))
    infer_windows(recorder.stages(), windows, always(model("same")))
    assert recorder.searched() == [b"1", b"none"]
    infer_windows(recorder.stages(), windows, always(model("smaller", canvas=64)))
    assert recorder.searched() == [b"1", b"1", b"none"]
    assert recorder.cuts == [224, 64]


def test_a_shadow_is_asked_beside_and_its_answers_are_only_compared() -> None:
    recorder, heard = Recorder(), list[Shadowed]()
    windows = windows_of([b"1", b"2", b"3"], size=1)
    predictions = infer_windows(
        recorder.stages(), windows, lambda stream_id: Route(MODEL, model("shadow")), heard.append
    ).predictions
    assert {p.model.name for p in predictions} == {"m"}
    assert [one.prediction for one in heard] == predictions
    assert [one.beside and one.beside.model.name for one in heard] == ["shadow"] * 3
    assert recorder.asked == ["m", "shadow"]
    assert recorder.searched() == [b"1", b"2", b"3"]


def test_a_shadow_that_fails_hurts_nobody() -> None:
    recorder, heard = Recorder(), list[Shadowed]()

    def classify(clips: list[np.ndarray], asked: ServedModel) -> np.ndarray:
        return away(clips, asked) if asked.info.name == "shadow" else recorder.classify(clips, asked)

    stages = replace(recorder.stages(), classify=classify)
    predictions = infer_windows(
        stages, windows_of([b"1"]), lambda stream_id: Route(MODEL, model("shadow")), heard.append
    ).predictions
    assert [p.expression for p in predictions] == [EXPRESSIONS[1]]
    assert [one.beside for one in heard] == [None]
