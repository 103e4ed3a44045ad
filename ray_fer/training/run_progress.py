"""How far a run is, for a person: a line per epoch, and a bar on a terminal."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from ray_fer.training.mailbox import Record

_STEPS_OF_RATE = 50


def progress_line(record: Record, epochs: int) -> str:
    """One epoch for a person to read."""
    text = f"epoch {record['epoch']}/{epochs}  loss {record['loss']:.3f}  {record['clips_per_s']:.1f} clips/s"
    if record.get("waited", 0.0) >= 0.05:
        text += f" ({record['waited']:.0%} of the time waiting for data)"
    if "val_uar" in record:
        text += f"  val UAR {record['val_uar']:.3f}  WAR {record['val_war']:.3f}"
    return text


class ProgressTracker:
    """A line per epoch with the time left, and on a terminal a bar below them (on standard error) that moves by steps.

    `clock` gives seconds; the speed is that of the last 50 steps, the time left that of all since the last start.
    """

    def __init__(
        self,
        say: Callable[[str], None] = print,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        console = console or Console(stderr=True)
        self._say, self._clock = say, clock
        # Epoch lines go above the bar, but not where standard output is a file.
        self._bar = Progress(
            TextColumn("epoch {task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[now]}"),
            console=console, disable=not console.is_terminal, redirect_stdout=sys.stdout.isatty(),
        )  # fmt: skip
        self._task: TaskID | None = None
        self._epochs, self._total, self._step = 0, 0, 0
        self._first: tuple[int, float] | None = None  # the first step since the last start, and when it was done
        self._stepping = 0.0  # seconds of the steps since then
        self._recent: deque[tuple[int, float]] = deque(maxlen=_STEPS_OF_RATE)  # clips and seconds
        self._validated = ""

    def heard(self, record: Record) -> None:
        match record["event"]:
            case "start":
                self._start(record)
            case "step":
                self._move(record)
            case "epoch":
                if "val_uar" in record:
                    self._validated = f"  val UAR {record['val_uar']:.3f}"
                self._say(f"{progress_line(record, self._epochs)}{self._left()}")
            case "end" if record["reason"] != "finished":
                self._say(f"{record['reason']} after epoch {record['epoch']}")

    def close(self, error: str | None) -> None:
        self._bar.stop()

    def _start(self, record: Record) -> None:
        step, workers = record["step"], _counted(record["workers"], "worker")
        self._epochs, self._total = record["epochs"], record["epochs"] * record["steps_per_epoch"]
        if step > 0 or self._task is not None:
            undone = self._step - step
            repeated = f"; {_counted(undone, 'step')} will be done again" if undone > 0 else ""
            self._say(f"{workers}: going on after step {step} of {self._total}{repeated}")
        else:
            self._say(f"{workers}: {_counted(self._epochs, 'epoch')} of {_counted(record['steps_per_epoch'], 'step')}")
        self._step, self._first = step, None
        self._recent.clear()
        if self._task is None:
            self._bar.start()
            self._task = self._bar.add_task(f"1/{self._epochs}", total=self._total, completed=step, now="")
        self._bar.update(self._task, completed=step, total=self._total, now="starting")

    def _move(self, record: Record) -> None:
        self._step = record["step"]
        if self._first is None:
            self._first, self._stepping = (self._step, self._clock()), 0.0
        else:
            self._stepping += record["seconds"]
        self._recent.append((record["clips"], record["seconds"]))
        seconds = sum(seconds for _, seconds in self._recent)
        rate = sum(clips for clips, _ in self._recent) / seconds if seconds > 0 else 0.0
        now = f"{rate:.1f} clips/s  loss {record['loss']:.3f}{self._validated}{self._left()}"
        if self._task is not None:
            # Steps and not the record's "epoch" count here: whether that counts from 0 or 1 is the loop's business.
            epoch = min(self._epochs, 1 + (self._step - 1) * self._epochs // self._total)
            self._bar.update(self._task, completed=self._step, description=f"{epoch}/{self._epochs}", now=now)

    def _left(self) -> str:
        if self._first is None or not self._first[0] < self._step < self._total:
            return ""
        step, since = self._first
        # The clock also counts validation, but records come many at a time: at first it has seen next to nothing.
        seconds = max(self._clock() - since, self._stepping) / (self._step - step)
        return f"  {timedelta(seconds=round(seconds * (self._total - self._step)))} left"


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
