"""Both stages in the process that asks: no Ray."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np

from ray_fer.models.transform import TransformConfig
from ray_fer.serving.catalogue import ServedModel
from ray_fer.serving.inference import Stages
from ray_fer.serving.stages import ExpressionStage, FaceResult, FaceStage
from ray_fer.streaming.payload import PictureRequest
from ray_fer.streaming.references import ReferencePolicy

MODELS_KEPT = 4
"""Models that a process holds at once; the one that was asked longest ago makes room for another."""


class InProcess:
    """Both stages in this process; calls wait for one another."""

    def __init__(self, references: ReferencePolicy | None = None, threads: int | None = None) -> None:
        self.stages = Stages(self._find, self._classify)
        self._threads = threads
        self._faces = FaceStage(references)
        self._models: OrderedDict[str, ExpressionStage] = OrderedDict()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let go of the face finder."""
        self._faces.close()

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _find(self, requests: list[PictureRequest], transform: TransformConfig) -> list[list[FaceResult]]:
        with self._lock:
            return self._faces.find(requests, transform)

    def _classify(self, clips: list[np.ndarray], model: ServedModel) -> np.ndarray:
        with self._lock:
            stage = self._models.pop(model.path, None) or ExpressionStage(model.path, self._threads)
            self._models[model.path] = stage
            if len(self._models) > MODELS_KEPT:
                self._models.popitem(last=False)
            return stage.probabilities(clips)
