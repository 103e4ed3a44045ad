"""Deploy the stream application on a Ray cluster and keep it there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from ray_fer.bundle import load_bundle
from ray_fer.serving.application import deployed
from ray_fer.serving.deployments import build_app, face_replicas
from ray_fer.streaming.kafka import check_broker
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.options import StreamOptions
from ray_fer.streaming.topics import create_topics

APP_NAME = "ray-fer"


def serve_stream(
    bundle: str | Path,
    settings: KafkaSettings,
    options: StreamOptions,
    host: str,
    port: int,
    faces: int | None,
    wait: bool,
    say: Callable[[str], None] = print,
) -> None:
    """Create missing topics, deploy, and with `wait` run until interrupted, then take the application down.

    Raises BundleError, BrokerError, or ValueError when the windows' frame count is not the model's.
    """
    frames = load_bundle(bundle).config.preprocessing.frames
    if options.windows.frames != frames:
        raise ValueError(f"windows of {options.windows.frames} frames, but the model reads {frames}")
    check_broker(settings.bootstrap_servers)
    create_topics(settings)
    app = build_app(str(Path(bundle).resolve()), settings, options, faces or face_replicas())
    with deployed(app, APP_NAME, host, port, keep=not wait) as url:
        say(f"serving {settings.frames_topic} -> {settings.predictions_topic}; dashboard at {url}")
        if wait:
            try:
                threading.Event().wait()
            except KeyboardInterrupt:
                say("stopping")
