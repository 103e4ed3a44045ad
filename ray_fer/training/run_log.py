"""The record of a run as a file: JSON lines that survive crashes, and what is read from them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from numbers import Real
from pathlib import Path
from typing import Any

from ray_fer.training.mailbox import Record

RECORDS = "records.jsonl"  # in the run's folder


class JsonlTracker:
    """Appends each record to a file as a line of JSON; NaN is written as Python writes it.

    Raises OSError with advice when that fails: a run that cannot say what it did must not go on.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:  # the next line must not be glued to one that a dying driver left torn
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
        self._file = self.path.open("a")

    def heard(self, record: Record) -> None:
        try:
            self._file.write(json.dumps(record, default=plain) + "\n")
            self._file.flush()
        except OSError as error:
            advice = "make room or mend this, then start the run again: it goes on from its last checkpoint"
            raise OSError(error.errno, f"cannot write {self.path} ({error.strerror}); {advice}") from error

    def close(self, error: str | None) -> None:
        with suppress(OSError):  # what could not be written has been raised by `heard`
            self._file.close()


def read_records(path: str | Path) -> list[Record]:
    """The records of a file less what was undone: every step and every epoch is there once, as it was last computed.

    A "start" at step s undoes all steps and epochs behind s that were heard before it. A torn last line is ignored.
    Raises ValueError that names file and line for a line that is not JSON.
    """
    kept: dict[tuple[str, int], Record] = {}
    for number, line in enumerate(Path(path).read_bytes().split(b"\n")[:-1], start=1):
        try:
            record = json.loads(line)
            event, step = record["event"], record["step"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: not a record of a training run ({error})") from error
        if event == "start":
            kept = {key: one for key, one in kept.items() if one["event"] == "start" or one["step"] <= step}
            kept[event, -number] = record  # starts are history: each is kept
        else:
            kept.pop((event, step), None)
            kept[event, step] = record
    return list(kept.values())


def loss_curve(records: Iterable[Record]) -> tuple[list[int], list[float]]:
    """Steps, and the training loss at each of them."""
    points = [(record["step"], record["loss"]) for record in records if record["event"] == "step"]
    return [step for step, _ in points], [loss for _, loss in points]


def scalars(record: Record) -> dict[str, float]:
    """What TensorBoard and MLflow draw of a record."""
    if record["event"] == "step":
        seconds = max(record["seconds"], 1e-9)
        return {
            "train/loss": float(record["loss"]),
            "train/lr": float(record["lr"]),
            "train/clips_per_s": record["clips"] / seconds,
            "train/waiting": record["waited"] / seconds,
        }
    if record["event"] == "epoch":
        figures = {name: value for name, value in record.items() if name.startswith("val_")}
        return {
            name.replace("_", "/", 1): float(value)
            for name, value in figures.items()
            if isinstance(value, Real) and not isinstance(value, bool)
        }
    return {}


def plain(value: Any) -> Any:
    """What JSON has no word for: arrays and scalars of numpy and torch as numbers, all else as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
