"""The harness of the fault tests sees every kind of mistake that it is there to see."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ray_fer.streaming.messages import CultureInfo, ModelInfo, Prediction, WindowInfo, dead_letter_headers
from tests.integration.stream_traffic import Answer, Key, Position, Record, Traffic, compare, expected

LOG = {(0, offset): record for offset, record in enumerate(Traffic(streams=2, seconds=12).records)}
WANTED = expected(LOG)


def prediction(key: Key, answer: Answer) -> Prediction:
    (stream_id, run, index), (status, expression, frames, start_us, end_us) = key, answer
    return Prediction(
        stream_id=stream_id,
        # Sessions have names; only their order is known.
        window=WindowInfo(session=100 * run, index=index, start_us=start_us, end_us=end_us, frames=frames, faces=0),
        status=status,
        expression=expression,
        culture=CultureInfo(source="global_prior", weights={}),
        model=ModelInfo(name="fake", version="0"),
    )


def letter(position: Position, record: Record) -> Any:
    headers = dead_letter_headers(record.headers, "why", "frames", *position)
    return SimpleNamespace(key=record.stream_id.encode(), value=record.value, headers=headers)


PREDICTIONS = [prediction(key, answer) for key, answer in WANTED.answers.items()]
LETTERS = [letter(position, record) for position, record in WANTED.dead.items()]


def test_traffic_has_all_that_makes_streams_hard() -> None:
    frames = [record.frame for record in LOG.values() if record.frame is not None]
    assert {record.run for record in LOG.values()} == {0, 1}
    assert any(status == "gap" for status, *_ in WANTED.answers.values())
    assert len(frames) > len({(one.stream_id, one.pts_us, one.payload) for one in frames})
    numbers = [one.seq for one in frames if one.stream_id == "camera-0"]
    assert numbers != sorted(numbers)
    assert any(record.frame is None for record in WANTED.dead.values())
    assert any(record.frame is not None for record in WANTED.dead.values())
    assert list(LOG.values()) == Traffic(streams=2, seconds=12).records


def test_what_is_right_is_right() -> None:
    result = compare("none", WANTED, PREDICTIONS, LETTERS)
    assert result.right()
    assert (result.windows, result.dead_letters) == (len(PREDICTIONS), len(LETTERS))


def test_a_window_that_is_missing_there_twice_or_another_is_seen() -> None:
    assert compare("", WANTED, PREDICTIONS[1:], LETTERS).missing == 1
    assert compare("", WANTED, [*PREDICTIONS, PREDICTIONS[0]], LETTERS).twice == 1
    other = PREDICTIONS[0].model_copy(update={"expression": "another"})
    assert compare("", WANTED, [other, *PREDICTIONS[1:]], LETTERS).different == 1
    window = PREDICTIONS[0].window.model_copy(update={"session": 10**6})
    beyond = PREDICTIONS[0].model_copy(update={"window": window})
    assert compare("", WANTED, [*PREDICTIONS, beyond], LETTERS).different == 1


def test_a_dead_letter_that_is_missing_there_twice_changed_or_of_a_good_record_is_seen() -> None:
    good = next((position, record) for position, record in LOG.items() if position not in WANTED.dead)
    changed = SimpleNamespace(**(vars(LETTERS[0]) | {"value": b"changed"}))
    for letters in (LETTERS[1:], [*LETTERS, LETTERS[0]], [*LETTERS, letter(*good)], [changed, *LETTERS[1:]]):
        assert compare("", WANTED, PREDICTIONS, letters).wrong_letters == 1
