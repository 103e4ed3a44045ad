"""A harness that hurts stream workers, and counts what became of every window.

Workers are processes of their own, ``python -m tests.integration.stream_faults worker ...``, with a model whose answer
is a function of the window's content alone. A `Scene` is one run: topics, traffic, workers, and the comparison of what
a reader of committed records finds with what `stream_traffic.expected` says.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import KafkaError
from pydantic import BaseModel

from ray_fer.streaming import faults
from ray_fer.streaming.broker import die_with_parent
from ray_fer.streaming.kafka import consumer, producer
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.messages import Prediction
from ray_fer.streaming.options import StreamOptions
from ray_fer.streaming.topics import create_topics
from ray_fer.streaming.windows import Window
from ray_fer.streaming.worker import Inference, StreamWorker
from tests.integration.stream_traffic import (
    CONFIG,
    UNDECODABLE,
    Position,
    Record,
    Result,
    Traffic,
    answer,
    compare,
    expected,
)

REPOSITORY = Path(__file__).parents[2]
_PATIENCE_S = 60.0
_READY, _ASKED = "ready", "asked"


class FakeModel(BaseModel):
    """Answers with a hash of each window; slowly, late or not at all where it is told to."""

    seconds: float = 0.0
    """How long each call takes."""
    failing: float = 0.0
    """Share of the calls that raise."""
    hanging: float = 0.0
    """How many seconds longer the third call takes."""
    seed: int = 0

    def model_post_init(self, context: Any, /) -> None:
        self._random = random.Random(self.seed)
        self._calls = 0

    def __call__(self, windows: Sequence[Window]) -> Inference:
        print(_ASKED, flush=True)
        self._calls += 1
        time.sleep(self.seconds + (self.hanging if self._calls == 3 else 0.0))
        if self._random.random() < self.failing:
            raise RuntimeError("the model fails now and then")
        broken = []
        for frame in (frame for window in windows for frame in window.chosen):
            if frame.face is None:
                frame.face = "looked at"
                if UNDECODABLE in frame.payload.data:
                    broken.append((frame, "it cannot be decoded"))
        return Inference([answer(window) for window in windows], broken)


class WorkerProcess:
    """A stream worker that can be killed. `fault`: it kills itself at this point, "point[:nth time]"."""

    def __init__(self, settings: KafkaSettings, model: FakeModel, log: Path, fault: str | None = None) -> None:
        self._log = log
        command = [sys.executable, "-m", "tests.integration.stream_faults", "worker"]
        command += ["--settings", settings.model_dump_json(exclude_defaults=True), "--model", model.model_dump_json()]
        environment = os.environ | ({faults.VARIABLE: fault} if fault else {})
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=REPOSITORY, env=environment,
                preexec_fn=die_with_parent,
            )  # fmt: skip

    def wait_until_asked(self, times: int = 1) -> None:
        """Wait until its model was called so often: it has partitions and is at work."""
        self._wait_for_lines(_ASKED, times)
        assert self._process.poll() is None, f"the worker ended: {self._log.read_text(errors='replace')[-3000:]}"

    def kill(self) -> None:
        """SIGKILL; safe to call when it is dead already."""
        self._process.kill()
        self._process.wait()

    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def pause(self) -> None:
        """SIGSTOP: as if the machine had stalled."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def ask_to_stop(self) -> None:
        """SIGTERM, as soon as it listens to that."""
        self._wait_for_lines(_READY, 1)
        self._process.terminate()

    def wait(self) -> int:
        """Its exit status."""
        return self._process.wait(timeout=_PATIENCE_S)

    def _wait_for_lines(self, line: str, times: int) -> None:
        def there() -> bool:
            lines = self._log.read_text(errors="replace").splitlines()
            return lines.count(line) >= times or self._process.poll() is not None

        wait_for(there, f"{self._log}: not {times} times {line!r}")


def wait_for(condition: Callable[[], bool], why: str, within_s: float = _PATIENCE_S) -> None:
    """Ask until it is so; AssertionError when it does not come to be."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, why
        time.sleep(0.05)


def settings_of_a_run(bootstrap_servers: str, **others: Any) -> KafkaSettings:
    """Topics and a group of its own, and a worker that is soon missed."""
    run = uuid.uuid4().hex[:8]
    topics = {"frames_topic": f"{run}-frames", "predictions_topic": f"{run}-predictions"}
    times = {"session_timeout_ms": 2000, "transaction_timeout_ms": 3000}
    own = {"bootstrap_servers": bootstrap_servers, "dead_letter_topic": f"{run}-dead", "group": run}
    return KafkaSettings(**(own | topics | times | others))


class Scene:
    """One run on a Kafka cluster with topics of its own. A context manager; it ends the workers that it started."""

    def __init__(self, bootstrap_servers: str, folder: Path, traffic: Traffic, **settings: Any) -> None:
        self.settings = settings_of_a_run(bootstrap_servers, **settings)
        create_topics(self.settings)
        self._folder = folder
        self._traffic = traffic
        self._workers: list[WorkerProcess] = []
        self._sender = ThreadPoolExecutor(1)
        self._leaving, self._hurry = threading.Event(), threading.Event()

    def __enter__(self) -> Scene:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()
        self._hurry.set()
        for worker in self._workers:
            worker.kill()
        self._sender.shutdown()

    def send(self, seconds: float = 0.0, stalls: Sequence[tuple[float, float]] = ()) -> None:
        """Begin to send the traffic, evenly over so many seconds.

        `stalls`, each (beginning, seconds), hold up every second stream, as if one slow disk held them all: what was
        due in the meantime comes in one burst.
        """
        self._sent = self._sender.submit(self._send, seconds, stalls)

    def send_the_rest(self) -> None:
        """Send what is left of the traffic at once: workers have had enough to do until now."""
        assert not self._sent.done()
        self._hurry.set()

    def _send(self, seconds: float, stalls: Sequence[tuple[float, float]]) -> dict[Position, Record]:
        records = self._traffic.records
        slow = set(sorted({record.stream_id for record in records})[::2]) if stalls else set()

        def due(number: int) -> float:
            second = seconds * number / len(records)
            held = [begin + length for begin, length in stalls if begin <= second < begin + length]
            return max([second, *held]) if records[number].stream_id in slow else second

        writer = producer(self.settings)
        started, sent = time.monotonic(), []
        for second, number in sorted((due(number), number) for number in range(len(records))):
            self._hurry.wait(max(0.0, started + second - time.monotonic()))
            if self._leaving.is_set():
                break
            record = records[number]
            key = record.stream_id.encode()
            sent.append((record, writer.send(self.settings.frames_topic, record.value, key, headers=record.headers)))
        placed = [(future.get(timeout=_PATIENCE_S), record) for record, future in sent]
        writer.close()
        return {(one.partition, one.offset): record for one, record in placed}

    def worker(self, fault: str | None = None, instance: str | None = None, **model: float) -> WorkerProcess:
        """Start a worker; `model` are fields of `FakeModel`."""
        settings = self.settings.model_copy(update={"instance": instance})
        log = self._folder / f"{self.settings.group}-worker-{len(self._workers)}.log"
        self._workers.append(WorkerProcess(settings, FakeModel(**model), log, fault))
        return self._workers[-1]

    def wait_for_members(self, number: int) -> None:
        """Wait until the group has so many members, and they have divided the partitions among themselves."""

        def there() -> bool:
            admin = KafkaAdminClient(bootstrap_servers=self.settings.bootstrap_servers.split(","))
            try:
                group = admin.describe_groups([self.settings.group])[self.settings.group]
                return group["group_state"] == "Stable" and len(group["members"]) == number
            except KafkaError:
                return False
            finally:
                admin.close()

        wait_for(there, f"the group never had {number} members at rest")

    def wait_for_no_transaction(self) -> None:
        """Wait until the cluster has no transaction that is open or being ended."""
        with contextlib.closing(
            KafkaAdminClient(bootstrap_servers=self.settings.bootstrap_servers.split(","))
        ) as admin:
            states = ("Ongoing", "PrepareCommit", "PrepareAbort")
            wait_for(
                lambda: not any(admin.list_transactions(state_filters=states).values()),
                "there was always a transaction",
            )

    def result(self, fault: str) -> Result:
        """Wait for all windows, stop the workers, and compare all that is committed then with the undisturbed run."""
        wanted = expected(self._sent.result())
        predictions: list[Prediction] = []
        letters: list[Any] = []
        with contextlib.closing(consumer(self.settings)) as reader:
            topics = (self.settings.predictions_topic, self.settings.dead_letter_topic)
            reader.assign([TopicPartition(one, number) for one in topics for number in range(self.settings.partitions)])

            def read() -> None:
                for partition, records in reader.poll(timeout_ms=100).items():
                    if partition.topic == self.settings.dead_letter_topic:
                        letters.extend(records)
                    else:
                        predictions.extend(Prediction.model_validate_json(record.value) for record in records)

            def complete() -> bool:
                read()
                return not compare(fault, wanted, predictions, letters).missing and len(letters) >= len(wanted.dead)

            with contextlib.suppress(AssertionError):  # what is missing then is told by the result
                wait_for(complete, "")
            for worker in self._workers:
                worker.ask_to_stop()
            statuses = {worker.wait() for worker in self._workers}
            assert statuses <= {0, 137, -signal.SIGKILL}, f"exit statuses {statuses}; see the logs in {self._folder}"

            # All that was written, committed or not: past a transaction that is open nobody could read.
            ends: dict[TopicPartition, int] = {}

            def ends_known() -> bool:
                with contextlib.suppress(KafkaError):  # it may ask a broker that is dead
                    ends.update(other.end_offsets(reader.assignment()))
                return bool(ends)

            with contextlib.closing(consumer(self.settings, isolation_level="read_uncommitted")) as other:
                wait_for(ends_known, "no broker tells where the topics end")

            def at_end() -> bool:
                read()
                return all(reader.position(partition) >= end for partition, end in ends.items())

            wait_for(at_end, "a transaction was left open")
        return compare(fault, wanted, predictions, letters)


def main() -> None:
    """Run a worker until SIGTERM."""
    parser = argparse.ArgumentParser()
    worker = parser.add_subparsers(required=True).add_parser("worker", help="run a stream worker until SIGTERM")
    worker.add_argument("--settings", type=KafkaSettings.model_validate_json, required=True, help="JSON")
    worker.add_argument("--model", type=FakeModel.model_validate_json, required=True, help="JSON")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    stream_worker = StreamWorker(arguments.settings, StreamOptions(windows=CONFIG), arguments.model)
    signal.signal(signal.SIGTERM, lambda *_: stream_worker.stop())
    print(_READY, flush=True)
    stream_worker.run()


if __name__ == "__main__":
    main()
