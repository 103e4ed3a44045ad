"""The Ray Serve graph: stream worker -> face stage -> expression stage, and the dashboard in front.

frames topic -> StreamWorker --> Faces (N replicas)
                          |  `-> Expressions (batched)
                          `-> predictions topic -> Dashboard (HTTP, WebSocket)
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import ray
from ray import serve
from ray.serve.handle import DeploymentHandle

from ray_fer.serving.dashboard import Dashboard
from ray_fer.serving.inference import Stages, infer_windows
from ray_fer.serving.stages import ExpressionStage, FaceResult, FaceStage
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.messages import ModelInfo
from ray_fer.streaming.options import StreamOptions
from ray_fer.streaming.payload import PictureRequest, chunks
from ray_fer.streaming.references import ReferencePolicy
from ray_fer.streaming.windows import Window
from ray_fer.streaming.worker import Inference, StreamWorker

_FACES_PER_CALL = 16
_STAGE_TIMEOUT_S = 120.0


@serve.deployment(max_ongoing_requests=2, ray_actor_options={"num_cpus": 0.3})
class Faces:
    """Replica of the face stage."""

    def __init__(self, references: dict[str, Any]) -> None:
        self._stage = FaceStage(ReferencePolicy(**references))

    def find(self, requests: list[PictureRequest]) -> list[list[FaceResult]]:
        return self._stage.find(requests)

    def __del__(self) -> None:
        self._stage.close()


@serve.deployment(max_ongoing_requests=64, ray_actor_options={"num_cpus": 0.3})
class Expressions:
    """Replica of the expression stage. Serve gathers single windows into batches."""

    def __init__(self, bundle: str, threads: int) -> None:
        self._stage = ExpressionStage(bundle, threads)

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.02)
    async def classify(self, clips: list[np.ndarray]) -> list[np.ndarray]:
        return list(self._stage.probabilities(clips))

    def describe(self) -> tuple[list[str], int, ModelInfo]:
        """Classes, frames per window, and model name and version."""
        return self._stage.classes, self._stage.frames, self._stage.info


@serve.deployment(
    max_ongoing_requests=8,
    health_check_period_s=2,
    graceful_shutdown_timeout_s=20,
    ray_actor_options={"num_cpus": 0.1},
)
class Stream:
    """Runs a StreamWorker on a thread of its own; Serve restarts the replica when that thread dies."""

    def __init__(
        self, faces: DeploymentHandle, expressions: DeploymentHandle, settings: dict[str, Any], options: dict[str, Any]
    ) -> None:
        self._faces = faces
        self._expressions = expressions
        self._error: BaseException | None = None
        self._stages: Stages | None = None
        self._worker = StreamWorker(KafkaSettings(**settings), StreamOptions(**options), self._infer)
        self._thread = threading.Thread(target=self._run, name="stream-worker", daemon=True)
        self._thread.start()

    def check_health(self) -> None:
        if not self._thread.is_alive():
            raise RuntimeError("the stream worker has ended") from self._error

    def statistics(self) -> dict[str, Any]:
        """Counters of the worker, without those of single streams."""
        return self._worker.statistics.summary()

    def __del__(self) -> None:
        # Serve drains requests, not consumers: finish the turn, commit and leave the group here.
        self._worker.stop()
        self._thread.join(timeout=15)

    def _run(self) -> None:
        try:
            self._worker.run()
        except BaseException as error:
            self._error = error
            raise

    def _infer(self, windows: Sequence[Window]) -> Inference:
        if self._stages is None:
            classes, _, model = self._expressions.describe.remote().result(timeout_s=_STAGE_TIMEOUT_S)
            self._stages = Stages(self._find_faces, self._classify, classes, model)
        return infer_windows(self._stages, windows)

    def _find_faces(self, requests: list[PictureRequest]) -> list[list[FaceResult]]:
        calls = [self._faces.find.remote(chunk) for chunk in chunks(requests, _FACES_PER_CALL)]
        return [result for call in calls for result in call.result(timeout_s=_STAGE_TIMEOUT_S)]

    def _classify(self, clips: list[np.ndarray]) -> np.ndarray:
        calls = [self._expressions.classify.remote(clip) for clip in clips]
        return np.stack([call.result(timeout_s=_STAGE_TIMEOUT_S) for call in calls])


def face_replicas() -> int:
    """Face stage replicas for the current cluster: one per CPU, at most 8."""
    return max(1, min(int(ray.cluster_resources().get("CPU", 1)), 8))


def build_app(
    bundle: str, settings: KafkaSettings, options: StreamOptions, faces: int, threads: int = 1
) -> serve.Application:
    """The Serve application; its route serves the dashboard."""
    # mypy does not follow class decorators: to it these are plain classes.
    face_stage = Faces.options(num_replicas=faces).bind(options.references.model_dump())  # type: ignore[attr-defined]
    expressions = Expressions.bind(bundle, threads)  # type: ignore[attr-defined]
    worker = Stream.bind(face_stage, expressions, settings.model_dump(), options.model_dump())  # type: ignore[attr-defined]
    return Dashboard.bind(worker, settings.model_dump())  # type: ignore[attr-defined]
