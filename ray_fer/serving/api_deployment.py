"""The `Api` deployment: replicas that answer HTTP and WebSockets, and that know which models are served."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fastapi import FastAPI
from prometheus_client.core import Metric
from pydantic import ValidationError
from ray import serve
from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from ray_fer.bundle import load_bundle
from ray_fer.serving.api import create_api
from ray_fer.serving.api_figures import ApiFigures
from ray_fer.serving.catalogue import Catalogue, ModelsConfig, NoModelsError, ServedModel, read_catalogue
from ray_fer.serving.deployments import API
from ray_fer.serving.feed import Feed, Recent
from ray_fer.serving.inference import Stages
from ray_fer.serving.keys import KeyRing
from ray_fer.serving.last_good import remember, remembered
from ray_fer.serving.options import ServingOptions
from ray_fer.serving.stage_source import ReplicaStages, StageSource

_LOG = logging.getLogger(__name__)
_ANSWER_S = 3.0


@serve.deployment(name=API, max_ongoing_requests=200, ray_actor_options={"num_cpus": 0.1})
@serve.ingress()
class Api:
    """A `Backend`. Its `user_config` is a `ModelsConfig`, which may change while it runs."""

    def __init__(self, source: StageSource, workers: DeploymentHandle | None, options: ServingOptions) -> None:
        context = serve.get_replica_context()
        self.options = options
        self.figures = ApiFigures()
        self.keys = None if options.api.keys is None else KeyRing.load(options.api.keys)
        self.feed: Recent | None = None if options.kafka is None else Feed(options.kafka)
        self._replica, self._app = context.replica_tag, context.app_name
        self._source, self._workers = source, workers
        self._stages: Stages | None = None
        self._opening = threading.Lock()
        self._catalogue: Catalogue | None = None

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_api(self)

    async def reconfigure(self, config: dict[str, Any]) -> None:
        """Take over another list of models. They are loaded first, so that no window waits for them.

        What cannot be served is refused: the models that are served stay, and `GET /v1/models` says why. A replica that
        starts after that has the last list that was not refused. The first list of all must be right: BundleError, or
        ValueError.
        """
        try:
            fresh = ModelsConfig.model_validate(config)
            self._catalogue = await self._loaded(fresh)
        except Exception as error:  # a model may fail to load in many ways
            if self._catalogue is None:
                previous = await asyncio.to_thread(remembered, self._app)
                if previous is None:
                    raise
                self._catalogue = await self._loaded(previous)
            reason = (
                "; ".join(one["msg"] for one in error.errors()) if isinstance(error, ValidationError) else str(error)
            )
            _LOG.error("the new list of models is refused, and the old one stays: %s", reason)
            self._catalogue = replace(self._catalogue, refused=reason)
            return
        await asyncio.to_thread(remember, self._app, fresh)

    async def _loaded(self, config: ModelsConfig) -> Catalogue:
        """The models, those with a part in the streams loaded once. Raises BundleError, ValueError, what Ray raises."""
        frames = None if self.options.kafka is None else self.options.stream.windows.frames
        fresh = await asyncio.to_thread(read_catalogue, config, frames)
        await asyncio.gather(*(self._load(model) for _, model, role, _ in fresh.roles() if role != "available"))
        return fresh

    def check_health(self) -> None:
        if self.feed is not None and not self.feed.alive:
            raise RuntimeError("the reader of the predictions topic has ended")

    def __del__(self) -> None:
        if self.feed is not None:
            self.feed.close()
        self._source.close()

    def catalogue(self) -> Catalogue:
        """The models. Raises NoModelsError."""
        if self._catalogue is None:
            raise NoModelsError("no models are configured: give the deployment Api a user_config with `models`")
        return self._catalogue

    def stages(self) -> Stages:
        """See `Backend`."""
        with self._opening:
            if self._stages is None:
                self._stages = self._source.open()
            return self._stages

    async def ask_workers(self, method: str, *arguments: Any) -> Sequence[tuple[str, Any]]:
        """See `Backend`."""
        return [] if self._workers is None else await _ask_all(self._workers, method, *arguments)

    async def ask_apis(self) -> Sequence[tuple[str, list[Metric]]]:
        """See `Backend`."""
        return await _ask_all(serve.get_deployment_handle(API, self._app), "counted")

    def counted(self) -> tuple[str, list[Metric]]:
        """This replica, and what it has counted."""
        return self._replica, self.figures.families()

    async def _load(self, model: ServedModel) -> None:
        if isinstance(self._source, ReplicaStages):
            await self._source.expressions.options(multiplexed_model_id=model.path).load.remote()
        else:  # every process has its own; here it is seen whether there is one to be had
            await asyncio.to_thread(load_bundle, model.path)


async def _ask_all(handle: DeploymentHandle, method: str, *arguments: Any) -> list[tuple[str, Any]]:
    """The answers of all replicas that do not end just now. Raises TimeoutError when one does not answer."""
    try:
        answers = await handle.broadcast(method, *arguments).results_async(timeout_s=_ANSWER_S, return_exceptions=True)
    except DeploymentUnavailableError:
        return []
    for answer in answers:
        if isinstance(answer, BaseException):
            _LOG.warning("a replica did not answer: %s", answer)
    return [answer for answer in answers if not isinstance(answer, BaseException)]
