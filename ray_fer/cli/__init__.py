"""The `ray-fer` command: parses and calls, holds no logic. Heavy modules are imported inside the commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from ray_fer.cli.bench import bench_preprocess, bench_train
from ray_fer.cli.bench_kafka_clients import bench_kafka_clients
from ray_fer.cli.bench_load_step import bench_load_step
from ray_fer.cli.bench_serve import bench_serve
from ray_fer.cli.bench_stream import bench_stream
from ray_fer.cli.cache_features import cache_features
from ray_fer.cli.compare import compare
from ray_fer.cli.crossval import crossval
from ray_fer.cli.curate import curate
from ray_fer.cli.datasets import datasets, import_dataset, mix, split
from ray_fer.cli.evaluate import evaluate
from ray_fer.cli.job_defaults import with_defaults
from ray_fer.cli.keys import keys
from ray_fer.cli.live import demo, doctor, predict, serve
from ray_fer.cli.models import models
from ray_fer.cli.pipeline import aus, preprocess, priors
from ray_fer.cli.prima_facie import prima_facie
from ray_fer.cli.reproduce import reproduce
from ray_fer.cli.search import search
from ray_fer.cli.soak_stream import soak_stream
from ray_fer.cli.stream import produce
from ray_fer.cli.stream_topics import topics
from ray_fer.cli.stream_watch import tail
from ray_fer.cli.synth import bench_synth, calibrate_blendshapes, synth
from ray_fer.cli.training import recipes, train

__all__ = [
    "app",
    "aus",
    "bench_kafka_clients",
    "bench_load_step",
    "bench_preprocess",
    "bench_serve",
    "bench_stream",
    "bench_synth",
    "bench_train",
    "cache_features",
    "calibrate_blendshapes",
    "crossval",
    "main",
    "preprocess",
    "prima_facie",
    "reproduce",
    "serve",
    "soak_stream",
    "train",
    "with_defaults",
]

app = typer.Typer(
    name="ray-fer",
    help="Distributed dynamic facial expression recognition: preprocess, train, and run on live Kafka video streams.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo, "doctor": doctor, "predict": predict, "datasets": datasets, "import": import_dataset,
    "split": split, "mix": mix,
    "synth": synth, "curate": curate, "preprocess": preprocess, "aus": aus, "priors": priors,
    "cache-features": cache_features, "train": train, "crossval": crossval, "search": search,
    "evaluate": evaluate, "compare": compare, "reproduce": reproduce, "recipes": recipes,
    "serve": serve, "models": models,
}  # fmt: skip
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)

_stream = typer.Typer(help="Send video to Kafka, watch predictions, and look after the topics.", no_args_is_help=True)
_stream.command()(produce)
_stream.command()(tail)
_stream.command()(topics)
app.add_typer(_stream, name="stream")
app.add_typer(keys, name="keys")


def main(arguments: list[str] | None = None) -> Any:
    """Entry point of `ray-fer`."""
    return app(arguments)
