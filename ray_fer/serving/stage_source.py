"""Where a stream worker has its two stages: in deployments of their own, or in its own process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from ray.serve.handle import DeploymentHandle

from ray_fer.serving.inference import Stages
from ray_fer.serving.stages import ExpressionStage, FaceResult, FaceStage
from ray_fer.streaming.payload import PictureRequest, chunks
from ray_fer.streaming.references import ReferencePolicy

# A turn's work in as few calls as keep several replicas busy: a call costs some milliseconds, whatever it carries.
_FACES_PER_CALL = 16
_CLIPS_PER_CALL = 16
_TIMEOUT_S = 120.0


class StageSource(Protocol):
    """Pickled to where the worker runs, and opened there."""

    def open(self) -> Stages:
        """The stages, ready to be called by one thread. Raises what the model's loading or replicas raise."""

    def close(self) -> None:
        """Let go of them; safe before `open`."""


@dataclass
class ReplicaStages:
    """Replicas of `Faces` and `Expressions`, which many workers may share."""

    faces: DeploymentHandle
    expressions: DeploymentHandle

    def open(self) -> Stages:
        """See `StageSource`."""
        classes, _, model = self.expressions.describe.remote().result(timeout_s=_TIMEOUT_S)
        return Stages(self._find, self._classify, classes, model)

    def close(self) -> None:
        """See `StageSource`."""

    def _find(self, requests: list[PictureRequest]) -> list[list[FaceResult]]:
        calls = [self.faces.find.remote(chunk) for chunk in chunks(requests, _FACES_PER_CALL)]
        return [results for call in calls for results in call.result(timeout_s=_TIMEOUT_S)]

    def _classify(self, clips: list[np.ndarray]) -> np.ndarray:
        starts = range(0, len(clips), _CLIPS_PER_CALL)
        calls = [self.expressions.classify.remote(clips[start : start + _CLIPS_PER_CALL]) for start in starts]
        return np.concatenate([call.result(timeout_s=_TIMEOUT_S) for call in calls])


@dataclass
class OwnStages:
    """A model of the worker's own."""

    bundle: str
    references: ReferencePolicy
    threads: int
    _faces: FaceStage | None = field(default=None, init=False)

    def open(self) -> Stages:
        """See `StageSource`."""
        expressions = ExpressionStage(self.bundle, self.threads)
        self._faces = FaceStage(expressions.transform, self.references)
        return Stages(self._faces.find, expressions.probabilities, expressions.classes, expressions.info)

    def close(self) -> None:
        """See `StageSource`."""
        if self._faces is not None:
            self._faces.close()
