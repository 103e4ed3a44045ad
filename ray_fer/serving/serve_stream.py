"""Deploy the application on a Ray cluster and keep it there."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ray_fer.serving.app import build
from ray_fer.serving.application import deployed, running_address
from ray_fer.serving.catalogue import read_catalogue
from ray_fer.serving.keys import read_keys
from ray_fer.serving.options import LOOPBACK, ServingOptions
from ray_fer.streaming.kafka import check_broker
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.topics import create_topics, describe_topics

APP_NAME = "ray-fer"


def serve_stream(
    options: ServingOptions,
    host: str,
    port: int,
    wait: bool,
    insecure: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Create missing topics, deploy, and with `wait` run until interrupted, then take the application down.

    An application that is there already is replaced, worker by worker. Raises BundleError, BrokerError, or ValueError
    when the windows' frame count is not the model's, for a model that reads more than faces, for more workers than
    there are partitions, and for an address that others reach while nobody needs a key.
    """
    options = guarded(options, (running_address() or (host, port))[0], insecure)
    if options.models is None:
        raise ValueError("no model to serve")
    kafka = options.kafka
    read_catalogue(options.models, None if kafka is None else options.stream.windows.frames)
    what = "HTTP requests"
    if kafka is not None:
        _check_topics(kafka, options.workers.most)
        what = f"{kafka.frames_topic} -> {kafka.predictions_topic}"
    with deployed(build(options), APP_NAME, host, port, keep=not wait) as url:
        say(f"serving {what}; dashboard at {url}")
        if wait:
            try:
                threading.Event().wait()
            except KeyboardInterrupt:
                say("stopping")


def guarded(options: ServingOptions, host: str, insecure: bool) -> ServingOptions:
    """The options with what a host without keys needs. Raises ValueError, and what `read_keys` raises."""
    if options.api.keys is not None:
        read_keys(options.api.keys)
        return options
    if insecure:
        return options
    if host not in LOOPBACK:
        raise ValueError(
            f"on {host} everyone who reaches this machine could use the API: give a file of keys with --keys (make one "
            "with `ray-fer keys create`), or say --insecure"
        )
    api = options.api.model_copy(update={"hosts": options.api.hosts or list(LOOPBACK)})
    return options.model_copy(update={"api": api})


def _check_topics(kafka: KafkaSettings, workers: int) -> None:
    check_broker(kafka.bootstrap_servers)
    create_topics(kafka)
    partitions = describe_topics(kafka)[kafka.frames_topic].partitions
    if workers > partitions:
        raise ValueError(
            f"{workers} workers, but topic {kafka.frames_topic!r} has {partitions} partitions, each of which is one "
            f"worker's: choose at most {partitions} workers, or give the topic more partitions"
        )
