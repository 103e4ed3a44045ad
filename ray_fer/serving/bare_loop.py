"""What the stream is measured against: the same windows, faces and model in plain loops over frames in memory."""

from __future__ import annotations

import multiprocessing
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ray_fer.models.transform import prepare
from ray_fer.serving.cameras import FPS, Footage, messages
from ray_fer.serving.catalogue import served
from ray_fer.serving.in_process import InProcess
from ray_fer.serving.inference import Stages, always, infer_windows
from ray_fer.serving.stages import ExpressionStage
from ray_fer.serving.window_parts import Clock
from ray_fer.streaming.options import StreamOptions
from ray_fer.streaming.windows import BufferedFrame, StreamWindows, Window
from ray_fer.video.face_clip import FaceFrame, assemble, find_face
from ray_fer.video.faces import FaceFinder
from ray_fer.video.images import decode_image
from ray_fer.video.sampling import uniform_indices

_STREAMS = 16
"""Of one process: as many as fill its turns."""


@dataclass(frozen=True)
class LoopSpeed:
    """Windows per second of all processes together, and the milliseconds of processor time of each part per window."""

    windows_per_s: float
    parts_ms: dict[str, float]


def bare(bundle: Path, footage: Footage, options: StreamOptions, seconds: float, processes: int) -> LoopSpeed:
    """Choose frames, decode and search only those, classify: one stream after the other, no Kafka and no Ray."""
    return _in_processes(_bare, processes, (bundle, footage, options, seconds))


def naive(bundle: Path, footage: Footage, options: StreamOptions, seconds: float, processes: int) -> LoopSpeed:
    """The design that comes first to mind: decode and search every frame, classify when a window is full."""
    return _in_processes(_naive, processes, (bundle, footage, options, seconds))


def _in_processes(loop: Callable[..., LoopSpeed], processes: int, arguments: tuple[Any, ...]) -> LoopSpeed:
    """At the same time, as they hinder each other when all cores are busy; their speeds added, their parts' means."""
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        done = [one.result() for one in [pool.submit(loop, number, *arguments) for number in range(processes)]]
    parts = {name: round(float(np.mean([one.parts_ms[name] for one in done])), 2) for name in done[0].parts_ms}
    return LoopSpeed(sum(one.windows_per_s for one in done), parts)


def _bare(number: int, bundle: Path, footage: Footage, options: StreamOptions, seconds: float) -> LoopSpeed:
    clock = Clock()
    running, model = InProcess(threads=1), served(bundle)
    stages = Stages(
        clock.timing("faces", running.stages.find_faces), clock.timing("expression", running.stages.classify)
    )
    streams = range(number * _STREAMS, (number + 1) * _STREAMS)
    windows = {f"camera-{stream:03d}": StreamWindows(str(stream), options.windows) for stream in streams}
    waiting: deque[Window] = deque()
    began, answered = None, 0
    for message in messages(footage, streams, 3600):
        stream = windows[message.stream_id]
        stream.add(BufferedFrame(message.pts_us, message.seq, message.source()))
        waiting.extend(stream.ready())
        if len(waiting) < options.windows_per_turn:
            continue
        turn = [waiting.popleft() for _ in range(options.windows_per_turn)]
        answered += len(infer_windows(stages, turn, always(model)).predictions)
        if began is None:
            # The first turn warms up, and a stream's first window has four times as many new frames as the others.
            clock.seconds.clear()
            began, answered = time.perf_counter(), 0
        elif time.perf_counter() - began > seconds:
            break
    assert began is not None
    elapsed = time.perf_counter() - began
    running.close()
    return LoopSpeed(answered / elapsed, clock.per(answered))


def _naive(number: int, bundle: Path, footage: Footage, options: StreamOptions, seconds: float) -> LoopSpeed:
    expressions = ExpressionStage(bundle, threads=1)
    clock = Clock()
    transform = expressions.transform
    frames = round(options.windows.size * FPS)
    stride = round(options.windows.stride * FPS)
    found: deque[FaceFrame | None] = deque(maxlen=frames)
    classify = clock.timing("expression", expressions.probabilities)
    decode, find = clock.timing("decode", decode_image), clock.timing("detect and align", find_face)
    with FaceFinder() as finder:
        find(finder, decode(footage[number % len(footage)][0]))
        clock.seconds.clear()
        began = time.perf_counter()
        seen = 0
        while time.perf_counter() - began < seconds:
            camera = footage[number % len(footage)]
            found.append(find(finder, decode(camera[seen % len(camera)])))
            seen += 1
            if seen % stride == 0:
                chosen = uniform_indices(len(found), options.windows.frames)
                clip = prepare(torch.from_numpy(assemble([found[place] for place in chosen]).crops), transform)
                classify([clip.permute(0, 2, 3, 1).numpy()])
        windows = seen / stride
        return LoopSpeed(windows / (time.perf_counter() - began), clock.per(windows))
