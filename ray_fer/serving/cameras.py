"""Cameras for benchmarks of the stream: a few rendered faces as many streams of JPEGs, at full speed or live."""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from kafka import KafkaProducer

from ray_fer.datasets.manifest import read_manifest
from ray_fer.datasets.synthfer import SynthOptions, generate, plan_streams
from ray_fer.streaming.frame_message import FrameMessage
from ray_fer.streaming.kafka import producer
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.video.decode import iter_frames
from ray_fer.video.images import decode_image, encode_jpeg

WIDTH, HEIGHT, FPS = 640, 480, 30
JPEG_QUALITY = 85
_DIFFERENT = 4

Footage = Sequence[Sequence[bytes]]
"""JPEGs of each camera, which repeat."""


def record_footage(folder: Path, seconds: float = 10, seed: int = 7) -> Footage:
    """So many seconds of each of four SynthFER faces, 640x480, with the noise of a camera: some 50 KB a frame."""
    specs = plan_streams(_DIFFERENT, seed)
    frames = round(FPS * seconds)
    shown = math.ceil(frames / specs[0].part_frames)  # the other expressions would be rendered for nothing
    specs = [replace(spec, expressions=spec.expressions[:shown]) for spec in specs]
    manifest = generate(specs, folder, options=SynthOptions(seed=seed))
    noise = np.random.default_rng(seed).normal(0, 3, (8, HEIGHT, WIDTH, 1)).astype(np.float32)
    footage = []
    for row in read_manifest(manifest):
        images = [frame.image for frame in islice(iter_frames(row["path"]), frames)]
        larger = (cv2.resize(image, (WIDTH, HEIGHT)) + noise[number % 8] for number, image in enumerate(images))
        footage.append([encode_jpeg(np.clip(one, 0, 255).astype(np.uint8), JPEG_QUALITY) for one in larger])
    return footage


def record_video(camera: Sequence[bytes], path: Path) -> Path:
    """A camera's JPEGs as an MP4 of H.264."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for jpeg in camera:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(decode_image(jpeg), format="rgb24")))
        output.mux(stream.encode(None))
    return path


def message(footage: Footage, stream: int, number: int, start_us: int, stream_id: str | None = None) -> FrameMessage:
    """Frame `number` of a stream. Streams begin at different places of their footage, as cameras do."""
    camera = footage[stream % len(footage)]
    jpeg = camera[(number + 37 * stream) % len(camera)]
    pts_us = start_us + number * 1_000_000 // FPS
    return FrameMessage(stream_id or f"camera-{stream:03d}", pts_us, number, "image/jpeg", jpeg)


def messages(footage: Footage, streams: range, seconds: float) -> Iterator[FrameMessage]:
    """All frames of these streams, in the order of event time, which begins with 0."""
    for number in range(round(seconds * FPS)):
        for stream in streams:
            yield message(footage, stream, number, 0)


def send_all(settings: KafkaSettings, footage: Footage, streams: int, seconds: float) -> None:
    """Put so many seconds of every stream into the frames topic, as fast as it takes them."""
    writer = producer(settings)
    for one in messages(footage, range(streams), seconds):
        _send(writer, settings, one)
    writer.flush()
    writer.close()


def _send(writer: KafkaProducer, settings: KafkaSettings, one: FrameMessage) -> None:
    """To the streams' partitions in turn: by the hash of so few keys some would have twice as many as others."""
    partition = int(one.stream_id.split("-")[1]) % settings.partitions
    writer.send(settings.frames_topic, one.payload, one.key(), headers=one.headers(), partition=partition)


@contextmanager
def live(
    settings: KafkaSettings, footage: Footage, streams: int, replaced_every_s: float | None = None, first: int = 0
) -> Iterator[tuple[int, Callable[[], float]]]:
    """Streams from now on, whose event time is the clock's, sent by a process of its own until the end of the body.

    They are numbered from `first` on. With `replaced_every_s` each ends after so long, one after the other, and a new
    one takes its place. Yields the pid of that process, and a function that gives by how many seconds it was behind at
    most. Raises RuntimeError when it ended too early.
    """
    context = multiprocessing.get_context("spawn")
    stop, behind = context.Event(), context.Value("d", 0.0)
    arguments = (settings, footage, range(first, first + streams), replaced_every_s, stop, behind)
    process = context.Process(target=_send_live, args=arguments, daemon=True)
    process.start()
    assert process.pid is not None
    try:
        yield process.pid, lambda: float(behind.value)
        if process.exitcode is not None:
            raise RuntimeError("the process that sends frames has ended; is the broker still there?")
    finally:
        stop.set()
        process.join(20)
        process.kill()


def _send_live(
    settings: KafkaSettings, footage: Footage, numbers: range, replaced_every_s: float | None, stop: Event, behind: Any
) -> None:
    # Ten times a second for all of them, as it is not the cameras that are measured.
    writer = producer(settings, linger_ms=100)
    began, start_us = time.monotonic(), time.time_ns() // 1000
    life = math.inf if replaced_every_s is None else round(replaced_every_s * FPS)
    number, streams = 0, len(numbers)
    while not stop.is_set():
        # Cameras are not in step: each sends at its own moment of a frame's time.
        for place, stream in enumerate(numbers):
            due = began + (number + place / streams) / FPS
            early = due - time.monotonic()
            if early > 0.002:  # to sleep for less takes longer than that
                time.sleep(early)
            behind.value = max(behind.value, -early)
            # Frames of those that came before it at this place, and of this one.
            before, own = divmod(number + place * life / streams, life) if replaced_every_s else (0, number)
            one = message(
                footage,
                stream,
                int(own),
                start_us + (number - int(own)) * 1_000_000 // FPS + place * 1_000_000 // (streams * FPS),
                f"camera-{stream:03d}" if before == 0 else f"camera-{stream:03d}-{before:.0f}",
            )
            _send(writer, settings, one)
        number += 1
    writer.close(timeout=10)
