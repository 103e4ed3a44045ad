"""Progress of long work on standard error: bars on a terminal, lines now and then in the log of a job."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from ray_fer.preprocessing.runner import Progress as RunProgress

_SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def stages() -> Iterator[Callable[[str, int, int], None]]:
    """Yields a function of (stage, done, total) that moves one bar per stage; silent where there is no terminal."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        tasks: dict[str, TaskID] = {}

        def advance(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done)

        yield advance


@contextmanager
def rows_per_second(what: str) -> Iterator[Callable[[RunProgress], None]]:
    """Yields the `progress` function of a run over shards: rows done, rows a second, failures, time left."""
    console = Console(stderr=True)
    started, before, last_line = time.monotonic(), -1, 0.0
    bar = Progress(
        TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[failed]} failed"), TimeRemainingColumn(), console=console,
        disable=not console.is_terminal,
    )  # fmt: skip
    with bar:
        task: TaskID | None = None

        def advance(now: RunProgress) -> None:
            nonlocal task, before, last_line
            elapsed = time.monotonic() - started
            if before < 0:  # rows that an earlier run did say nothing about the speed of this one
                before = now.rows
            rate = (now.rows - before) / elapsed if elapsed > 0 else 0.0
            if task is None:
                task = bar.add_task(what, total=now.rows_in_all, rate="", failed=0)
            bar.update(task, completed=now.rows, rate=f"{rate:.1f} {what}/s", failed=now.failed)
            at_end = now.rows == now.rows_in_all and now.rows > before
            if not console.is_terminal and (at_end or elapsed - last_line >= _SECONDS_BETWEEN_LINES):
                last_line = elapsed
                line = f"{now.rows}/{now.rows_in_all} {what}, {rate:.1f} {what}/s, {now.failed} failed"
                print(line, file=sys.stderr, flush=True)

        yield advance
