"""How fast clips are rendered, in batches and one frame at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from ray_fer.datasets.synthfer.conditions import make_take
from ray_fer.datasets.synthfer.identities import build_identity
from ray_fer.datasets.synthfer.photos import load_photos
from ray_fer.datasets.synthfer.plan import SynthOptions, plan
from ray_fer.datasets.synthfer.renderer import render, render_batch


@dataclass(frozen=True)
class Speed:
    """One way of rendering: frames per second, and how that compares to one frame at a time on the CPU."""

    device: str
    way: str
    frames_per_second: float
    ratio: float


def measure_speed(preset: str = "balanced", batch_size: int = 4, seconds: float = 3.0) -> list[Speed]:
    """Render batches of whole clips for about `seconds` per device, on the CPU and, where there is one, on the GPU.

    The baseline renders the same clips with the same code on the CPU, one frame per call. Drawing the clips'
    conditions is part of every measurement; making the identities is not. Frames stay on their device.
    """
    specs = plan({"train": batch_size}, SynthOptions(preset))
    photos = load_photos([name for spec in specs for name in spec.subject.photos])
    identities = {one: build_identity(one, photos, preset == "scene") for one in {spec.subject for spec in specs}}
    length = min(spec.frames for spec in specs)

    def batches(device: str) -> int:
        frames = render_batch(specs, identities, device, length)[0]
        if device == "cuda":
            torch.cuda.synchronize()
        return frames.shape[0] * frames.shape[1]

    def single_frames() -> int:
        take = make_take(specs[0], identities[specs[0].subject])
        for frame in range(length):
            render([take], np.array([[frame]]))
        return length

    baseline = _rate(single_frames, seconds)
    result = [Speed("cpu", "one frame at a time (baseline)", baseline, 1.0)]
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        rate = _rate(partial(batches, device), seconds)
        result.append(Speed(device, f"batches of {batch_size} clips", rate, rate / baseline))
    return result


def _rate(render_some: Callable[[], int], seconds: float) -> float:
    """Frames per second of a function that returns how many it rendered; the first call only warms up."""
    render_some()
    started, frames = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        frames += render_some()
    return frames / (time.perf_counter() - started)
