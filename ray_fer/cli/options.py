"""Option types that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Brokers = Annotated[
    str | None,
    typer.Option("--bootstrap-servers", help="Kafka, host:port[,host:port...] (default: of the settings)"),
]
KafkaConfig = Annotated[
    Path | None,
    typer.Option("--kafka-config", help="TOML file with Kafka settings (default: what RAY_FER_KAFKA_CONFIG names)"),
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace the output if it exists")]
