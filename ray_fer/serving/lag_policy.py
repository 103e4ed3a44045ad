"""How many stream workers a topic needs: Serve's autoscaling asks this policy, which speaks no Kafka itself.

The workers report what they have not read yet and how busy they are (`Stream.record_autoscaling_stats`), so that no
credentials and no connection are needed where Serve's controller runs. Serve's delays and bounds hold as for any
policy: `upscale_delay_s` keeps a short burst from starting processes, `downscale_delay_s` a lull from ending them.
"""

from __future__ import annotations

import math
from typing import Any

from ray.serve.config import AutoscalingContext

_BUSY = 0.75
"""Share of its time that a worker's model should be at work: the rest is for streams that come."""


class LagPolicy:
    """Workers by lag and by load, never more than there are partitions.

    Lag alone swings: with two workers that just keep up it is nothing, which looks as if one were enough. So it says
    when there are too few, one for each `target_lag` unread records, and what the workers have to do says when there
    are too many.
    """

    def __init__(self, target_lag: int) -> None:
        self._target_lag = target_lag

    def __call__(self, context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
        """How many replicas there should be, and what was seen, which Serve keeps."""
        reported = context.aggregated_metrics or {}
        lag = sum(reported.get("lag_records", {}).values())
        busy = sum(reported.get("busy", {}).values())
        partitions = max(reported.get("partitions", {}).values(), default=0)
        if not partitions:  # nobody has reported yet, or nobody has read the topic's partitions
            return context.target_num_replicas, {}
        wanted = max(math.ceil(lag / self._target_lag), math.ceil(busy / _BUSY - 0.05), 1)
        return min(wanted, int(partitions)), {"lag_records": lag, "busy": busy, "partitions": partitions}
