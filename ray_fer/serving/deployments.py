"""The Ray Serve graph: stream worker -> face stage -> expression stage, and the dashboard in front.

frames topic -> StreamWorkers -> Faces (N replicas)
                          |  `-> Expressions (batched)
                          `-> predictions topic -> Dashboard (HTTP, WebSocket)

The two stages may also run in the workers' own processes: nothing is sent from one to another then, but they cannot be
scaled, or put on GPUs, without them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import ray
import torch
from ray import serve

from ray_fer.bundle import read_config
from ray_fer.models.transform import TransformConfig
from ray_fer.serving.dashboard import Dashboard
from ray_fer.serving.inference import Classify, FindFaces, Stages, infer_windows
from ray_fer.serving.stage_source import OwnStages, ReplicaStages, StageSource
from ray_fer.serving.stages import ExpressionStage, FaceResult, FaceStage
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.messages import ModelInfo
from ray_fer.streaming.options import StreamOptions
from ray_fer.streaming.payload import PictureRequest
from ray_fer.streaming.references import ReferencePolicy
from ray_fer.streaming.windows import Window
from ray_fer.streaming.worker import Inference, StreamWorker

_STOP_S = 20.0


@serve.deployment(max_ongoing_requests=2, ray_actor_options={"num_cpus": 0.3})
class Faces:
    """Replica of the face stage."""

    def __init__(self, transform: dict[str, Any], references: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        self._stage = FaceStage(TransformConfig(**transform), ReferencePolicy(**references))

    def find(self, requests: list[PictureRequest]) -> list[list[FaceResult]]:
        return self._stage.find(requests)

    def __del__(self) -> None:
        self._stage.close()


@serve.deployment(max_ongoing_requests=2, ray_actor_options={"num_cpus": 0.3})
class Expressions:
    """Replica of the expression stage."""

    def __init__(self, bundle: str, threads: int) -> None:
        self._stage = ExpressionStage(bundle, threads)

    def classify(self, clips: list[np.ndarray]) -> np.ndarray:
        return self._stage.probabilities(clips)

    def describe(self) -> tuple[list[str], int, ModelInfo]:
        """Classes, frames per window, and model name and version."""
        return self._stage.classes, self._stage.frames, self._stage.info


@serve.deployment(
    max_ongoing_requests=8,
    health_check_period_s=2,
    health_check_timeout_s=10,
    graceful_shutdown_timeout_s=25,
    ray_actor_options={"num_cpus": 0.1},
)
class Stream:
    """Runs a StreamWorker on a thread of its own; Serve restarts the replica when that thread dies.

    A replica that Serve takes away, for scaling down, an update or a node that is drained, leaves the group first, so
    the others have its partitions within a heartbeat. One whose process is ended from outside cannot, not even by
    SIGTERM, which Ray takes for itself: nothing is lost or repeated then, but its partitions wait for as long as
    `session_timeout_ms`.
    """

    def __init__(self, stages: StageSource, settings: dict[str, Any], options: dict[str, Any]) -> None:
        self._replica = serve.get_replica_context().replica_tag
        self._source = stages
        self._error: BaseException | None = None
        self._stages: Stages | None = None
        self._worker = StreamWorker(KafkaSettings(**settings), StreamOptions(**options), self._infer)
        self._thread = threading.Thread(target=self._run, name="stream-worker", daemon=True)
        self._thread.start()

    def check_health(self) -> None:
        if not self._thread.is_alive():
            raise RuntimeError("the stream worker has ended") from self._error

    def statistics(self) -> tuple[str, dict[str, Any]]:
        """This replica, and what its worker has counted, without single streams."""
        return self._replica, self._worker.statistics.summary()

    def newest_streams(self, limit: int) -> tuple[str, list[dict[str, Any]]]:
        """This replica, and figures of the streams that it heard of last."""
        return self._replica, self._worker.statistics.newest_streams(limit)

    def __del__(self) -> None:
        # Serve drains requests, not consumers: finish the turn, commit and leave the group here.
        self._worker.stop()
        self._thread.join(timeout=_STOP_S)
        self._source.close()

    def _run(self) -> None:
        try:
            self._worker.run()
        except BaseException as error:
            self._error = error
            raise

    def _infer(self, windows: Sequence[Window]) -> Inference:
        if self._stages is None:
            opened = self._source.open()
            self._stages = replace(
                opened,
                find_faces=partial(self._find_faces, opened.find_faces),
                classify=partial(self._classify, opened.classify),
            )
        return infer_windows(self._stages, windows)

    def _find_faces(self, find: FindFaces, requests: list[PictureRequest]) -> list[list[FaceResult]]:
        statistics = self._worker.statistics
        with statistics.stage("faces", sum(len(request.indices) for request in requests)):
            found = find(requests)
        statistics.faces_found += sum(result.face is not None for results in found for result in results)
        return found

    def _classify(self, classify: Classify, clips: list[np.ndarray]) -> np.ndarray:
        with self._worker.statistics.stage("expressions", len(clips)):
            return classify(clips)


def face_replicas() -> int:
    """Face stage replicas for the current cluster: one per CPU, at most 8."""
    return max(1, min(int(ray.cluster_resources().get("CPU", 1)), 8))


def build_app(
    bundle: str, settings: KafkaSettings, options: StreamOptions, faces: int, workers: int = 1, threads: int = 1
) -> serve.Application:
    """The Serve application; its route serves the dashboard. With 0 `faces` the workers hold both stages themselves.

    Several workers are dynamic members of their group: ValueError for `instance` with more than one. Serve has no
    lasting name for a replica to derive theirs from. Its id is new after a restart, and its rank is another replica's
    after scaling down, which would then shut out the one that joined under that name. A dynamic member that ends says
    goodbye, so the others have its partitions at once and read their own on meanwhile.
    """
    if workers > 1 and settings.instance is not None:
        raise ValueError(
            f"instance {settings.instance!r} is the name of a single worker, and there are {workers}: leave out "
            "instance in the Kafka settings, or run one worker"
        )
    if faces:
        # mypy does not follow class decorators: to it these are plain classes.
        transform = read_config(bundle).preprocessing.model_dump()
        face_stage = Faces.options(num_replicas=faces).bind(  # type: ignore[attr-defined]
            transform, options.references.model_dump()
        )
        expressions = Expressions.bind(bundle, threads)  # type: ignore[attr-defined]
        stages: StageSource = ReplicaStages(face_stage, expressions)
    else:
        stages = OwnStages(bundle, options.references, threads)
    stream = Stream.options(num_replicas=workers).bind(  # type: ignore[attr-defined]
        stages, settings.model_dump(), options.model_dump()
    )
    return Dashboard.bind(stream, settings.model_dump())  # type: ignore[attr-defined]
