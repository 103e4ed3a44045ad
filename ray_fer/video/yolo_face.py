"""Find faces with a YOLOv8 face model, as an ONNX file run by OpenCV.

The published models are ``.pt`` files: pickled Python objects that run code when they are loaded, and that
``torch.load(weights_only=True)`` therefore refuses. Only ONNX is read here, which holds a graph and numbers. Convert a
model once, on a machine where its origin is trusted: ``yolo export model=yolov8n-face.pt format=onnx imgsz=640``.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ray_fer.video.boxes import Box, area

# Rows of the output [1,R,N]: centre x, centre y, width, height, score, and with R = 20 five points of x, y, visibility.
_ROWS = (5, 20)
_GREY = 114


class YoloError(ValueError):
    """A model file that cannot be used; the message says what to do."""


class YoloFaceFinder:
    """A single-class YOLOv8 face model with a square input of `side` pixels. Raises YoloError."""

    def __init__(self, weights: Path, side: int = 640, min_confidence: float = 0.25, max_overlap: float = 0.45) -> None:
        if not weights.is_file():
            raise YoloError(f"{weights}: no such file; export a YOLOv8 face model to ONNX and name it here")
        if weights.suffix.lower() != ".onnx":
            raise YoloError(
                f"{weights}: not an .onnx file; a .pt file runs code when it is loaded. Convert it where its origin is "
                f"trusted: yolo export model={weights.name} format=onnx imgsz={side}"
            )
        try:
            self._network = cv2.dnn.readNetFromONNX(str(weights))
        except cv2.error as error:
            raise YoloError(f"{weights}: not a readable ONNX file: {_reason(error)}") from error
        self._name = str(weights)
        self._side, self._min_confidence, self._max_overlap = side, min_confidence, max_overlap

    def find_box(self, image: np.ndarray) -> Box | None:
        """Box of the largest face in `image` uint8 [H,W,3] RGB, in its pixels, or None."""
        return next(iter(self.find_boxes(image)), None)

    def find_boxes(self, image: np.ndarray) -> list[Box]:
        """Boxes of all faces in `image` uint8 [H,W,3] RGB, in its pixels, largest first."""
        height, width = image.shape[:2]
        scale = self._side / max(height, width)
        canvas = np.full((self._side, self._side, 3), _GREY, np.uint8)
        small = cv2.resize(image, (max(1, round(width * scale)), max(1, round(height * scale))))
        canvas[: small.shape[0], : small.shape[1]] = small
        self._network.setInput(cv2.dnn.blobFromImage(canvas, 1 / 255))
        try:
            output = np.asarray(self._network.forward())
        except cv2.error as error:
            raise YoloError(
                f"{self._name}: does not run on {self._side} x {self._side} pixels: {_reason(error)}"
            ) from error
        boxes = decode_boxes(output, self._min_confidence, self._max_overlap, self._name)
        boxes = sorted((box for box in boxes if box[2] > 0 and box[3] > 0), key=area, reverse=True)
        return [(left / scale, top / scale, wide / scale, high / scale) for left, top, wide, high in boxes]


def decode_boxes(
    output: np.ndarray, min_confidence: float = 0.25, max_overlap: float = 0.45, name: str = "model"
) -> list[Box]:
    """Boxes in input pixels from a YOLOv8 output [1,R,N], after non-maximum suppression.

    Raises YoloError when R is not that of a face model (one class, with or without five points).
    """
    if output.ndim != 3 or output.shape[1] not in _ROWS:
        raise YoloError(
            f"{name}: output {list(output.shape)} is not that of a YOLOv8 face model with one class: [1, 5 or 20, N]"
        )
    rows = output[0, :5].T
    rows = rows[rows[:, 4] >= min_confidence]
    boxes = [(float(x - w / 2), float(y - h / 2), float(w), float(h)) for x, y, w, h, _ in rows]
    chosen = cv2.dnn.NMSBoxes(boxes, rows[:, 4].tolist(), min_confidence, max_overlap) if boxes else []
    return [boxes[int(i)] for i in np.asarray(chosen).ravel()]


def _reason(error: cv2.error) -> str:
    return str(error).strip().split("\n")[0]
