"""What is committed is enough to go on from, wherever a worker dies, and never more than may be forgotten."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_fer.streaming.payload import Payload
from ray_fer.streaming.progress import PartitionProgress, handled_from
from ray_fer.streaming.sessions import recall
from ray_fer.streaming.windows import BufferedFrame, Window, WindowConfig

CONFIG = WindowConfig(size=2, stride=1, frames=2, allowed_lateness=0, idle_timeout=5, forget_after=60)
S = 1_000_000
Key = tuple[str, int, int]
Record = tuple[str, int, int]
"""Stream, event time in microseconds, number."""


@dataclass
class Log:
    """A partition, its committed position, and its part of the state topic: what survives a worker."""

    records: list[Record]
    offset: int = 0
    metadata: str = ""
    state: dict[str, bytes] = field(default_factory=dict)
    windows: list[tuple[Key, tuple[int, ...], int]] = field(default_factory=list)
    """Key, offsets of the chosen frames, and number of frames of each window that was given out."""
    late: list[int] = field(default_factory=list)


class Worker:
    """Reads a log in batches of the given sizes; `commit` decides after which of them."""

    def __init__(self, log: Log, config: WindowConfig) -> None:
        self.log, self.config = log, config
        handled = handled_from(log.offset, log.metadata)
        self.progress = PartitionProgress(config, handled, log.state, log.offset)
        self.position = log.offset

    def read(self, count: int) -> list[int]:
        """Read so many records; the offsets of late ones."""
        late = []
        for offset in range(self.position, min(self.position + count, len(self.log.records))):
            stream, pts, seq = self.log.records[offset]
            new = self.progress.first_time(offset)
            verdict = self.progress.add(stream, BufferedFrame(pts, seq, Payload("image/jpeg", b""), offset=offset))
            if new and verdict == "late":
                late.append(offset)
        self.position = min(self.position + count, len(self.log.records))
        return late

    def commit(self, late: list[int], limit: int = 1000) -> None:
        if self.position == len(self.log.records):
            self.progress.looked(0)
        windows = self.progress.ready(limit)
        changes = self.progress.take_changes()
        self.log.offset, self.log.metadata = self.progress.commit_offset(), self.progress.metadata()
        for stream, state in changes.items():
            self.log.state.pop(stream, None)
            if state is not None:
                self.log.state[stream] = state
        self.log.late += late
        self.log.windows += [shown(window) for window in windows]


def shown(window: Window) -> tuple[Key, tuple[int, ...], int]:
    key = (window.stream_id, window.session, window.index)
    return key, tuple(frame.offset for frame in window.chosen), window.frames


def undisturbed(records: list[Record], config: WindowConfig) -> Log:
    log = Log(records)
    worker = Worker(log, config)
    worker.commit(worker.read(len(records)))
    return log


def seconds(stream: str, *times: float, first: int = 0) -> list[Record]:
    return [(stream, round(time * S), first + number) for number, time in enumerate(times)]


def test_commit_never_passes_a_frame_that_is_needed() -> None:
    log = Log(seconds("a", 0, 1, 2, 3) + seconds("b", 0))
    worker = Worker(log, CONFIG)
    worker.commit(worker.read(4))
    assert [key[2] for key, _, _ in log.windows] == [0, 1]
    assert log.offset == 2  # window 2 needs the frame at second 2
    worker.commit(worker.read(1))
    assert log.offset == 2


def test_a_commit_before_all_is_read_again_passes_nothing_either() -> None:
    log = Log(seconds("a", 0, 1, 2, 3) + seconds("b", 0))
    worker = Worker(log, CONFIG)
    worker.commit(worker.read(5))
    for count in (0, 1, 1, 1):
        heir = Worker(log, CONFIG)
        heir.commit(heir.read(count))
        assert (log.offset, handled_from(log.offset, log.metadata)) == (2, 5)


def test_a_stream_that_starts_again_begins_a_session() -> None:
    again = undisturbed(seconds("a", 0, 1, 2, 3, 4) + seconds("a", 0, 1, 2, 3), CONFIG)
    assert [key for key, _, _ in again.windows] == [("a", 0, k) for k in range(5)] + [("a", 5, 0), ("a", 5, 1)]
    assert again.late == []


def test_a_clock_that_goes_back_begins_a_session_and_one_that_jumps_ahead_does_not() -> None:
    back = undisturbed(seconds("a", 10, 11, 12, 13, 5, 6, 7), CONFIG)
    assert {key[1] for key, _, _ in back.windows} == {0, 4}
    ahead = undisturbed(seconds("a", 0, 1, 2, 5000, 5001, 5002), CONFIG)
    assert {key[1] for key, _, _ in ahead.windows} == {0}
    assert [key[2] for key, _, _ in ahead.windows] == [0, 1, 2, 4999, 5000]


def test_one_wrong_time_does_not_end_a_stream() -> None:
    """A single frame from the far future seals everything; the frames that follow are of a new session, not late."""
    log = undisturbed(seconds("a", 0, 1, 2, 9e8, 4, 5, 6, 7, 8), CONFIG)
    assert log.late == []
    assert [key[2] for key, _, _ in log.windows if key[1] == 4] == [3, 4, 5, 6]


@st.composite
def partitions(draw: st.DrawFn) -> tuple[WindowConfig, list[Record]]:
    """Up to three streams, interleaved: out of order, late, repeated, started again, with clocks that jump."""
    stride = draw(st.sampled_from([0.5, 1.0]))
    config = WindowConfig(
        size=stride * draw(st.sampled_from([1, 2, 4])), stride=stride, frames=3,
        allowed_lateness=draw(st.sampled_from([0.0, 1.0])), max_gap_windows=draw(st.sampled_from([0, 2, 50])),
    )  # fmt: skip
    clocks = {name: [draw(st.integers(0, 5)) * S, 0] for name in "abc"[: draw(st.integers(1, 3))]}
    records: list[Record] = []
    for _ in range(draw(st.integers(1, 60))):
        name = draw(st.sampled_from(sorted(clocks)))
        event = draw(st.sampled_from(["next"] * 8 + ["delayed", "again", "restart", "back", "ahead"]))
        clock = clocks[name]
        if event == "again" and records:
            records.append(draw(st.sampled_from(records)))
            continue
        if event == "restart":
            clocks[name] = clock = [0, 0]
        elif event == "back":
            clock[0] = max(0, clock[0] - 8 * S)
        elif event == "ahead":
            clock[0] += 30 * S
        lag = draw(st.integers(0, 4)) * S // 2 if event == "delayed" else 0
        records.append((name, max(0, clock[0] - lag), max(0, clock[1] - 2) if lag else clock[1]))
        clock[0] += draw(st.integers(1, 12)) * S // 8
        clock[1] += 1
    return config, records


@settings(max_examples=400, deadline=None)
@given(
    partitions(),
    st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.integers(1, 4), st.sampled_from([True, False, False]))),
)
def test_a_worker_that_dies_anywhere_repeats_and_loses_nothing(
    case: tuple[WindowConfig, list[Record]], steps: list[tuple[int, bool, int, bool]]
) -> None:
    """Batches of any size, turns that give out only a part of the windows, deaths between any two steps."""
    config, records = case
    expected = undisturbed(records, config)
    log = Log(records)
    worker = Worker(log, config)
    late: list[int] = []
    for count, commits, windows, dies in steps:
        late += worker.read(count)
        if commits:
            worker.commit(late, windows)
            late = []
        if dies:
            worker, late = Worker(log, config), []
    worker.commit(late + worker.read(len(records)))
    for stream in "abc":
        mine = [window for window in log.windows if window[0][0] == stream]
        assert mine == [window for window in expected.windows if window[0][0] == stream]
    assert sorted(log.late) == expected.late
    keys = [key for key, _, _ in log.windows]
    assert len(set(keys)) == len(keys)


def test_silence_closes_a_stream_and_its_next_window_stays_known() -> None:
    log = Log(seconds("a", 0) + seconds("a", 0.5, 1.5, first=1))
    worker = Worker(log, CONFIG)
    worker.commit(worker.read(1))
    worker.progress.looked(4.0)
    assert worker.progress.waiting() == 0
    worker.progress.looked(1.5)
    worker.commit([])
    assert [key[2] for key, _, _ in log.windows] == [0]
    assert log.offset == 1
    worker.progress.looked(0.1)
    assert worker.progress.streams() == (0, 1)
    for heir in (worker, Worker(log, CONFIG)):
        assert heir.read(2) == [1]
        assert heir.progress.streams() == (1, 0)


def test_a_stream_is_forgotten_when_no_record_of_it_can_be_read_again() -> None:
    busy = seconds("b", *range(3))
    log = Log(seconds("a", 0) + busy)
    worker = Worker(log, CONFIG)
    worker.commit(worker.read(1))
    worker.progress.looked(6)
    worker.commit([])
    worker.progress.looked(0.1)
    assert set(log.state) == {"a"}
    worker.progress.looked(100)
    worker.commit([])
    assert log.state == {}
    assert worker.progress.streams() == (0, 0)
    log.records += seconds("a", 0, 1, 2)
    worker.commit(worker.read(10))
    assert {key[1] for key, _, _ in log.windows if key[0] == "a"} == {0, 4}, "a new session, and nothing is late"


def test_ten_thousand_silent_streams_are_a_few_numbers_each() -> None:
    log = Log([(f"s{number}", 0, 0) for number in range(10_000)])
    worker = Worker(log, CONFIG)
    worker.read(10_000)
    worker.progress.looked(6)
    worker.commit([], 10_000)
    worker.progress.looked(0.1)
    assert worker.progress.streams() == (0, 10_000)
    assert log.offset == 10_000
    assert max(map(len, log.state.values())) < 120
    heir = Worker(log, CONFIG)
    assert heir.progress.streams() == (0, 10_000)
    assert heir.progress.take_changes() == {}


def test_a_record_that_cannot_be_decoded_is_reported_once_as_long_as_it_is_needed() -> None:
    log = Log(seconds("a", 0, 1, 2, 3))
    worker = Worker(log, CONFIG)
    worker.read(3)
    worker.progress.ready(1)  # window 0, with the records 0 and 1
    assert [worker.progress.report("a", 1), worker.progress.report("a", 1)] == [True, False]
    worker.commit([], limit=0)
    assert recall(log.state["a"]).broken == (1,)
    heir = Worker(log, CONFIG)
    heir.read(4)
    assert not heir.progress.report("a", 1)
    assert heir.progress.report("a", 2)
    heir.commit([])
    assert recall(log.state["a"]).broken == (2,), "nothing needs record 1 any more"


def test_streams_take_turns_at_being_first() -> None:
    progress = PartitionProgress(CONFIG)
    for offset, (stream, second) in enumerate((stream, second) for second in range(10) for stream in "ab"):
        progress.first_time(offset)
        progress.add(stream, BufferedFrame(second * S, second, Payload("image/jpeg", b""), offset=offset))
    assert {progress.ready(2)[0].stream_id for _ in range(2)} == {"a", "b"}


def test_state_that_is_not_ours_is_told_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    progress = PartitionProgress(CONFIG, 5, {"a": b"hello", "b": b'{"format": 9}'})
    assert progress.streams() == (0, 0)
    assert "stream a begins a new session: not the state of a stream: b'hello'" in caplog.text
    with pytest.raises(ValueError, match="format 9"):
        recall(b'{"format": 9}')


def test_handled_is_the_largest_that_is_known() -> None:
    state = json.dumps({"format": 1, "handled": 30, "sessions": [[7, 3, 20, 2 * S, 2]], "broken": []}).encode()
    assert PartitionProgress(CONFIG, 10, {"a": state}).handled == 30  # a broker that keeps no metadata


@pytest.mark.parametrize("metadata", ["", None, "{", "[]", '{"handled": "x"}', "hello", '{"handled": 3}'])
def test_foreign_metadata_is_ignored(metadata: str | None) -> None:
    assert handled_from(5, metadata) == 5
    assert handled_from(5, '{"handled": 8}') == 8
