"""The replicas of the Serve application beside its API: stream workers and the two model stages."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from ray import serve

from ray_fer.models.transform import TransformConfig
from ray_fer.serving.catalogue import Catalogue
from ray_fer.serving.in_process import MODELS_KEPT
from ray_fer.serving.inference import Classify, FindFaces, Shadowed, Stages, infer_windows
from ray_fer.serving.routes import Routes
from ray_fer.serving.stage_source import StageSource
from ray_fer.serving.stages import ExpressionStage, FaceResult, FaceStage
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.options import StreamOptions
from ray_fer.streaming.payload import PictureRequest
from ray_fer.streaming.references import ReferencePolicy
from ray_fer.streaming.windows import Window
from ray_fer.streaming.worker import Inference, StreamWorker

API = "Api"
"""Name of the deployment that lists the models."""

_STOP_S = 20.0
_LOAD_S = 10.0
"""How far back a worker looks to say how busy it is."""
_REPORT_EVERY_S = 2.0
"""To Serve's autoscaling, whose own ten seconds are long for a lag that grows."""
_LIST_S = 10.0
_TOGETHER = 64
_GATHER_S = 0.005


@serve.deployment(max_ongoing_requests=2, ray_actor_options={"num_cpus": 0.3})
class Faces:
    """Replica of the face stage."""

    def __init__(self, references: ReferencePolicy) -> None:
        torch.set_num_threads(1)
        self._stage = FaceStage(references)

    def find(self, requests: list[PictureRequest], transform: TransformConfig) -> list[list[FaceResult]]:
        return self._stage.find(requests, transform)

    def __del__(self) -> None:
        self._stage.close()


@serve.deployment(max_ongoing_requests=32, ray_actor_options={"num_cpus": 0.3})
class Expressions:
    """Replica of the expression stage, with up to four models at once.

    Calls that come within some milliseconds of each other, or while the model works, are answered together. Serve sends
    a call to a replica that has its model loaded, if there is one.
    """

    def __init__(self, threads: int, together: int = _TOGETHER) -> None:
        self._threads = threads
        self._gathered.set_max_batch_size(together)  # type: ignore[attr-defined]
        # The number of torch's threads is each calling thread's own.
        self._model_thread = ThreadPoolExecutor(1, "model", torch.set_num_threads, (threads,))

    async def classify(self, clips: list[np.ndarray]) -> np.ndarray:
        """Probabilities float32 [N,C] of the model that the call names."""
        return await self._gathered(clips)

    async def load(self) -> None:
        """Load the model that the call names, so that the first clip does not wait for it."""
        await self._model(serve.get_multiplexed_model_id())

    @serve.multiplexed(max_num_models_per_replica=MODELS_KEPT)
    async def _model(self, path: str) -> ExpressionStage:
        return await asyncio.to_thread(ExpressionStage, path, self._threads)

    @serve.batch(
        max_batch_size=_TOGETHER,
        batch_wait_timeout_s=_GATHER_S,
        batch_size_fn=lambda calls: sum(len(clips) for clips in calls),
    )
    async def _gathered(self, calls: list[list[np.ndarray]]) -> list[np.ndarray]:
        model = await self._model(serve.get_multiplexed_model_id())
        clips = [clip for call in calls for clip in call]
        answers = await asyncio.get_running_loop().run_in_executor(self._model_thread, model.probabilities, clips)
        return np.split(answers, np.cumsum([len(call) for call in calls])[:-1])


@serve.deployment(
    max_ongoing_requests=8,
    health_check_period_s=2,
    health_check_timeout_s=10,
    graceful_shutdown_timeout_s=25,
    ray_actor_options={
        "num_cpus": 0.1,
        "runtime_env": {"env_vars": {"RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": str(_REPORT_EVERY_S)}},
    },
)
class Stream:
    """Runs a StreamWorker on a thread of its own; Serve restarts the replica when that thread dies.

    A replica that Serve takes away, for scaling down, an update or a node that is drained, leaves the group first, so
    the others have its partitions within a heartbeat. One whose process is ended from outside cannot, not even by
    SIGTERM, which Ray takes for itself: nothing is lost or repeated then, but its partitions wait for as long as
    `session_timeout_ms`.
    """

    def __init__(self, stages: StageSource, settings: KafkaSettings, options: StreamOptions) -> None:
        context = serve.get_replica_context()
        self._replica, self._app = context.replica_tag, context.app_name
        self._source = stages
        self._routes = Routes(self._catalogue)
        self._error: BaseException | None = None
        self._stages: Stages | None = None
        self._worked: deque[tuple[float, float]] = deque([(time.monotonic(), 0.0)])
        self._worker = StreamWorker(settings, options, self._infer)
        self._thread = threading.Thread(target=self._run, name="stream-worker", daemon=True)
        self._thread.start()

    def check_health(self) -> None:
        if not self._thread.is_alive():
            raise RuntimeError("the stream worker has ended") from self._error

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What `LagPolicy` reads: unread records, partitions of the topic, and the share of time with work to do."""
        statistics, now = self._worker.statistics, time.monotonic()
        self._worked.append((now, statistics.worked_s("model")))
        while self._worked[1][0] < now - _LOAD_S:
            self._worked.popleft()
        (first, before), (last, after) = self._worked[0], self._worked[-1]
        return {
            "lag_records": float(sum(statistics.lag_records.values())),
            "partitions": float(self._worker.topic_partitions),
            "busy": (after - before) / max(last - first, 1.0),
        }

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

    def _catalogue(self) -> Catalogue:
        # Asked for by name: the API has a handle of the workers already, and two cannot be bound to each other.
        return serve.get_deployment_handle(API, self._app).catalogue.remote().result(timeout_s=_LIST_S)

    def _infer(self, windows: Sequence[Window]) -> Inference:
        if self._stages is None:
            opened = self._source.open()
            self._stages = replace(
                opened,
                find_faces=partial(self._find_faces, opened.find_faces),
                classify=partial(self._classify, opened.classify),
            )
        return infer_windows(self._stages, windows, self._routes.current().route, self._shadowed)

    def _find_faces(
        self, find: FindFaces, requests: list[PictureRequest], transform: TransformConfig
    ) -> list[list[FaceResult]]:
        statistics = self._worker.statistics
        with statistics.stage("faces", sum(len(request.indices) for request in requests)):
            found = find(requests, transform)
        statistics.faces_found += sum(result.face is not None for results in found for result in results)
        return found

    def _classify(self, classify: Classify, clips: list[np.ndarray], model: Any) -> np.ndarray:
        with self._worker.statistics.stage("expressions", len(clips)):
            return classify(clips, model)

    def _shadowed(self, one: Shadowed) -> None:
        said = "failed" if one.beside is None else "yes" if one.beside.expression == one.prediction.expression else "no"
        self._worker.statistics.shadow_windows[said] += 1
