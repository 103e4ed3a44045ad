"""Records of a training run, from its first worker to the driver, wherever each of them runs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_EVERY_S = 0.5
_SETTLE_S = 20.0

Record = dict[str, Any]
"""Described in `ray_fer.training.tracking`, which workers do not import."""


class _Mailbox:
    def __init__(self) -> None:
        self._records: list[Record] = []
        self._added = self._heard = 0
        self._changed = asyncio.Condition()

    async def add(self, records: list[Record], after: None = None) -> None:
        """`after` is what an earlier call returned: Ray waits for it, else an asyncio actor may take this one first."""
        async with self._changed:
            self._records += records
            self._added += len(records)
            self._changed.notify_all()

    async def take(self, wait_s: float) -> list[Record]:
        """What has come, waited for if need be. Whoever takes again has dealt with what was taken before."""
        async with self._changed:
            self._heard = self._added - len(self._records)
            self._changed.notify_all()
            if not self._records:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait_for(lambda: bool(self._records)), wait_s)
            taken, self._records = self._records, []
            return taken

    async def settled(self, after: None = None) -> None:
        """Wait until everything that was added before has been dealt with; `after` as in `add`."""
        async with self._changed:
            added = self._added
            await self._changed.wait_for(lambda: self._heard >= added)


class Outbox:
    """Sends records to a mailbox, many at a time so that a step does not pay for one; nowhere where that is None."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox
        self._records: list[Record] = []
        self._sent = time.monotonic()
        self._last: Any = None

    def put(self, record: Record) -> None:
        """Send the record soon: epochs and starts at once, with all steps before them."""
        if self._mailbox is None:
            return
        self._records.append(record)
        if record["event"] != "step" or time.monotonic() - self._sent >= _EVERY_S:
            self._send()

    def settle(self) -> None:
        """Wait until the driver has heard all records, or does not seem to listen."""
        if self._mailbox is not None:
            self._send()
            ray.wait([self._mailbox.settled.remote(self._last)], timeout=_SETTLE_S)

    def close(self) -> None:
        """Wait until all records have arrived."""
        if self._mailbox is not None:
            ray.get(self._send())

    def _send(self) -> Any:
        records, self._records = self._records, []
        self._sent = time.monotonic()
        self._last = self._mailbox.add.remote(records, self._last)
        return self._last


@contextmanager
def mailbox(heard: Callable[[Record], None]) -> Iterator[Any]:
    """A mailbox to give to workers; `heard` is called in a thread with each record, until the block ends.

    What `heard` raises ends the calls, and is raised at the end of the block.
    """
    # On the driver's node: a node that dies must not take the mailbox with it.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    box = ray.remote(num_cpus=0, scheduling_strategy=here)(_Mailbox).remote()
    stop, failed = threading.Event(), list[Exception]()

    def read(wait_s: float) -> bool:
        records = ray.get(box.take.remote(wait_s))
        for record in records if not failed else ():
            try:
                heard(record)
            except Exception as error:
                failed.append(error)
                break
        return bool(records)

    def loop() -> None:
        try:
            while not stop.is_set():
                read(_EVERY_S)
        except ray.exceptions.RayError as error:  # the mailbox is gone
            failed.append(error)

    thread = threading.Thread(target=loop, name="mailbox", daemon=True)
    thread.start()
    try:
        yield box
    finally:
        stop.set()
        thread.join()
        with suppress(ray.exceptions.RayError):
            while read(0.0):
                pass
        ray.kill(box)
    if failed:
        raise failed[0]
