"""The Serve application: what a config file imports, and what `ray-fer serve` deploys.

frames topic -> Stream (workers) <-> Faces, Expressions (stages) <-> Api <- HTTP, WebSocket
                   `-> predictions topic -> Api

The two stages may also run in the processes that need them: nothing is sent from one to another then, but they cannot
be scaled, or put on GPUs, without them.
"""

from __future__ import annotations

from typing import Any

import ray
from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

from ray_fer.serving import api_deployment, deployments
from ray_fer.serving.lag_policy import LagPolicy
from ray_fer.serving.options import Replicas, Scaling, ServingOptions
from ray_fer.serving.stage_source import OwnStages, ReplicaStages, StageSource

# mypy does not follow class decorators: to it these are plain classes.
_API: Any = api_deployment.Api
_STREAM: Any = deployments.Stream
_FACES: Any = deployments.Faces
_EXPRESSIONS: Any = deployments.Expressions


def build(args: ServingOptions | dict[str, Any]) -> serve.Application:
    """The application; its route has the API and the dashboard. A config file's `args` come as they are written.

    Several workers are dynamic members of their group: Serve has no lasting name for a replica from which to derive
    that of a static one. Its id is new after a restart, and its rank is another replica's after scaling down, which
    would then shut out the one that joined under that name. A dynamic member that ends says goodbye, so the others have
    its partitions at once and read their own on meanwhile.
    """
    options = ServingOptions.model_validate(args)
    return application(options, _stages(options))


def application(args: ServingOptions, stages: StageSource) -> serve.Application:
    """As `build`, with the stages wherever `stages` has them."""
    stream = None
    if args.kafka is not None:
        policy = AutoscalingPolicy(policy_function=LagPolicy, policy_kwargs={"target_lag": args.target_lag})
        options = replicas(args.workers, args.scaling, 1, policy)
        stream = _STREAM.options(**options).bind(stages, args.kafka, args.stream)
    options = replicas(args.apis, args.scaling, 16)
    if args.models is not None:
        options["user_config"] = args.models.model_dump()
    return _API.options(**options).bind(stages, stream, args)


def replicas(
    wanted: Replicas, scaling: Scaling, ongoing: float, policy: AutoscalingPolicy | None = None
) -> dict[str, Any]:
    """Options of a deployment of so many replicas, each with about so many requests at a time where Serve chooses."""
    if wanted.fixed:
        return {"num_replicas": wanted.least}
    given: dict[str, Any] = {} if policy is None else {"policy": policy}
    return {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=wanted.least, max_replicas=wanted.most, target_ongoing_requests=ongoing,
            look_back_period_s=scaling.look_back, upscale_delay_s=scaling.upscale_delay,
            downscale_delay_s=scaling.downscale_delay, **given,
        )
    }  # fmt: skip


def _stages(args: ServingOptions) -> StageSource:
    faces = args.faces or Replicas(least=1, most=face_replicas())
    if not faces.most:
        return OwnStages(args.stream.references, args.threads)
    face_stage = _FACES.options(**replicas(faces, args.scaling, 1.5)).bind(args.stream.references)
    actor: dict[str, Any] = {"num_cpus": 0.3}
    if args.expression_gpus:
        actor["num_gpus"] = args.expression_gpus
    expressions = _EXPRESSIONS.options(**replicas(args.expressions, args.scaling, 8), ray_actor_options=actor).bind(
        args.threads
    )
    return ReplicaStages(face_stage, expressions)


def face_replicas() -> int:
    """Face stage replicas that the current cluster is good for: one per CPU, at most 8."""
    return max(1, min(int(ray.cluster_resources().get("CPU", 1)), 8))
