"""What a deployment does when the model cannot keep up: every window however late, or the newest ones."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ray_fer.streaming.windows import Window


class Freshness(BaseModel):
    """`complete`: every window is looked at, and the lag may grow. `freshest`: one whose newest frame came more than
    `max_staleness` seconds ago is given out as `skipped`, so that the model's time goes to what is new."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: Literal["complete", "freshest"] = "complete"
    max_staleness: float = Field(10.0, gt=0, description="seconds; for `freshest`")

    def stale(self, window: Window, now_ms: float) -> bool:
        """Whether the window is to be passed over at this wall-clock time."""
        arrivals = [frame.arrived_ms for frame in window.chosen if frame.arrived_ms is not None]
        if self.policy == "complete" or not arrivals:
            return False
        return now_ms - max(arrivals) > self.max_staleness * 1000
