"""`predict` on real and rendered video with the packaged model."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_fer.bundle import PACKAGED
from ray_fer.serving.demo_streams import DemoStream
from ray_fer.serving.demo_summary import summarise, write_files
from ray_fer.serving.predict import predict_video
from ray_fer.streaming.frame_message import FrameMessage
from ray_fer.streaming.windows import WindowConfig
from tests.predictions import prediction


def test_one_window_for_every_second(media: Path) -> None:
    predictions = list(predict_video(PACKAGED, media / "face_noface.mov"))
    assert [p.window.index for p in predictions] == list(range(7))
    assert [p.status for p in predictions] == ["ok"] * 2 + ["no_face"] * 5
    for p in predictions[:2]:
        assert sum(p.probabilities.values()) == pytest.approx(1, abs=1e-4)
        assert p.expression == max(p.probabilities, key=lambda name: p.probabilities[name])
        assert p.culture.source == "global_prior"
        assert p.model.name == "cafer-synthfer"


def test_a_rendered_smile_is_recognised(happy_clip: Path) -> None:
    first = next(predict_video(PACKAGED, happy_clip))
    assert first.expression == "Happy"
    assert first.window.faces == 16


def test_windows_must_hold_what_the_model_reads(media: Path) -> None:
    with pytest.raises(ValueError, match="windows of 8 frames, but the model reads 16"):
        list(predict_video(PACKAGED, media / "single_face.mp4", WindowConfig(frames=8)))


def test_the_summary_scores_only_windows_that_cover_one_label(tmp_path: Path, jpeg: bytes) -> None:
    config = WindowConfig()
    messages = [FrameMessage("s", i * 100_000, i, "image/jpeg", jpeg) for i in range(100)]
    stream = DemoStream("s", messages, [("Happy", 0, 5_000_000), ("Sad", 5_000_000, 10_000_000)])
    predictions = [prediction(i, "Happy") for i in range(9)] + [prediction(8, "Sad")]
    summary = summarise([stream], predictions, config, ["Happy", "Sad"])
    assert summary["streams"]["s"] == {"windows": 10, "expected": 10, "no_face": 0, "labelled": 2, "correct": 1}
    assert (summary["repeated"], summary["missing"]) == (1, 1)
    assert summary["classification"]["uar"] == 0.5
    assert summary["latency_ms"]["p50"] == 450.0
    paths = write_files(tmp_path, [stream], predictions, summary, config)
    assert len(paths["predictions.jsonl"].read_text().splitlines()) == 10
    assert paths["timeline.png"].read_bytes().startswith(b"\x89PNG")


def test_a_labelled_window_without_a_prediction_is_wrong(jpeg: bytes) -> None:
    messages = [FrameMessage("s", i * 100_000, i, "image/jpeg", jpeg) for i in range(50)]
    stream = DemoStream("s", messages, [("Happy", 0, 5_000_000)])
    for answers in ([], [prediction(0, None)]):
        assert summarise([stream], answers, WindowConfig(), ["Happy"])["classification"]["uar"] == 0.0
