"""The `ray-fer` command: parses and calls, holds no logic. Heavy modules are imported inside the commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ray_fer.errors import exit_on_bad_input

app = typer.Typer(
    name="ray-fer",
    help="Distributed dynamic facial expression recognition: preprocess, train, and run on live Kafka video streams.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
stream_app = typer.Typer(help="Send video to Kafka and watch predictions.", no_args_is_help=True)
app.add_typer(stream_app, name="stream")

Servers = Annotated[str, typer.Option("--bootstrap-servers", help="Kafka broker, host:port[,host:port...]")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace the output if it exists")]


@app.command()
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


@app.command()
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


@app.command()
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
    from ray_fer.bundle import PACKAGED, load_bundle
    from ray_fer.serving.demo_table import wide_console, windows_table
    from ray_fer.serving.predict import predict_video
    from ray_fer.streaming.windows import WindowConfig

    folder = PACKAGED if str(bundle) == "packaged" else bundle
    config = WindowConfig(size=size, stride=stride, frames=load_bundle(folder).config.preprocessing.frames)
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


@app.command()
@exit_on_bad_input
def synth(
    output: Annotated[Path, typer.Argument(help="folder to write videos and manifest.parquet to")],
    clips: Annotated[int, typer.Option(min=1, help="training clips")] = 56,
    val: Annotated[int, typer.Option(min=0, help="validation clips (training identities)")] = 0,
    test: Annotated[int, typer.Option(min=0, help="test clips (held-out identities)")] = 28,
    seed: Annotated[int, typer.Option(help="same seed, same clips")] = 42,
    workers: Annotated[int | None, typer.Option(min=1, help="processes (default: one per CPU)")] = None,
) -> None:
    """Render SynthFER clips: photographs moved by known Action Units."""
    from rich.progress import track

    from ray_fer.datasets.synthfer import generate, plan

    counts = {"train": clips, "val": val, "test": test}
    specs = [spec for split, count in counts.items() if count for spec in plan(count, seed, split)]
    ticks = iter(track(range(len(specs)), description="rendering", console=Console(stderr=True)))
    done = 0

    def advance(finished: int, _: int) -> None:
        nonlocal done
        for _tick in range(finished - done):
            next(ticks, None)
        done = finished

    print(generate(specs, output, workers, advance))
    next(ticks, None)


@app.command()
@exit_on_bad_input
def preprocess(
    manifest: Annotated[Path, typer.Argument(help="manifest.parquet, or its folder")],
    output: Annotated[Path, typer.Argument(help="folder of the clip store to write")],
    frames: Annotated[int, typer.Option(min=1, help="frames per clip, sampled uniformly")] = 16,
    workers: Annotated[int | None, typer.Option(min=1, help="Ray Data actors (default: one per CPU)")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Decode, sample, find and align faces of all clips of a manifest, on Ray Data."""
    from ray_fer.preprocessing.clips import preprocess as run
    from ray_fer.serving.local_ray import ray_session

    with ray_session():
        summary = run(manifest, output, frames, workers, overwrite=overwrite)
    if as_json:
        print(json.dumps({"store": str(summary.store), "usable": summary.usable, "failed": summary.failed}))
        return
    for clip_id, reason in summary.failed:
        print(f"passed over {clip_id}: {reason}", file=sys.stderr)
    print(f"{summary.store}: {summary.usable} clips, {len(summary.failed)} passed over")


@app.command()
@exit_on_bad_input
def aus(
    store: Annotated[Path, typer.Argument(help="clip store")],
    output: Annotated[Path, typer.Argument(help="folder of the AU table to write")],
    extractor: Annotated[str, typer.Option(help="AU extractor")] = "blendshapes",
    priors_file: Annotated[Path | None, typer.Option("--priors", help="also write culture priors to this file")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Extract Action Units of all clips of a store, and their 80 statistics, on Ray Data."""
    from ray_fer.preprocessing.aus import compute_priors, extract_aus
    from ray_fer.serving.local_ray import ray_session

    with ray_session():
        print(extract_aus(store, output, extractor, overwrite))
    if priors_file is not None:
        print(compute_priors(output).write(priors_file))


@app.command()
@exit_on_bad_input
def priors(
    au_table: Annotated[Path, typer.Argument(help="AU table")],
    output: Annotated[Path, typer.Argument(help="priors.json to write")],
    split: Annotated[str | None, typer.Option(help="clips to use; 'all' for every split")] = "train",
) -> None:
    """Compute culture priors: AU profiles per culture and the ANOVA between cultures."""
    from ray_fer.preprocessing.aus import compute_priors

    result = compute_priors(au_table, split=None if split == "all" else split)
    result.write(output)
    table = Table("AU statistic", "F", "p", "eta²", title="Where cultures differ most", title_justify="left")
    for row in sorted(result.anova, key=lambda row: -row.eta_squared)[:10]:
        f, p = ("" if value is None else f"{value:.3g}" for value in (row.f, row.p))
        table.add_row(row.statistic, f, p, f"{row.eta_squared:.3f}")
    Console().print(table)
    print(output)


@app.command()
@exit_on_bad_input
def train(
    output: Annotated[Path, typer.Option(help="folder of the bundle to write")],
    store: Annotated[Path | None, typer.Option(help="clip store")] = None,
    priors_file: Annotated[Path | None, typer.Option("--priors", help="priors.json of the same clips")] = None,
    synthfer: Annotated[str | None, typer.Option(help="render SynthFER instead: 'demo' or 'packaged' size")] = None,
    recipe: Annotated[str, typer.Option(help="'cafer' (the paper's) or 'cafer-small'")] = "cafer-small",
    work: Annotated[Path | None, typer.Option(help="folder for clips and checkpoints (default: temporary)")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="instead of the recipe's")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Ray Train workers, instead of the recipe's")] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="one GPU per worker")] = False,
    seed: Annotated[int, typer.Option(help="seed of data and training")] = 42,
) -> None:
    """Train CA-FER on Ray Train and write a bundle, from a clip store or from rendered SynthFER clips."""
    from ray_fer.serving.local_ray import ray_session
    from ray_fer.training.run import TrainOptions, run_training

    options = TrainOptions(
        output=output, store=store, priors=priors_file, synthfer=synthfer, recipe=recipe, work=work, epochs=epochs,
        workers=workers, use_gpu=gpu, seed=seed,
    )  # fmt: skip
    options.check()
    with ray_session():
        print(f"bundle: {run_training(options)}")


@app.command()
@exit_on_bad_input
def serve(
    bundle: Annotated[Path, typer.Argument(help="bundle folder, or 'packaged'")],
    bootstrap_servers: Servers,
    frames_topic: Annotated[str, typer.Option(help="input topic")] = "frames",
    predictions_topic: Annotated[str, typer.Option(help="output topic")] = "predictions",
    dead_letter_topic: Annotated[str, typer.Option(help="where bad input goes")] = "frames-dead-letter",
    group: Annotated[str, typer.Option(help="consumer group")] = "ray-fer",
    size: Annotated[float, typer.Option(min=0.1, help="seconds per window")] = 5.0,
    stride: Annotated[float, typer.Option(min=0.05, help="seconds between the starts of windows")] = 1.0,
    lateness: Annotated[float, typer.Option(min=0, help="seconds that a window waits for late frames")] = 0.5,
    idle_timeout: Annotated[float, typer.Option(min=0.1, help="seconds of silence that close a stream")] = 5.0,
    host: Annotated[str, typer.Option(help="address of the dashboard")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="port of the dashboard")] = 8000,
    face_replicas: Annotated[int | None, typer.Option(min=1, help="face stage replicas (default: one per CPU)")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="run until interrupted, or leave it running")] = True,
) -> None:
    """Run a model on a Kafka topic of frames with Ray Serve, on the Ray of RAY_ADDRESS or one of its own."""
    from ray_fer.bundle import PACKAGED, load_bundle
    from ray_fer.serving.local_ray import ray_session
    from ray_fer.serving.serve_stream import serve_stream
    from ray_fer.streaming.kafka import KafkaSettings, check_broker
    from ray_fer.streaming.windows import WindowConfig

    folder = PACKAGED if str(bundle) == "packaged" else bundle
    frames = load_bundle(folder).config.preprocessing.frames
    check_broker(bootstrap_servers)
    settings = KafkaSettings(
        bootstrap_servers=bootstrap_servers, frames_topic=frames_topic, predictions_topic=predictions_topic,
        dead_letter_topic=dead_letter_topic, group=group,
    )  # fmt: skip
    windows = WindowConfig(
        size=size, stride=stride, frames=frames, allowed_lateness=lateness, idle_timeout=idle_timeout
    )
    with ray_session():
        serve_stream(folder, settings, windows, host, port, face_replicas, wait)


@app.command()
def models(as_json: AsJson = False) -> None:
    """List the models that can be trained."""
    from ray_fer.models import create, names

    summaries = {name: (type(create(name, conditioning="none")).__doc__ or "").split("\n")[0] for name in names()}
    if as_json:
        print(json.dumps(summaries))
        return
    for name, summary in summaries.items():
        print(f"{name:16} {summary}")


@stream_app.command()
@exit_on_bad_input
def produce(
    video: Annotated[Path, typer.Argument(help="video file")],
    bootstrap_servers: Servers,
    topic: Annotated[str, typer.Option(help="frames topic")] = "frames",
    stream_id: Annotated[str | None, typer.Option(help="stream id (default: the file's name)")] = None,
    speed: Annotated[float, typer.Option(min=0.1, max=100, help="playback speed; 1 is real time")] = 1.0,
    loop: Annotated[bool, typer.Option("--loop", help="repeat until Ctrl-C")] = False,
) -> None:
    """Send a video to the frames topic, frame by frame, in real time."""
    import threading

    from ray_fer.serving.demo_streams import DemoStream, play
    from ray_fer.streaming.kafka import KafkaSettings, check_broker
    from ray_fer.streaming.source import video_messages

    check_broker(bootstrap_servers)
    name = stream_id or video.name
    stream = DemoStream(name, list(video_messages(video, name)))
    settings = KafkaSettings(bootstrap_servers=bootstrap_servers, frames_topic=topic)
    try:
        play([stream], settings, threading.Event(), speed, loop)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    print(f"{len(stream.messages)} frames of stream {name} sent to {topic}")


@stream_app.command()
@exit_on_bad_input
def tail(
    bootstrap_servers: Servers,
    topic: Annotated[str, typer.Option(help="predictions topic")] = "predictions",
    as_json: AsJson = False,
    limit: Annotated[int | None, typer.Option(min=1, help="stop after so many predictions")] = None,
) -> None:
    """Print predictions as they come."""
    from ray_fer.serving.demo_table import prediction_row, wide_console
    from ray_fer.streaming.kafka import KafkaSettings, check_broker, read_predictions

    check_broker(bootstrap_servers)
    settings = KafkaSettings(bootstrap_servers=bootstrap_servers, predictions_topic=topic)
    console = wide_console()
    try:
        for number, prediction in enumerate(read_predictions(settings), start=1):
            if as_json:
                print(prediction.model_dump_json(), flush=True)
            else:
                console.print(prediction.stream_id, *prediction_row(prediction), sep="  ")
            if limit is not None and number >= limit:
                return
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def main(arguments: list[str] | None = None) -> Any:
    """Entry point of `ray-fer`."""
    return app(arguments)
