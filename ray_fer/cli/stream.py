"""`ray-fer stream`: send video to Kafka and watch predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ray_fer.cli.options import AsJson, Servers
from ray_fer.errors import exit_on_bad_input


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
