"""Where the two stages run for those who ask them: in deployments of their own, or in the asker's process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from ray.serve.handle import DeploymentHandle

from ray_fer.models.transform import TransformConfig
from ray_fer.serving.catalogue import ServedModel
from ray_fer.serving.in_process import InProcess
from ray_fer.serving.inference import Stages
from ray_fer.serving.stages import FaceResult
from ray_fer.streaming.payload import PictureRequest, chunks
from ray_fer.streaming.references import ReferencePolicy

# A turn's work in as few calls as keep several replicas busy: a call costs some milliseconds, whatever it carries.
_FACES_PER_CALL = 16
_CLIPS_PER_CALL = 16
_TIMEOUT_S = 120.0


class StageSource(Protocol):
    """Pickled to where the stages are asked, and opened there."""

    def open(self) -> Stages:
        """The stages, which any thread may call; not from an event loop, which they would hold up."""

    def close(self) -> None:
        """Let go of them; safe before `open`."""


@dataclass
class ReplicaStages:
    """Replicas of `Faces` and `Expressions`, which many workers may share."""

    faces: DeploymentHandle
    expressions: DeploymentHandle

    def open(self) -> Stages:
        """See `StageSource`."""
        return Stages(self._find, self._classify)

    def close(self) -> None:
        """See `StageSource`."""

    def _find(self, requests: list[PictureRequest], transform: TransformConfig) -> list[list[FaceResult]]:
        calls = [self.faces.find.remote(chunk, transform) for chunk in chunks(requests, _FACES_PER_CALL)]
        return [results for call in calls for results in call.result(timeout_s=_TIMEOUT_S)]

    def _classify(self, clips: list[np.ndarray], model: ServedModel) -> np.ndarray:
        handle = self.expressions.options(multiplexed_model_id=model.path)
        starts = range(0, len(clips), _CLIPS_PER_CALL)
        calls = [handle.classify.remote(clips[start : start + _CLIPS_PER_CALL]) for start in starts]
        return np.concatenate([call.result(timeout_s=_TIMEOUT_S) for call in calls])


@dataclass
class OwnStages:
    """Stages of the asker's own."""

    references: ReferencePolicy
    threads: int | None = None
    _running: InProcess | None = field(default=None, init=False)

    def open(self) -> Stages:
        """See `StageSource`."""
        self._running = InProcess(self.references, self.threads)
        return self._running.stages

    def close(self) -> None:
        """See `StageSource`."""
        if self._running is not None:
            self._running.close()
