"""Batches ahead of time: threads read and decode the next ones while the model works on this one."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")


class Prefetcher(Generic[T, U]):
    """Iterates over `make(item)` for each item, in order, with up to `ahead` results being made at once.

    `waited` counts the seconds in which a result was asked for and not there. What `make` raises is raised in its
    place. Leaving the iteration early leaves no thread behind.
    """

    def __init__(self, make: Callable[[T], U], items: Iterable[T], ahead: int = 2, threads: int = 1) -> None:
        self._make = make
        self._items = items
        self._ahead = max(1, ahead)
        self._threads = max(1, threads)
        self.waited = 0.0

    def __iter__(self) -> Iterator[U]:
        items = iter(self._items)
        pending: deque[Future[U]] = deque()
        with ThreadPoolExecutor(self._threads, thread_name_prefix="loader") as pool:
            try:
                while True:
                    for item in islice(items, self._ahead - len(pending)):
                        pending.append(pool.submit(self._make, item))
                    if not pending:
                        return
                    started = time.perf_counter()
                    result = pending.popleft().result()
                    self.waited += time.perf_counter() - started
                    yield result
            finally:
                for future in pending:
                    future.cancel()
