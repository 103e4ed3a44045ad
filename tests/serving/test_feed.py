"""What the API remembers of the predictions topic, and where somebody goes on who was cut off."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ray_fer.serving.feed import KEPT, Recent
from tests.predictions import prediction


def record(stream_id: str, index: int = 0) -> bytes:
    return prediction(index, "Happy").model_copy(update={"stream_id": stream_id}).to_bytes()


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abc")), max_size=40), st.data())
def test_who_goes_on_at_their_position_misses_and_repeats_nothing(
    sent: list[tuple[int, str]], data: st.DataObject
) -> None:
    """Whatever replica they come to: another one has read the partitions in another order."""
    one, other = Recent(), Recent()
    offsets = dict.fromkeys(range(3), 0)
    log = []
    for partition, stream in sent:
        log.append((partition, offsets[partition], record(stream)))
        offsets[partition] += 1
    for entry in log:
        one.add(*entry)
    for entry in sorted(log, key=lambda entry: (entry[0], entry[1])):
        other.add(*entry)
    heard = data.draw(st.integers(0, len(log)))
    seen = one.newest(KEPT)[:heard]
    positions = {event.partition: event.offset + 1 for event in seen}
    following = [(event.partition, event.offset) for event in other.after(positions)]
    assert sorted(following + [(event.partition, event.offset) for event in seen]) == sorted(
        (partition, offset) for partition, offset, _ in log
    )
    assert other.positions == {partition: offset for partition, offset in offsets.items() if offset}


def test_the_newest_of_one_stream_or_of_all() -> None:
    feed = Recent()
    for index in range(6):
        feed.add(0, index, record("even" if index % 2 == 0 else "odd", index))
    assert [event.prediction.window.index for event in feed.newest(4)] == [2, 3, 4, 5]
    assert [event.prediction.window.index for event in feed.newest(2, "odd")] == [3, 5]
    assert feed.newest(0) == []
    assert [event.number for event in feed.since(4)] == [5, 6]
    assert feed.since(6) == []
    assert feed.since(0, "nobody") == []


def test_what_is_no_prediction_is_counted_and_passed_over() -> None:
    feed = Recent()
    for offset, value in enumerate([b"{}", None, b"\xff\xfe", record("s")]):
        feed.add(3, offset, value)
    assert (feed.count, feed.unreadable) == (1, 3)
    assert feed.positions == {3: 4}


def test_memory_is_bounded() -> None:
    feed = Recent()
    value = record("s")
    for offset in range(KEPT + 5):
        feed.add(0, offset, value)
    known = feed.newest(KEPT + 5)
    assert len(known) == KEPT
    assert known[0].number == 6
