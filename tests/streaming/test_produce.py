"""Sending streams: each frame when it is due, all of them once and in order, with bounded memory and honest counts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.errors import KafkaTimeoutError, MessageSizeTooLargeError, TopicAuthorizationFailedError
from kafka.future import Future

from ray_fer.streaming.delivery import Delivery, undelivered_line
from ray_fer.streaming.encoding import Encoding
from ray_fer.streaming.frame_message import FrameMessage
from ray_fer.streaming.live_source import Arrivals, LiveSource
from ray_fer.streaming.produce import Pace, Tally, produce
from ray_fer.streaming.timetable import Outgoing, RecordedStream, in_event_time, passes
from ray_fer.video.limits import MediaError


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class Sleep(Arrivals):
    """Waiting for live frames moves the clock on."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def take(self, timeout_s: float) -> Outgoing | None:
        arrived = super().take(0)
        if arrived is None:
            self._clock.now += timeout_s
        return arrived


@dataclass
class Writer:
    """A Kafka producer whose records are acknowledged at once, or fail, or stay open."""

    clock: Clock = field(default_factory=Clock)
    answer: Callable[[FrameMessage, Future], object] = lambda message, future: future.success(None)
    takes_s: float = 0.0
    sent: list[FrameMessage] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def send(self, topic: str, value: bytes, key: bytes, headers: list[tuple[str, bytes]]) -> Future:
        assert topic == "frames"
        fields = dict(headers)
        assert key == fields["stream-id"]
        message = FrameMessage(
            key.decode(), int(fields["pts-us"]), int(fields["seq"]), fields["content-type"].decode(), value
        )
        assert message.headers() == headers
        self.sent.append(message)
        self.times.append(self.clock.now)
        self.clock.now += self.takes_s
        future: Future = Future()
        self.answer(message, future)
        return future

    def close(self, timeout: float | None) -> None:
        pass


def recorded(stream_id: str, jpeg: bytes, seconds: Sequence[float]) -> RecordedStream:
    messages = [FrameMessage(stream_id, round(at * 1e6), seq, "image/jpeg", jpeg) for seq, at in enumerate(seconds)]
    return RecordedStream(stream_id, functools.partial(iter, messages))


def send(
    streams: Sequence[RecordedStream], pace: Pace, writer: Writer | None = None, reports: list[str] | None = None
) -> tuple[Writer, Tally]:
    writer = writer or Writer()
    delivery = Delivery(writer, "frames")
    tally = produce(
        streams, [], delivery, pace, clock=writer.clock, arrivals=Sleep(writer.clock),
        report=([] if reports is None else reports).append,
    )  # fmt: skip
    delivery.close()
    return writer, tally


def test_streams_are_sent_side_by_side_each_frame_at_its_time(jpeg: bytes) -> None:
    streams = [recorded("a", jpeg, [0, 1, 2]), recorded("b", jpeg, [0.5, 0.75, 3]), recorded("c", jpeg, [0])]
    writer, tally = send(streams, Pace(start_us=7_000_000))
    assert [(m.stream_id, m.seq, m.pts_us) for m in writer.sent] == [
        ("a", 0, 7_000_000), ("c", 0, 7_000_000), ("b", 0, 7_500_000), ("b", 1, 7_750_000),
        ("a", 1, 8_000_000), ("a", 2, 9_000_000), ("b", 2, 10_000_000),
    ]  # fmt: skip
    assert writer.times == pytest.approx([(m.pts_us - 7_000_000) / 1e6 for m in writer.sent])
    assert (tally.frames, tally.bytes, tally.late) == (7, 7 * len(jpeg), 0)


@pytest.mark.parametrize(("speed", "times"), [(2, [0, 0.5, 1.0]), (0.5, [0, 2, 4]), (0, [0, 0, 0])])
def test_speed_is_that_of_the_clock_not_of_event_time(jpeg: bytes, speed: float, times: list[float]) -> None:
    writer, _ = send([recorded("a", jpeg, [0, 1, 2])], Pace(speed=speed))
    assert writer.times == pytest.approx(times)
    assert [message.pts_us for message in writer.sent] == [0, 1_000_000, 2_000_000]


def test_a_loop_goes_on_in_event_time_and_seq_from_whole_second_to_whole_second(jpeg: bytes) -> None:
    streams = [recorded("a", jpeg, [0, 0.5, 1.2]), recorded("b", jpeg, [0, 0.9])]
    writer, _ = send(streams, Pace(loop=True, start_us=500_000, limit=13))
    sent = {name: [(m.pts_us, m.seq) for m in writer.sent if m.stream_id == name] for name in "ab"}
    assert sent["a"] == [
        (500_000, 0), (1_000_000, 1), (1_700_000, 2), (2_500_000, 3), (3_000_000, 4), (3_700_000, 5),
    ]  # fmt: skip
    assert (
        sent["b"]
        == [(500_000 + 1_000_000 * turn + at, 2 * turn + (at > 0)) for turn in range(4) for at in (0, 900_000)][:7]
    )


def test_the_limit_counts_frames_of_all_streams(jpeg: bytes) -> None:
    writer, tally = send([recorded(name, jpeg, range(10)) for name in "abc"], Pace(speed=0, limit=4))
    assert len(writer.sent) == tally.frames == 4


def test_what_cannot_keep_real_time_is_sent_late_said_once_and_counted(jpeg: bytes) -> None:
    reports: list[str] = []
    writer, tally = send([recorded("a", jpeg, [n / 10 for n in range(20)])], Pace(), Writer(takes_s=0.5), reports)
    assert [message.seq for message in writer.sent] == list(range(20))
    behind = [0.5 * n - n / 10 for n in range(20)]  # frame n is due after n / 10 s and sent after n sends of 0.5 s
    assert tally.late == sum(one > 1 for one in behind)
    assert tally.most_behind_s == pytest.approx(max(behind))
    assert len(reports) == 1
    assert "real time cannot be kept" in reports[0]


def test_a_broken_stream_ends_and_the_others_go_on(jpeg: bytes) -> None:
    def broken() -> Iterator[FrameMessage]:
        yield FrameMessage("broken", 0, 0, "image/jpeg", jpeg)
        raise MediaError("broken.mp4", "damaged at frame 1")

    reports: list[str] = []
    streams = [RecordedStream("broken", broken), recorded("whole", jpeg, range(3))]
    writer, tally = send(streams, Pace(speed=0), reports=reports)
    assert [message.stream_id for message in writer.sent] == ["broken", "whole", "whole", "whole"]
    assert tally.failed == {"broken": "damaged at frame 1"}
    assert reports == ["error: broken.mp4: damaged at frame 1"]


def test_a_defect_of_a_stream_is_not_taken_for_bad_input(jpeg: bytes) -> None:
    def defect() -> Iterator[FrameMessage]:
        yield FrameMessage("defect", 0, 0, "image/jpeg", jpeg)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        send([RecordedStream("defect", defect)], Pace(speed=0))


@given(
    st.lists(st.lists(st.integers(0, 50), max_size=12).map(sorted), min_size=1, max_size=5),
)
def test_the_timetable_is_the_sorted_union_and_reads_little_ahead(times: list[list[int]]) -> None:
    read = [0] * len(times)

    def stream(place: int) -> Iterator[Outgoing]:
        for seq, at in enumerate(times[place]):
            read[place] += 1
            yield Outgoing(FrameMessage(str(place), at, seq, "image/jpeg", b""), 1, at)

    given_out = [0] * len(times)
    order = []
    with ThreadPoolExecutor(2) as pool:
        for outgoing in in_event_time([stream(place) for place in range(len(times))], pool, pytest.fail):
            place = int(outgoing.message.stream_id)
            given_out[place] += 1
            assert all(ahead - out <= 1 for ahead, out in zip(read, given_out, strict=True))
            assert outgoing.message.seq == given_out[place] - 1
            order.append(outgoing.due_us)
    assert order == sorted(at for one in times for at in one)


def test_a_segment_is_due_when_its_last_frame_is(jpeg: bytes) -> None:
    segment = Outgoing(FrameMessage("a", 0, 0, "video/mp4", b"..."), 30, 967_000)
    stream = RecordedStream("b", functools.partial(iter, [FrameMessage("b", 500_000, 0, "image/jpeg", jpeg)]))
    with ThreadPoolExecutor(2) as pool:
        both = [iter([segment]), passes(stream, 0, loop=False)]
        merged = [outgoing.message.stream_id for outgoing in in_event_time(both, pool, pytest.fail)]
    assert merged == ["b", "a"]


def outgoing(size: int, frames: int = 1) -> Outgoing:
    return Outgoing(FrameMessage("a", 0, 0, "image/jpeg", b"x" * size), frames, 0)


def test_only_so_many_bytes_are_on_their_way() -> None:
    open_: list[Future] = []
    delivery = Delivery(Writer(answer=lambda message, future: open_.append(future)), "frames", max_bytes=100)
    assert delivery.has_room(outgoing(1000), 0), "one message must go, however large"
    delivery.send(outgoing(60))
    assert delivery.has_room(outgoing(40), 0)
    assert not delivery.has_room(outgoing(41), 0)
    open_[0].success(None)
    assert delivery.has_room(outgoing(100), 0)


def test_waiting_for_the_broker_can_be_interrupted(jpeg: bytes) -> None:
    delivery = Delivery(Writer(answer=lambda message, future: None), "frames", max_bytes=len(jpeg))
    looks: list[Tally] = []
    tally = produce(
        [recorded("a", jpeg, range(5))], [], delivery, Pace(speed=0), stopped=lambda: len(looks) > 4,
        progress=looks.append,
    )  # fmt: skip
    assert tally.frames == 1
    delivery.close()
    assert delivery.undelivered == {"not acknowledged before the end": 1}


def test_frames_that_are_not_delivered_are_counted_by_reason() -> None:
    errors = iter([KafkaTimeoutError("Expiring 1"), KafkaTimeoutError("Expiring 2"), MessageSizeTooLargeError(), None])

    def answer(message: FrameMessage, future: Future) -> None:
        error = next(errors)
        _ = future.success(None) if error is None else future.failure(error)

    delivery = Delivery(Writer(answer=answer), "frames")
    for frames in (3, 4, 1, 1):
        delivery.send(outgoing(10, frames))
    delivery.close()
    assert delivery.refused is None
    assert undelivered_line(delivery.undelivered) == (
        "8 frames were not delivered: the broker did not acknowledge them in time (7); "
        "larger than the topic or `max_message_bytes` allows (1)"
    )


def test_what_the_client_refuses_at_once_is_counted_too() -> None:
    def refuse(message: FrameMessage, future: Future) -> None:
        raise MessageSizeTooLargeError("9000000 bytes")

    delivery = Delivery(Writer(answer=refuse), "frames", max_bytes=10)
    delivery.send(outgoing(10))
    assert delivery.undelivered.total() == 1
    assert delivery.has_room(outgoing(10), 0)


def test_nothing_more_is_sent_once_the_broker_has_refused(jpeg: bytes) -> None:
    writer = Writer(answer=lambda message, future: future.failure(TopicAuthorizationFailedError("frames")))
    _, tally = send([recorded("a", jpeg, range(100))], Pace(speed=0), writer)
    assert len(writer.sent) == 1
    assert tally.undelivered.total() == 1


def test_live_frames_are_sent_as_they_come_beside_recorded_ones(jpeg: bytes) -> None:
    def camera(source: str) -> Iterator[tuple[int | None, Callable[[], np.ndarray]]]:
        for at in range(10):
            yield at * 40_000, lambda: np.zeros((32, 32, 3), np.uint8)
        raise MediaError("camera", "gone")

    live = LiveSource("camera:0", "live", Encoding(), start_us=5_000_000, opened=camera)
    delivery = Delivery(writer := Writer(), "frames")
    reports: list[str] = []
    tally = produce(
        [recorded("file", jpeg, range(3))], [live], delivery, Pace(speed=0, limit=13), report=reports.append
    )
    assert (tally.streams, tally.frames) == (2, 13)
    sent = [(m.seq, m.pts_us) for m in writer.sent if m.stream_id == "live"]
    assert sent == [(seq, 5_000_000 + 40_000 * seq) for seq in range(10)]
    assert [m.seq for m in writer.sent if m.stream_id == "file"] == [0, 1, 2]


def test_it_is_over_when_no_source_can_be_read(jpeg: bytes) -> None:
    def nothing(source: str) -> Iterator[tuple[int | None, Callable[[], object]]]:
        raise MediaError("camera:9", "cannot be opened")
        yield

    live = [LiveSource(name, name, Encoding(), opened=nothing) for name in ("camera:8", "camera:9")]
    reports: list[str] = []
    tally = produce([], live, Delivery(Writer(), "frames"), Pace(), report=reports.append)
    assert tally.failed == {"camera:8": "cannot be opened", "camera:9": "cannot be opened"}
    assert sorted(reports) == ["error: camera:8: cannot be opened", "error: camera:9: cannot be opened"]
