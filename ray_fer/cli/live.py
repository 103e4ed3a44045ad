"""Commands that run a model: the demo, one file, a Kafka topic; and what this machine lacks for them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ray_fer.cli.options import AsJson, Brokers, KafkaConfig
from ray_fer.errors import exit_on_bad_input


@exit_on_bad_input
def demo(
    once: Annotated[bool, typer.Option("--once", help="stop when the videos end, and print a summary")] = False,
    train: Annotated[
        bool, typer.Option("--train", help="first train a model from nothing (about five minutes)")
    ] = False,
    model: Annotated[Path | None, typer.Option(help="bundle to run (default: the one in the package)")] = None,
    bootstrap_servers: Annotated[str | None, typer.Option(help="use this Kafka instead of the embedded broker")] = None,
    output: Annotated[Path, typer.Option(help="folder for predictions.jsonl, timeline.png, summary.json")] = Path(
        "ray-fer-demo"
    ),
    labelled_streams: Annotated[int, typer.Option(min=0, max=64, help="SynthFER streams with known labels")] = 8,
    speed: Annotated[float, typer.Option(min=0.1, max=20, help="playback speed; 1 is real time")] = 1.0,
    port: Annotated[int, typer.Option(min=0, max=65535, help="port of the web page; 0 picks a free one")] = 0,
    as_json: AsJson = False,
) -> None:
    """Run the whole live system on this machine: Kafka, Ray Serve, real video, a live table and a web page.

    Without --once the videos repeat until Ctrl-C. RAY_ADDRESS joins a running Ray instead of starting one.
    """
    from ray_fer.serving.demo import DemoError, DemoOptions, run_demo
    from ray_fer.serving.demo_table import wide_console

    if train and model is not None:
        raise ValueError("--train makes its own model; leave out --model")
    options = DemoOptions(once, train, model, bootstrap_servers, output, labelled_streams, speed, port)
    try:
        summary = run_demo(options, wide_console(stderr=as_json))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except DemoError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    if as_json:
        print(json.dumps(summary))


@exit_on_bad_input
def predict(
    bundle: Annotated[Path, typer.Argument(help="bundle folder, or 'packaged' for the one in the package")],
    video: Annotated[Path, typer.Argument(help="video file")],
    size: Annotated[float, typer.Option(min=0.1, help="seconds per window")] = 5.0,
    stride: Annotated[float, typer.Option(min=0.05, help="seconds between the starts of windows")] = 1.0,
    as_json: AsJson = False,
    plot: Annotated[Path | None, typer.Option(help="also write a timeline to this PNG")] = None,
) -> None:
    """Predict the expression in every window of a video, without Kafka or Ray.

    Gives the same windows as the stream does for the same video.
    """
    from ray_fer.bundle import PACKAGED, read_config
    from ray_fer.serving.demo_table import wide_console, windows_table
    from ray_fer.serving.predict import predict_video
    from ray_fer.streaming.windows import WindowConfig

    folder = PACKAGED if str(bundle) == "packaged" else bundle
    config = WindowConfig(size=size, stride=stride, frames=read_config(folder).preprocessing.frames)
    predictions = []
    for prediction in predict_video(folder, video, config):
        predictions.append(prediction)
        if as_json:
            print(prediction.model_dump_json(), flush=True)
    if not as_json:
        wide_console().print(windows_table(predictions))
    if plot is not None:
        from ray_fer.evaluation.timeline import plot_timeline

        Console(stderr=True).print(f"timeline: {plot_timeline(predictions, plot)}", soft_wrap=True)


@exit_on_bad_input
def serve(
    bundles: Annotated[
        list[str],
        typer.Argument(help="bundle folders, NAME=FOLDER to name one otherwise, or 'packaged'; the first one answers"),
    ],
    stream: Annotated[
        bool, typer.Option("--stream/--no-stream", help="read Kafka streams, or answer HTTP requests alone")
    ] = True,
    bootstrap_servers: Brokers = None,
    kafka_config: KafkaConfig = None,
    frames_topic: Annotated[str | None, typer.Option(help="input topic (default: frames)")] = None,
    predictions_topic: Annotated[str | None, typer.Option(help="output topic (default: predictions)")] = None,
    dead_letter_topic: Annotated[
        str | None, typer.Option(help="where bad input goes (default: frames-dead-letter)")
    ] = None,
    group: Annotated[str | None, typer.Option(help="consumer group (default: ray-fer)")] = None,
    processing_guarantee: Annotated[
        str | None, typer.Option(help="exactly_once or at_least_once (default: exactly_once)")
    ] = None,
    size: Annotated[float, typer.Option(min=0.1, help="seconds per window")] = 5.0,
    stride: Annotated[float, typer.Option(min=0.05, help="seconds between the starts of windows")] = 1.0,
    lateness: Annotated[float, typer.Option(min=0, help="seconds that a window waits for late frames")] = 0.5,
    idle_timeout: Annotated[float, typer.Option(min=0.1, help="seconds of silence that close a stream")] = 5.0,
    freshness: Annotated[
        str,
        typer.Option(help="complete: every window, however late; freshest: skip those past --max-staleness"),
    ] = "complete",
    max_staleness: Annotated[float, typer.Option(min=0.1, help="seconds since a window's newest frame came")] = 10.0,
    allow_reference: Annotated[
        list[str] | None, typer.Option(help="folder or s3:// prefix that records may refer into; repeat it for more")
    ] = None,
    begin: Annotated[
        str | None,
        typer.Option(
            "--from", help="read again from earliest, latest, an offset or a time; the group's workers must be stopped"
        ),
    ] = None,
    canary: Annotated[
        str | None, typer.Option(help="NAME:FRACTION: another model answers this share of the streams")
    ] = None,
    shadow: Annotated[
        str | None,
        typer.Option(help="NAME:FRACTION: another model is asked, too, and compared; its answers stay here"),
    ] = None,
    host: Annotated[str, typer.Option(help="address of the API and the dashboard")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="port of the API and the dashboard")] = 8000,
    keys: Annotated[
        Path | None, typer.Option(help="file of API keys, made by `ray-fer keys create`, where every node finds it")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="let everyone in who reaches the address, without keys")
    ] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="host[:port] that videos may be fetched from; repeat it for more")
    ] = None,
    cors_origin: Annotated[
        list[str] | None, typer.Option(help="web origin whose pages may call the API; repeat it for more")
    ] = None,
    workers: Annotated[
        str, typer.Option(help="stream workers: a number, or 1-4 to scale on lag; at most one for each partition")
    ] = "1",
    face_replicas: Annotated[
        str | None,
        typer.Option(help="face stage replicas (default: from 1 to one per CPU); 0: each process does it itself"),
    ] = None,
    expression_replicas: Annotated[str, typer.Option(help="expression stage replicas: a number, or 1-4")] = "1",
    expression_gpus: Annotated[float, typer.Option(min=0, help="GPUs of each of them, such as 0.25")] = 0.0,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="run until interrupted, or leave it running")] = True,
) -> None:
    """Run models on a Kafka topic of frames and behind an HTTP API with Ray Serve, on RAY_ADDRESS or a Ray of its own.

    Security and sizes of Kafka are set in a file or in the environment: see cluster/kafka/kafka.toml. On a cluster,
    `serve deploy cluster/serve.yaml` does the same, and changes models without restarting anything.

    --from gives all windows from there on again, under new session numbers.
    """
    from ray_fer.serving.catalogue import models_of, read_catalogue
    from ray_fer.serving.local_ray import ray_session
    from ray_fer.serving.options import ServingOptions
    from ray_fer.streaming.kafka import check_broker
    from ray_fer.streaming.kafka_settings import KafkaSettings
    from ray_fer.streaming.positions import parse_start
    from ray_fer.streaming.replay import rewind

    start = None if begin is None else parse_start(begin)
    models = models_of(bundles, canary, shadow)
    kafka = None
    if stream:
        kafka = KafkaSettings.read(
            kafka_config, bootstrap_servers=bootstrap_servers, frames_topic=frames_topic,
            predictions_topic=predictions_topic, dead_letter_topic=dead_letter_topic, group=group,
            processing_guarantee=processing_guarantee,
        )  # fmt: skip
    options = ServingOptions.model_validate(
        {
            "models": models,
            "kafka": kafka,
            "stream": {
                "windows": {
                    "size": size, "stride": stride, "frames": read_catalogue(models).get().transform.frames,
                    "allowed_lateness": lateness, "idle_timeout": idle_timeout,
                },
                "freshness": {"policy": freshness, "max_staleness": max_staleness},
                "references": {"prefixes": allow_reference or []},
            },
            "workers": workers,
            "faces": face_replicas,
            "expressions": expression_replicas,
            "expression_gpus": expression_gpus,
            "api": {
                "keys": keys and keys.resolve(), "allow_hosts": allow_host or [], "cors_origins": cors_origin or [],
            },
        }
    )  # fmt: skip
    if kafka is not None:
        check_broker(kafka.bootstrap_servers)
        if start is not None:
            for partition, offset in rewind(kafka, start).items():
                print(f"{partition.topic}[{partition.partition}] is read again from offset {offset}")
    with ray_session():
        from ray_fer.serving.serve_stream import serve_stream

        serve_stream(options, host, port, wait, insecure)


@exit_on_bad_input
def doctor(
    bootstrap_servers: Annotated[str | None, typer.Option(help="also check this Kafka broker")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what is installed and what is missing, with what to do; exit code 1 if the demo could not run."""
    from ray_fer.doctor import examine

    checks = examine(bootstrap_servers)
    if as_json:
        print(json.dumps([vars(check) for check in checks]))
    else:
        table = Table(show_header=False, box=None, pad_edge=False)
        for check in checks:
            mark = "[green]ok[/]" if check.ok else ("[red]missing[/]" if check.needed else "[yellow]optional[/]")
            table.add_row(mark, check.name, check.detail)
        Console().print(table)
    if any(check.needed and not check.ok for check in checks):
        raise SystemExit(1)
