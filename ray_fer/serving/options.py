"""What a deployment is made of: Kafka, streams, replicas of each part, and the HTTP API."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ray_fer.serving.catalogue import ModelsConfig
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.options import StreamOptions

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names of this machine that no other machine reaches."""


class Replicas(BaseModel):
    """How many of a part: a number, or from so many to so many, as Serve's autoscaling finds best. Also read from text:
    "3", "1-4"."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    least: int = Field(1, ge=0)
    most: int = Field(1, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, value: Any) -> Any:
        if isinstance(value, int):
            return {"least": value, "most": value}
        if isinstance(value, str):
            found = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", value)
            if found is None:
                raise ValueError(f"{value!r} is no number of replicas: write 3, or 1-4 for as many as are needed")
            return {"least": int(found[1]), "most": int(found[2] or found[1])}
        return value

    @model_validator(mode="after")
    def _ordered(self) -> Replicas:
        if self.least > self.most:
            raise ValueError(f"{self.least}-{self.most}: the first number is the smaller one")
        if self.least == 0 < self.most:
            raise ValueError(f"0-{self.most}: without a replica nobody knows when one is needed; write 1-{self.most}")
        return self

    @property
    def fixed(self) -> bool:
        """Whether their number never changes."""
        return self.least == self.most


class Scaling(BaseModel):
    """How fast Serve's autoscaling acts, in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    look_back: float = Field(
        20.0, gt=10, description="what replicas report, every ten seconds, is averaged over so long"
    )
    upscale_delay: float = Field(5.0, ge=0, description="more are wanted for so long before they come")
    downscale_delay: float = Field(60.0, ge=0, description="fewer are wanted for so long before one goes")


class UploadLimits(BaseModel):
    """What one request to the API may cost."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_bytes: int = Field(200 * 1024**2, gt=0, description="of a request's body")
    max_seconds: float = Field(600.0, gt=0, description="length of a video")
    max_frames: int = Field(36_000, gt=0, description="frames of a video")
    max_images: int = Field(2_000, gt=0, description="images of a request")
    max_windows: int = Field(2_000, gt=0, description="windows of a request")
    max_receive_seconds: float = Field(300.0, gt=0, description="wall-clock time for a request's body to come")
    max_decode_seconds: float = Field(60.0, gt=0, description="wall-clock time to decode one file")
    at_once: int = Field(4, ge=1, description="files that a replica decodes at the same time")
    wait_s: float = Field(20.0, ge=0, description="how long a request waits for its turn")
    live_at_once: int = Field(32, ge=1, description="live connections of a replica")
    live_bytes: int = Field(4 * 1024**2, gt=0, description="of one frame of a live connection")
    live_held_bytes: int = Field(128 * 1024**2, gt=0, description="of all frames that a live connection waits with")


class ApiOptions(BaseModel):
    """Who may ask the HTTP API for what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: Path | None = Field(None, description="file of API keys (`ray-fer keys`); without it everyone may ask")
    allow_hosts: list[str] = Field(default_factory=list, description="hosts that videos may be fetched from")
    cors_origins: list[str] = Field(default_factory=list, description="web origins whose pages may call the API")
    hosts: list[str] = Field(default_factory=list, description="names by which browsers may know it; empty for any")
    listeners_at_once: int = Field(100, ge=1, description="listeners to server-sent events of a replica")
    uploads: UploadLimits = Field(default_factory=UploadLimits)


class ServingOptions(BaseModel):
    """The application that `app.build` makes; the `args` of a Serve config file."""

    model_config = ConfigDict(extra="forbid")

    models: ModelsConfig | None = Field(
        None, description="what is served at first; a Serve config file may give it as user_config of Api, to change it"
    )
    kafka: KafkaSettings | None = Field(None, description="the streams' Kafka; without it there is the HTTP API alone")
    stream: StreamOptions = Field(default_factory=StreamOptions)
    workers: Replicas = Field(Replicas(), description="stream workers; scaled on the lag of their topic")
    faces: Replicas | None = Field(
        None, description="face stage (default: 1 to one per CPU, at most 8); 0: in the processes that need it"
    )
    expressions: Replicas = Field(Replicas(), description="expression stage")
    apis: Replicas = Field(Replicas(), description="replicas of the HTTP API")
    expression_gpus: float = Field(0.0, ge=0, description="GPUs of each replica of the expression stage; may be a part")
    threads: int = Field(1, ge=1, description="CPU threads of a model")
    scaling: Scaling = Field(default_factory=Scaling)
    target_lag: int = Field(500, ge=1, description="unread records for which one more worker is worth while")
    api: ApiOptions = Field(default_factory=ApiOptions)

    @model_validator(mode="after")
    def _instance(self) -> ServingOptions:
        if self.kafka is not None and self.kafka.instance is not None and self.workers.most > 1:
            raise ValueError(
                f"instance {self.kafka.instance!r} is the name of a single worker, and there are {self.workers.most}: "
                "leave out instance in the Kafka settings, or run one worker"
            )
        return self
