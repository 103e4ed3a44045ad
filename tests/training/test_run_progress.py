"""Progress of a run: lines for a job's log, a bar for a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from ray_fer.training.run_progress import ProgressTracker, progress_line
from tests.training_records import CRASHED, end, one_epoch, one_step, start, tell


def test_an_epoch_in_one_line() -> None:
    record = {"epoch": 2, "loss": 1.25, "clips_per_s": 10.04}
    assert progress_line(record, 9) == "epoch 2/9  loss 1.250  10.0 clips/s"
    record |= {"val_uar": 0.5, "val_war": 0.25}
    assert progress_line(record, 9) == "epoch 2/9  loss 1.250  10.0 clips/s  val UAR 0.500  WAR 0.250"
    record |= {"waited": 0.31}
    assert "10.0 clips/s (31% of the time waiting for data)  val UAR" in progress_line(record, 9)


class Clock:
    """Five seconds pass between two looks."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 5.0
        return self.now


def test_a_jobs_log_gets_a_line_per_epoch_and_restart() -> None:
    said: list[str] = []
    console = Console(file=io.StringIO(), force_terminal=False)
    records = [*CRASHED[:-1], end(4, 1, "early stopping")]
    tell(ProgressTracker(said.append, console, Clock()), records)
    assert said == [
        "2 workers: 3 epochs of 4 steps",
        # 20 s since the first step, in which 3 more were done: 8 to go.
        "epoch 1/3  loss 1.000  16.0 clips/s  val UAR 0.250  WAR 0.500  0:00:53 left",
        "2 workers: going on after step 3 of 12; 3 steps will be done again",
        "epoch 1/3  loss 1.000  16.0 clips/s  val UAR 0.750  WAR 0.500",
        "early stopping after epoch 1",
    ]
    assert console.file.getvalue().strip() == ""  # type: ignore[attr-defined]


def test_records_that_come_at_once_do_not_make_the_run_look_done() -> None:
    said: list[str] = []
    tracker = ProgressTracker(said.append, Console(file=io.StringIO(), force_terminal=False), clock=lambda: 0.0)
    tell(tracker, [start(), *map(one_step, range(1, 5)), one_epoch(4, 1)])
    assert said[-1].endswith("0:00:04 left")  # 8 steps of half a second


def test_a_terminal_gets_a_bar() -> None:
    said: list[str] = []
    console = Console(file=io.StringIO(), force_terminal=True, width=140, color_system=None)
    tracker = ProgressTracker(said.append, console, Clock())
    for record in CRASHED:
        tracker.heard(record)
    tracker.close(None)
    shown = console.file.getvalue().split("epoch ")[-1]  # type: ignore[attr-defined]
    assert shown.startswith("2/3 ")
    assert "5/12" in shown
    assert "16.0 clips/s  loss 5.000  val UAR 0.750  0:00:35 left" in shown
