"""The run's log: what is written is read back, whatever crashed in between."""

from __future__ import annotations

import errno
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_fer.training.mailbox import Record
from ray_fer.training.run_log import RECORDS, JsonlTracker, loss_curve, read_records
from tests.training_records import CRASHED, ONCE, end, one_epoch, one_step, start, tell


@st.composite
def runs(draw: st.DrawFn) -> list[Record]:
    """A run that starts again, at most where it was, as often as it likes; the loss of a step says which try it was."""
    records, done, tries = [], 0, itertools.count()
    for _ in range(draw(st.integers(1, 5))):
        step = draw(st.integers(0, done))
        records.append(start(step))
        done = step + draw(st.integers(0, 9))
        for now in range(step + 1, done + 1):
            records.append(one_step(now, float(next(tries))))
            if now % 4 == 0:
                records.append(one_epoch(now, now // 4, float(next(tries))))
    return records


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "runs" / RECORDS
    records = [start(), one_step(1, 0.5), one_epoch(1, 1, val_uar=0.5, val_war=0.5), end(1, 1)]
    tracker = JsonlTracker(path)
    for number, record in enumerate(records, start=1):
        tracker.heard(record)
        assert len(path.read_text().splitlines()) == number  # nothing waits in a buffer for the driver to die
    assert read_records(path) == records


def test_numbers_of_numpy_and_torch_are_numbers(tmp_path: Path) -> None:
    record = one_step(1) | {"loss": np.float32(0.5), "clips": np.int64(8), "lr": torch.tensor(0.25), "per": np.ones(2)}
    tell(JsonlTracker(tmp_path / RECORDS), [record])
    [read] = read_records(tmp_path / RECORDS)
    assert (read["loss"], read["clips"], read["lr"], read["per"]) == (0.5, 8, 0.25, [1.0, 1.0])


def test_after_a_crash_every_step_is_there_once(tmp_path: Path) -> None:
    tell(JsonlTracker(tmp_path / RECORDS), CRASHED)
    records = read_records(tmp_path / RECORDS)
    assert loss_curve(records) == ONCE
    assert [(r["epoch"], r["val_uar"]) for r in records if r["event"] == "epoch"] == [(1, 0.75)]
    assert [r["step"] for r in records if r["event"] == "start"] == [0, 3]


def test_an_epoch_that_is_only_validated_again_is_there_once(tmp_path: Path) -> None:
    """Workers died in validation, after the checkpoint of the epoch's last step."""
    first, again = one_epoch(1, 1, val_uar=0.25), one_epoch(1, 1, val_uar=0.75)
    tell(JsonlTracker(tmp_path / RECORDS), [start(), one_step(1), first, start(1), again, one_step(2)])
    assert read_records(tmp_path / RECORDS) == [start(), one_step(1), start(1), again, one_step(2)]


@given(records=runs(), sessions=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_the_last_try_of_every_step_counts(
    records: list[Record], sessions: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("run") / RECORDS
    for part in np.array_split(np.arange(len(records)), sessions):  # a driver that goes on appends
        tell(JsonlTracker(path), [records[place] for place in part])
    expected: dict[str, dict[int, float]] = {"step": {}, "epoch": {}}
    for record in records:
        if record["event"] == "start":
            expected = {event: {s: v for s, v in one.items() if s <= record["step"]} for event, one in expected.items()}
        else:
            expected[record["event"]][record["step"]] = record["loss"]
    read = read_records(path)
    steps, losses = loss_curve(read)
    assert steps == list(range(1, len(steps) + 1))
    assert dict(zip(steps, losses, strict=True)) == expected["step"]
    assert {r["step"]: r["loss"] for r in read if r["event"] == "epoch"} == expected["epoch"]


@given(cut=st.integers(1, 200))
def test_a_torn_last_line_is_ignored_and_overwritten(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("run") / RECORDS
    tell(JsonlTracker(path), [start(), one_step(1), one_step(2)])
    whole = path.read_bytes()
    first_two = whole[: whole.rindex(b"\n", 0, -1) + 1]
    path.write_bytes(whole[: max(len(first_two), len(whole) - cut)])
    assert [r["step"] for r in read_records(path)] == [0, 1]
    tell(JsonlTracker(path), [start(1), one_step(2, 7.0)])
    assert loss_curve(read_records(path)) == ([1, 2], [1.0, 7.0])


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / RECORDS
    path.write_text(json.dumps(start()) + "\nwhat?\n" + json.dumps(one_step(1)) + "\n")
    with pytest.raises(ValueError, match=r"records\.jsonl, line 2: not a record"):
        read_records(path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_records_that_cannot_be_written_stop_the_run_with_advice(tmp_path: Path) -> None:
    tracker = JsonlTracker(tmp_path / RECORDS)
    tracker._file = open("/dev/full", "a")  # noqa: SIM115
    with pytest.raises(OSError, match=r"records\.jsonl \(No space left.*start the run again") as raised:
        tracker.heard(start())
    assert raised.value.errno == errno.ENOSPC
    tracker.close("no space")
