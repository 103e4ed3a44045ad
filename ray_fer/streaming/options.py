"""How a deployment treats its streams, beside where Kafka is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from ray_fer.streaming.freshness import Freshness
from ray_fer.streaming.references import ReferencePolicy
from ray_fer.streaming.windows import WindowConfig


class StreamOptions(BaseModel):
    """Windows, what to do when the model cannot keep up, and which references are followed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    windows: WindowConfig = Field(default_factory=WindowConfig)
    freshness: Freshness = Field(default_factory=Freshness)
    references: ReferencePolicy = Field(default_factory=ReferencePolicy)
    windows_per_turn: int = Field(32, ge=1, description="windows that the model is given at once, at most")
