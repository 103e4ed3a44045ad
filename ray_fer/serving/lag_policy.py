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
    when there are too few, one for each `target_lag` unread records, and nobody goes before it is below that. What the
    workers have to do says when there are too many.
    """

    def __init__(self, target_lag: int) -> None:
        self._target_lag = target_lag

    def __call__(self, context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
        """How many replicas there should be, and what was seen, which Serve keeps."""
        lag = sum(_newest(context, "lag_records"))
        busy = sum(_newest(context, "busy"))
        partitions = int(max(_newest(context, "partitions"), default=0))
        now = context.target_num_replicas
        if not partitions:  # nobody has reported yet, or nobody has read the topic's partitions
            return now, {}
        wanted = max(math.ceil(lag / self._target_lag), math.ceil(busy / _BUSY - 0.05), 1)
        if lag > self._target_lag:
            wanted = max(wanted, now)
        return min(wanted, partitions), {"lag_records": lag, "busy": busy, "partitions": partitions}


def _newest(context: AutoscalingContext, name: str) -> list[float]:
    """What each replica said last: a lag that grows is what it is now, and not its mean over the look-back."""
    series = (context.raw_metrics or {}).get(name, {})
    return [values[-1].value for values in series.values() if values]
