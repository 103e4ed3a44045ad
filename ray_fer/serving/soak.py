"""Live streams for a quarter of an hour that come and go: memory must stay flat, and every window come once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ray_fer.process_use import Use, Watch
from ray_fer.serving.cameras import Footage, live
from ray_fer.serving.stream_speed import APP, Latencies, System, measured, running
from ray_fer.streaming.messages import Prediction

_SHARE, _BYTES = 0.10, 30e6
"""What the memory of a part may grow by; a smaller one by so many bytes."""
_TELL_EVERY_S = 60.0


@dataclass
class Soak:
    """What came of it. `windows` are those of all streams; a window is missing when one before and one after came."""

    seconds: float
    streams: int
    windows: int
    missing: int
    repeated: int
    p50_s: float
    p99_s: float
    growth: dict[str, float]
    """Of each part: bytes that it has more at the end than after the first third."""
    flat: dict[str, bool]
    use: Use
    latency: Latencies = field(repr=False)

    def passed(self) -> bool:
        return all(self.flat.values()) and not self.missing and not self.repeated


def soak(
    system: System,
    footage: Footage,
    streams: int,
    seconds: float,
    replaced_every_s: float,
    say: Callable[[str], None] = print,
) -> Soak:
    """Run the graph on live streams for so long; each ends after `replaced_every_s`, and another begins."""
    seen: dict[tuple[str, int], list[int]] = {}
    latency: Latencies = []
    with (
        running(system) as (settings, poll),
        live(settings, footage, streams, replaced_every_s) as (pid, _),
        Watch(APP, {**system.pids, pid: "producer"}) as watch,
    ):
        began, told = time.monotonic(), 0.0
        while (now := time.monotonic() - began) < seconds:
            for record in poll():
                one = Prediction.model_validate_json(record.value)
                seen.setdefault((one.stream_id, one.window.session), []).append(one.window.index)
                latency.append(measured(now, one))
            if now - told >= _TELL_EVERY_S:
                told = now
                held = {part: samples[-1][1] / 1e6 for part, samples in watch.use().memory.items()}
                parts = ", ".join(f"{part} {size:.0f}" for part, size in sorted(held.items()))
                say(f"{now / 60:.0f} min: {len(latency)} windows of {len(seen)} streams; MB: {parts}")
        use = watch.use()
    growth = {part: _growth(samples) for part, samples in use.memory.items()}
    values = [one.late_s for one in latency]
    return Soak(
        seconds=use.seconds,
        streams=len(seen),
        windows=len(latency),
        missing=sum(max(indices) - min(indices) + 1 - len(set(indices)) for indices in seen.values()),
        repeated=sum(len(indices) - len(set(indices)) for indices in seen.values()),
        p50_s=float(np.percentile(values, 50)),
        p99_s=float(np.percentile(values, 99)),
        growth=growth,
        flat=flat_parts(use.memory),
        use=use,
        latency=latency,
    )


def flat_parts(memory: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, bool]:
    """Of each part, whether its memory grew by no more than is allowed after the first third of the samples."""
    return {
        part: _growth(samples) <= max(_BYTES, _SHARE * max(size for _, size in samples))
        for part, samples in memory.items()
    }


def _growth(samples: Sequence[tuple[float, float]]) -> float:
    """Median of the last sixth less that of the second sixth of the rest: caches are full after a third."""
    sizes = [size for _, size in samples]
    sixth = max(1, len(sizes) // 6)
    third = min(2 * sixth, len(sizes) - 1)
    return float(np.median(sizes[-sixth:]) - np.median(sizes[third : third + sixth]))
