"""Deploy the stream application on a Ray cluster and keep it there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from ray_fer.bundle import read_config
from ray_fer.serving.application import deployed
from ray_fer.serving.deployments import build_app, face_replicas
from ray_fer.serving.stages import check_live
from ray_fer.streaming.kafka import check_broker
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.options import StreamOptions
from ray_fer.streaming.topics import create_topics, describe_topics

APP_NAME = "ray-fer"


def serve_stream(
    bundle: str | Path,
    settings: KafkaSettings,
    options: StreamOptions,
    host: str,
    port: int,
    workers: int,
    faces: int | None,
    wait: bool,
    say: Callable[[str], None] = print,
) -> None:
    """Create missing topics, deploy, and with `wait` run until interrupted, then take the application down.

    An application that is there already is replaced, worker by worker. Raises BundleError, BrokerError, or ValueError
    when the windows' frame count is not the model's, for a model that reads more than faces, or for more workers than
    there are partitions.
    """
    config = read_config(bundle)
    check_live(config)
    frames = config.preprocessing.frames
    if options.windows.frames != frames:
        raise ValueError(f"windows of {options.windows.frames} frames, but the model reads {frames}")
    check_broker(settings.bootstrap_servers)
    create_topics(settings)
    partitions = describe_topics(settings)[settings.frames_topic].partitions
    if workers > partitions:
        raise ValueError(
            f"{workers} workers, but topic {settings.frames_topic!r} has {partitions} partitions, each of which is one "
            f"worker's: choose at most {partitions} workers, or give the topic more partitions"
        )
    app = build_app(
        str(Path(bundle).resolve()), settings, options, face_replicas() if faces is None else faces, workers
    )
    with deployed(app, APP_NAME, host, port, keep=not wait) as url:
        say(f"serving {settings.frames_topic} -> {settings.predictions_topic}; dashboard at {url}")
        if wait:
            try:
                threading.Event().wait()
            except KeyboardInterrupt:
                say("stopping")
