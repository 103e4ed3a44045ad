"""Option types that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Servers = Annotated[str, typer.Option("--bootstrap-servers", help="Kafka broker, host:port[,host:port...]")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace the output if it exists")]
