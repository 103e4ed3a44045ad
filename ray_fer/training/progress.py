"""A run's progress as JSON lines: written by the first worker, followed by whoever waits for the run."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_POLL_S = 0.5


def append(path: str | Path, metrics: dict[str, Any]) -> None:
    """Add one epoch's metrics as a line; where the folder is not shared with this worker it is made here."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(metrics) + "\n")


def progress_line(metrics: dict[str, Any], epochs: int) -> str:
    """One epoch for a person to read."""
    text = f"epoch {metrics['epoch']}/{epochs}  loss {metrics['loss']:.3f}  {metrics['clips_per_s']} clips/s"
    if "val_uar" in metrics:
        text += f"  val UAR {metrics['val_uar']:.3f}  WAR {metrics['val_war']:.3f}"
    return text


@contextmanager
def follow(path: Path, heard: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Call `heard` with each line that is added to `path` while the block runs."""
    stop = threading.Event()
    position = 0

    def read() -> None:
        nonlocal position
        if not path.is_file():
            return
        with path.open() as file:
            file.seek(position)
            while (line := file.readline()).endswith("\n"):
                position = file.tell()
                heard(json.loads(line))

    def loop() -> None:
        while not stop.wait(_POLL_S):
            read()

    thread = threading.Thread(target=loop, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        read()
