"""The prefetcher: order, errors, waiting, and no thread left behind."""

from __future__ import annotations

import threading
import time

import pytest

from ray_fer.training.loader import Prefetcher


@pytest.mark.parametrize(("ahead", "threads"), [(1, 1), (3, 2), (50, 4)])
def test_results_come_in_order(ahead: int, threads: int) -> None:
    assert list(Prefetcher(lambda n: n * n, range(20), ahead, threads)) == [n * n for n in range(20)]


def test_no_more_than_so_many_are_made_ahead() -> None:
    made: list[int] = []
    results = iter(Prefetcher(lambda n: made.append(n) or n, range(100), ahead=3, threads=2))
    assert next(results) == 0
    time.sleep(0.1)
    assert len(made) <= 3
    results.close()  # type: ignore[attr-defined]


def test_an_error_comes_in_its_place_and_ends_the_threads() -> None:
    def make(number: int) -> int:
        if number == 2:
            raise ValueError("clip 2 is damaged")
        return number

    results = iter(Prefetcher(make, range(5), ahead=4, threads=2))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="clip 2 is damaged"):
        next(results)
    assert not [one for one in threading.enumerate() if one.name.startswith("loader")]


def test_only_time_in_which_nothing_was_ready_counts_as_waiting() -> None:
    def slow(number: int) -> int:
        time.sleep(0.02)
        return number

    hungry = Prefetcher(slow, range(5), ahead=1)
    assert list(hungry) == [0, 1, 2, 3, 4]
    assert hungry.waited >= 0.08
    fed = Prefetcher(slow, range(5), ahead=5, threads=5)
    for _ in fed:
        time.sleep(0.05)
    assert fed.waited < 0.06
