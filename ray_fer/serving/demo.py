"""`ray-fer demo`: the whole live system on one machine, on real video, cleaned up afterwards."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from ray_fer.bundle import PACKAGED, BundleConfig, load_bundle
from ray_fer.serving.catalogue import models_of
from ray_fer.serving.demo_streams import DemoStream, demo_streams, play
from ray_fer.serving.demo_summary import summarise, write_files
from ray_fer.serving.demo_table import live_table, summary_table
from ray_fer.serving.local_ray import ray_session
from ray_fer.serving.options import LOOPBACK, ApiOptions, ServingOptions
from ray_fer.streaming.broker import EmbeddedBroker, free_port
from ray_fer.streaming.kafka import assign_all, check_broker, consumer
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.messages import Prediction
from ray_fer.streaming.options import StreamOptions
from ray_fer.streaming.topics import create_topics, delete_topics
from ray_fer.streaming.windows import WindowConfig
from ray_fer.training.run import Keeping, TrainOptions, run_training
from ray_fer.video.face_model import cache_dir, find_face_model

_APP = "ray-fer-demo"
_STALLED_S = 90.0
_TRAINING = ("workers=2", "model_config_.culture_dropout=0.5", "evaluate_every=4")
"""What the demo's model has beside its recipe: two Ray Train workers, and an answer for streams of unknown culture."""


@dataclass(frozen=True)
class DemoOptions:
    """What the command line offers."""

    once: bool = False
    train: bool = False
    model: Path | None = None
    bootstrap_servers: str | None = None
    output: Path = Path("ray-fer-demo")
    labelled_streams: int = 8
    speed: float = 1.0
    port: int = 0
    seed: int = 2026


class DemoError(RuntimeError):
    """The demo ran but did not do what it should; the message says what was missing."""


def run_demo(options: DemoOptions, console: Console) -> dict[str, Any]:
    """Run the demo and return its summary. Raises DemoError when predictions stop coming or windows are missing."""
    find_face_model()
    if options.bootstrap_servers is not None:
        check_broker(options.bootstrap_servers)
    if options.model is not None:
        load_bundle(options.model)  # a wrong bundle is told before anything is started
    with _terminated_as_interrupt(), contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-fer-demo-")))
        servers = options.bootstrap_servers
        if servers is None:
            servers = stack.enter_context(EmbeddedBroker()).bootstrap_servers
            console.print(f"embedded broker at {servers}")
        console.print("starting Ray")
        stack.enter_context(ray_session())
        stack.enter_context(_terminated_as_interrupt())  # again: Ray has put a handler of its own there
        bundle = _bundle(options, folder, console)
        return _stream(options, bundle, servers, folder, stack, console)


def _bundle(options: DemoOptions, folder: Path, console: Console) -> Path:
    if options.train:
        output = cache_dir() / "bundles" / "cafer-synthfer-demo"
        console.print("training a model from nothing: about five minutes on two cores")
        keeping = Keeping(folder / "run", tensorboard=False)
        training = TrainOptions(
            output, synthfer="demo", recipe="cafer-quick", settings=_TRAINING, work=folder, keeping=keeping
        )
        return run_training(training, console.print).path
    return (options.model or PACKAGED).resolve()


def _stream(
    options: DemoOptions, bundle: Path, servers: str, folder: Path, stack: contextlib.ExitStack, console: Console
) -> dict[str, Any]:
    # Imported late: the modules define Serve deployments, which wants Ray's logging settled first.
    from ray_fer.serving.app import build, face_replicas
    from ray_fer.serving.application import deployed

    config = load_bundle(bundle).config
    run = uuid.uuid4().hex[:8]  # topics and group of its own: a shared broker may hold another demo's
    settings = KafkaSettings(
        bootstrap_servers=servers,
        frames_topic=f"demo-{run}-frames",
        predictions_topic=f"demo-{run}-predictions",
        dead_letter_topic=f"demo-{run}-dead-letter",
        group=f"demo-{run}",
        session_timeout_ms=2000 if options.bootstrap_servers is None else 10_000,
    )
    windows = WindowConfig(frames=config.preprocessing.frames, allowed_lateness=0.2, idle_timeout=3.0)
    create_topics(settings)
    if options.bootstrap_servers is not None:
        stack.callback(delete_topics, settings)
    with ThreadPoolExecutor(1) as pool:  # rendering takes as long as deploying: do both at once
        rendering = pool.submit(demo_streams, options.labelled_streams, options.seed, folder / "streams")
        stream = StreamOptions(windows=windows)
        api = ApiOptions(hosts=list(LOOPBACK))
        app = build(
            ServingOptions(models=models_of([bundle]), kafka=settings, stream=stream, faces=face_replicas(), api=api)
        )
        url = stack.enter_context(deployed(app, _APP, "127.0.0.1", options.port or free_port()))
        streams = rendering.result()
    console.print(f"dashboard at {url}")
    reader = consumer(settings)
    stack.callback(reader.close, autocommit=False)
    assign_all(reader, settings.predictions_topic)
    stop, failure = threading.Event(), []

    def produce() -> None:
        try:
            play(streams, settings, stop, options.speed, loop=not options.once)
        except Exception as error:
            failure.append(error)

    player = threading.Thread(target=produce, name="player", daemon=True)
    player.start()
    stack.callback(player.join, 10)
    stack.callback(stop.set)
    predictions: list[Prediction] = []
    began = time.monotonic()
    try:
        _watch(reader, streams, windows, predictions, options, failure, console, f"{len(streams)} streams, {url}")
    except KeyboardInterrupt:
        console.print("stopping")
    summary = summarise(streams, [p for p in predictions if _first_turn(p, streams, windows)], windows, config.classes)
    summary["seconds"] = round(time.monotonic() - began, 1)
    summary["url"], summary["model"] = url, f"{config.name} {config.version}"
    paths = write_files(options.output, streams, predictions, summary, windows)
    _print_summary(summary, paths, config, console)
    if options.once and summary["missing"]:
        raise DemoError(f"{summary['missing']} windows are missing; see {paths['predictions.jsonl']}")
    return summary


def _watch(
    reader: Any, streams: Sequence[DemoStream], windows: WindowConfig, predictions: list[Prediction],
    options: DemoOptions, failure: list[Exception], console: Console, title: str,
) -> None:  # fmt: skip
    """Collect predictions and show the newest of each stream, until all expected ones came (with `once`)."""
    expected = sum(stream.expected_windows(windows) for stream in streams)
    latest: dict[str, Prediction] = {}
    counts: dict[str, int] = {}
    seen: set[tuple[str, int]] = set()
    last = time.monotonic()
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        while not (options.once and len(seen) >= expected):
            for records in reader.poll(timeout_ms=200).values():
                for record in records:
                    prediction = Prediction.model_validate_json(record.value)
                    predictions.append(prediction)
                    seen.add((prediction.stream_id, prediction.window.index))
                    latest[prediction.stream_id] = prediction
                    counts[prediction.stream_id] = counts.get(prediction.stream_id, 0) + 1
                    last = time.monotonic()
            live.update(live_table(latest, counts, f"{title}   {len(predictions)} windows"))
            if failure:
                raise DemoError(f"sending frames failed: {failure[0]}") from failure[0]
            if time.monotonic() - last > _STALLED_S:
                raise DemoError(
                    f"no prediction for {_STALLED_S:.0f} s ({len(seen)} of {expected} windows came); "
                    "look at the workers' logs with RAY_ADDRESS set to a Ray of your own"
                )


def _first_turn(prediction: Prediction, streams: Sequence[DemoStream], config: WindowConfig) -> bool:
    stream = next(one for one in streams if one.stream_id == prediction.stream_id)
    return prediction.window.index < stream.expected_windows(config)


def _print_summary(summary: dict[str, Any], paths: dict[str, Path], config: BundleConfig, console: Console) -> None:
    console.print(summary_table(summary))
    score = summary["classification"]
    if score is not None:
        console.print(
            f"UAR {score['uar']:.3f}  WAR {score['war']:.3f}  on {score['count']} labelled windows of held-out "
            f"SynthFER identities (chance {1 / len(config.classes):.2f})"
        )
    latency = summary["latency_ms"]
    console.print(f"latency p50 {latency['p50']} ms, p99 {latency['p99']} ms; {summary['windows']} windows")
    for name, path in paths.items():
        console.print(f"{name}: {path}", soft_wrap=True)


@contextlib.contextmanager
def _terminated_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C, so that either way everything is cleaned up."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
