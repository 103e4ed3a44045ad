"""A model that fails costs time; a window that breaks it costs that window; nothing is lost."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence

import pytest

from ray_fer.streaming import attempts
from ray_fer.streaming.attempts import Attempts, Inference, StoppedError
from ray_fer.streaming.messages import CultureInfo, ModelInfo, Prediction, WindowInfo
from ray_fer.streaming.references import StoreAwayError
from ray_fer.streaming.windows import Window


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "_FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(attempts, "_LONGEST_WAIT_S", 0.002)


def windows(count: int) -> list[Window]:
    return [Window("s", index, index, index + 1, 1, ()) for index in range(count)]


def answered(given: Sequence[Window]) -> Inference:
    return Inference(
        [
            Prediction(
                stream_id=one.stream_id,
                window=WindowInfo(index=one.index, start_us=0, end_us=1, frames=1, faces=0),
                status="no_face" if one.failed is None else "failed",
                culture=CultureInfo(source="global_prior", weights={}),
                model=ModelInfo(name="m", version="0"),
            )
            for one in given
        ],
        [],
    )


def statuses(answer: Inference) -> list[tuple[int, str]]:
    return [(one.window.index, one.status) for one in answer.predictions]


def test_a_model_that_fails_now_and_then_is_asked_again() -> None:
    chance = random.Random(3)

    def infer(given: Sequence[Window]) -> Inference:
        if chance.random() < 0.5:
            raise TimeoutError("no answer within 120 s")
        return answered(given)

    asking = Attempts(infer)
    for _ in range(100):
        assert statuses(asking.run(windows(3))) == [(0, "no_face"), (1, "no_face"), (2, "no_face")]
    assert asking.failures > 5


def test_a_window_that_breaks_the_model_is_given_out_as_failed() -> None:
    def infer(given: Sequence[Window]) -> Inference:
        if any(one.index == 2 and one.failed is None for one in given):
            raise ValueError("cannot look at 2")
        return answered(given)

    asking = Attempts(infer)
    assert statuses(asking.run(windows(4))) == [(0, "no_face"), (1, "no_face"), (2, "failed"), (3, "no_face")]
    assert asking.failures == 3 + 5


def test_a_model_that_is_away_is_waited_for() -> None:
    calls = []

    def infer(given: Sequence[Window]) -> Inference:
        calls.append(len(given))
        if len(calls) < 20:
            raise ConnectionError("the stage is being restarted")
        return answered(given)

    assert statuses(Attempts(infer).run(windows(3))) == [(0, "no_face"), (1, "no_face"), (2, "no_face")]
    assert calls[:6] == [3, 3, 3, 1, 1, 1]
    assert len(calls) < 40


def test_a_single_window_that_breaks_the_model_does_not_stop_the_partition() -> None:
    def infer(given: Sequence[Window]) -> Inference:
        if given[0].failed is None:
            raise ValueError("cannot look at it")
        return answered(given)

    assert statuses(Attempts(infer).run(windows(1))) == [(0, "failed")]


@pytest.mark.parametrize("count", [1, 4])
def test_a_window_whose_pictures_lie_in_a_store_that_is_away_does_not_fail(count: int) -> None:
    calls = []

    def infer(given: Sequence[Window]) -> Inference:
        calls.append(len(given))
        if len(calls) < 200 and any(one.index == 0 for one in given):
            raise StoreAwayError("s3://bucket/frames/a.jpg: the store does not answer")
        return answered(given)

    assert statuses(Attempts(infer).run(windows(count))) == [(index, "no_face") for index in range(count)]


def test_stopping_ends_the_waiting() -> None:
    failing = threading.Event()

    def infer(given: Sequence[Window]) -> Inference:
        failing.set()
        raise ConnectionError("gone")

    asking = Attempts(infer)
    stopper = threading.Thread(target=lambda: (failing.wait(), asking.stop()))
    stopper.start()
    with pytest.raises(StoppedError, match="gone"):
        asking.run(windows(1))
    stopper.join()
