"""YOLOv8 face models as ONNX: what their output means, and which files are refused."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
import torch

from ray_fer.video.yolo_face import YoloError, YoloFaceFinder, decode_boxes

# A YOLO-shaped network [1,3,640,640] -> [1,5,400] of three operators: every box lies in the middle, 320 pixels wide,
# and its score is the mean brightness of one of 400 cells.
TOY_MODEL = base64.b64decode(
    "CAgSADrWAgpBCgZpbWFnZXMSAXAiC0F2ZXJhZ2VQb29sKhUKDGtlcm5lbF9zaGFwZUAgQCCgAQcqEAoHc3RyaWRlc0AgQCCgAQcKKQoBcAoBdwoB"
    "YhIBYyIEQ29udioVCgxrZXJuZWxfc2hhcGVAAUABoAEHChQKAWMKAXMSA291dCIHUmVzaGFwZRIBZypLCAUIAwgBCAEQAUIBd0o8AAAAAAAAAAAA"
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAq6qqPquqqj6rqqo+Kh0IBRABQgFiShQAAKBDAACgQwAAoEMAAKBDAAAAACoh"
    "CAMQB0IBc0oYAQAAAAAAAAAFAAAAAAAAAJABAAAAAAAAWiIKBmltYWdlcxIYChYIARISCgIIAQoCCAMKAwiABQoDCIAFYhoKA291dBITChEIARIN"
    "CgIIAQoCCAUKAwiQA0IECgAQDQ=="
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "toy.onnx"
    path.write_bytes(TOY_MODEL)
    return path


def output(*rows: tuple[float, float, float, float, float], extra: int = 0) -> np.ndarray:
    return np.array([[*row, *[0.0] * extra] for row in rows], np.float32).T[None]


def test_a_box_is_given_by_its_centre() -> None:
    assert decode_boxes(output((100, 80, 40, 20, 0.9))) == [(80.0, 70.0, 40.0, 20.0)]


def test_weak_boxes_and_copies_are_left_out() -> None:
    boxes = decode_boxes(
        output((100, 100, 40, 40, 0.6), (102, 100, 40, 40, 0.9), (300, 100, 40, 40, 0.5), (500, 100, 40, 40, 0.1))
    )
    assert boxes == [(82.0, 80.0, 40.0, 40.0), (280.0, 80.0, 40.0, 40.0)]


def test_models_with_five_points_are_read_too() -> None:
    assert len(decode_boxes(output((100, 80, 40, 20, 0.9), extra=15))) == 1


@pytest.mark.parametrize("shape", [(1, 84, 8400), (1, 6, 100), (5, 100)])
def test_other_models_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(YoloError, match="face model with one class"):
        decode_boxes(np.zeros(shape, np.float32))


def test_boxes_come_back_in_the_images_own_pixels(model: Path) -> None:
    finder = YoloFaceFinder(model)
    assert finder.find_box(np.full((100, 100, 3), 255, np.uint8)) == pytest.approx((25.0, 25.0, 50.0, 50.0))
    assert finder.find_box(np.full((640, 1280, 3), 255, np.uint8)) == pytest.approx((320.0, 320.0, 640.0, 640.0))
    assert finder.find_box(np.zeros((100, 100, 3), np.uint8)) is None


def test_all_boxes_come_back_the_largest_first(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image of 320 x 160 pixels is twice as large in the model's input."""
    finder = YoloFaceFinder(model)
    rows = output((100, 80, 40, 20, 0.9), (300, 80, 80, 40, 0.5), (500, 80, 0, 40, 0.9))
    monkeypatch.setattr("ray_fer.video.yolo_face.decode_boxes", lambda *arguments: decode_boxes(rows))
    image = np.zeros((160, 320, 3), np.uint8)
    assert finder.find_boxes(image) == [(130.0, 30.0, 40.0, 20.0), (40.0, 35.0, 20.0, 10.0)]
    assert finder.find_box(image) == (130.0, 30.0, 40.0, 20.0)


def test_pickled_models_are_refused_without_being_opened(tmp_path: Path) -> None:
    path = tmp_path / "yolov8n-face.pt"
    torch.save({"model": torch.nn.Linear(1, 1)}, path)
    with pytest.raises(YoloError, match="runs code when it is loaded"):
        YoloFaceFinder(path)


def test_files_that_are_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(YoloError, match="no such file"):
        YoloFaceFinder(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"not a graph")
    with pytest.raises(YoloError, match="not a readable ONNX file"):
        YoloFaceFinder(tmp_path / "bad.onnx")
