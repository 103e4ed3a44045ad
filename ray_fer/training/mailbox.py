"""Records of a training run, from its first worker to the driver, wherever each of them runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_EVERY_S = 0.5

Record = dict[str, Any]
"""Described in `ray_fer.training.tracking`, which workers do not import."""


class _Mailbox:
    def __init__(self) -> None:
        self._records: list[Record] = []

    def add(self, records: list[Record]) -> None:
        self._records += records

    def take(self) -> list[Record]:
        taken, self._records = self._records, []
        return taken


class Outbox:
    """Sends records to a mailbox, many at a time so that a step does not pay for one; nowhere where that is None."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox
        self._records: list[Record] = []
        self._sent = time.monotonic()

    def put(self, record: Record) -> None:
        """Send the record soon: epochs and starts at once, with all steps before them."""
        if self._mailbox is None:
            return
        self._records.append(record)
        if record["event"] != "step" or time.monotonic() - self._sent >= _EVERY_S:
            self._send()

    def close(self) -> None:
        """Wait until all records have arrived."""
        if self._mailbox is not None:
            ray.get(self._send())

    def _send(self) -> Any:
        records, self._records = self._records, []
        self._sent = time.monotonic()
        return self._mailbox.add.remote(records)


@contextmanager
def mailbox(heard: Callable[[Record], None]) -> Iterator[Any]:
    """A mailbox to give to workers; `heard` is called in a thread with each record, until the block ends.

    What `heard` raises ends the calls, and is raised at the end of the block.
    """
    # On the driver's node: a node that dies must not take the mailbox with it.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    box = ray.remote(num_cpus=0, scheduling_strategy=here)(_Mailbox).remote()
    stop, failed = threading.Event(), list[Exception]()

    def read() -> None:
        for record in ray.get(box.take.remote()):
            heard(record)

    def loop() -> None:
        try:
            while not stop.wait(_EVERY_S):
                read()
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=loop, name="mailbox", daemon=True)
    thread.start()
    try:
        yield box
    finally:
        stop.set()
        thread.join()
        if not failed:
            read()
        ray.kill(box)
    if failed:
        raise failed[0]
