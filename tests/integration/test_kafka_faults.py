"""Whatever happens to workers, brokers or the model: every window once, with the answer of the undisturbed run.

The table of faults: ``pytest tests/integration/test_kafka_faults.py``.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ray_fer.streaming.apache_kafka import KafkaCluster
from ray_fer.streaming.faults import POINTS
from tests.integration.stream_faults import Scene
from tests.integration.stream_traffic import Result, Traffic, table


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> Iterator[list[Result]]:
    """What came of each fault; shown as a table in the end."""
    found: list[Result] = []
    yield found
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("\n" + table(found))


@pytest.fixture
def scene(kafka: str, tmp_path: Path) -> Iterator[Scene]:
    with Scene(kafka, tmp_path, Traffic()) as one:
        yield one


@pytest.fixture
def check(results: list[Result]) -> Callable[[Result], None]:
    def note(result: Result) -> None:
        results.append(result)
        assert result.right(), f"\n{table([result])}"

    return note


def test_nothing_happens(scene: Scene, check: Callable[[Result], None]) -> None:
    scene.send()
    scene.worker()
    check(scene.result("none; 5% of the records malformed"))


@pytest.mark.parametrize("point", POINTS)
def test_worker_dies_between_two_steps(scene: Scene, check: Callable[[Result], None], point: str) -> None:
    # The tenth turn with windows, or so many polls that there are some before them.
    dying = scene.worker(fault=f"{point}:{60 if point == 'after-poll' else 10}")
    scene.wait_for_members(1)
    scene.send(seconds=4)
    assert dying.wait() == 137
    scene.worker()
    check(scene.result(f"worker dies {point}"))


def test_worker_with_a_name_of_its_own_takes_over_from_itself(scene: Scene, check: Callable[[Result], None]) -> None:
    dying = scene.worker(fault="after-offsets:10", instance="one")
    scene.wait_for_members(1)
    scene.send(seconds=4)
    assert dying.wait() == 137
    scene.worker(instance="one")
    check(scene.result("static member dies after-offsets"))


def test_worker_is_killed_at_any_time(kafka: str, tmp_path: Path, check: Callable[[Result], None]) -> None:
    chance = random.Random(7)
    with Scene(kafka, tmp_path, Traffic(), session_timeout_ms=1000) as scene:
        scene.send(seconds=120)
        for _ in range(20):
            worker = scene.worker(seconds=0.02)
            worker.wait_until_asked()
            time.sleep(chance.uniform(0, 1))
            worker.kill()
        scene.send_the_rest()
        scene.worker()
        check(scene.result("worker killed at 20 random times"))


def test_worker_stalls_and_comes_back_when_another_has_its_partitions(
    scene: Scene, check: Callable[[Result], None]
) -> None:
    scene.send(seconds=60)
    stalled = scene.worker(seconds=0.5)
    # Paused in the middle of a call of the model: it comes back with answers to windows that are another's by then.
    stalled.wait_until_asked(3)
    stalled.pause()
    paused = time.monotonic()
    other = scene.worker()
    other.wait_until_asked(10)
    time.sleep(30 - (time.monotonic() - paused))
    stalled.go_on()
    scene.wait_for_members(2)
    scene.send_the_rest()
    check(scene.result("worker stalls for 30 s"))


def test_workers_come_and_go_while_windows_are_open(
    kafka: str, tmp_path: Path, check: Callable[[Result], None]
) -> None:
    with Scene(kafka, tmp_path, Traffic(), partitions=5) as scene:
        scene.send(seconds=60)
        workers = [scene.worker(), scene.worker()]
        scene.wait_for_members(2)
        workers += [scene.worker(), scene.worker(), scene.worker()]
        scene.wait_for_members(5)
        time.sleep(1)
        for worker in workers[:4]:
            worker.ask_to_stop()
        assert [worker.wait() for worker in workers[:4]] == [0, 0, 0, 0]
        scene.wait_for_members(1)
        scene.send_the_rest()
        check(scene.result("2, then 5, then 1 workers"))


def test_streams_of_a_slow_disk_stall_and_come_in_bursts(scene: Scene, check: Callable[[Result], None]) -> None:
    scene.send(seconds=12, stalls=[(1, 3), (5, 1.5), (8, 3.5)])
    scene.worker()
    check(scene.result("half of the streams from a slow disk"))


def test_model_fails_now_and_then_and_hangs_once(scene: Scene, check: Callable[[Result], None]) -> None:
    scene.send(seconds=6)
    # For longer than the session timeout.
    scene.worker(failing=0.1, hanging=5)
    check(scene.result("model fails in 10%, hangs once for 5 s"))


def test_at_least_once_loses_nothing(kafka: str, tmp_path: Path) -> None:
    with Scene(kafka, tmp_path, Traffic(), processing_guarantee="at_least_once") as scene:
        dying = scene.worker(fault="after-send:10")
        scene.wait_for_members(1)
        scene.send(seconds=4)
        assert dying.wait() == 137
        scene.worker()
        result = scene.result("at least once")
    assert (result.missing, result.different) == (0, 0)


@pytest.fixture(scope="module")
def three_brokers(apache_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    with KafkaCluster(tmp_path_factory.mktemp("kafka"), brokers=3) as cluster:
        yield cluster


@pytest.mark.parametrize("what", ["frames", "transactions", "groups"])
def test_one_of_three_brokers_is_killed(
    three_brokers: KafkaCluster, tmp_path: Path, check: Callable[[Result], None], what: str
) -> None:
    with Scene(three_brokers.bootstrap_servers, tmp_path, Traffic()) as scene:
        scene.send(seconds=8)
        scene.worker().wait_until_asked(5)
        topics = {"transactions": "__transaction_state", "groups": "__consumer_offsets"}
        topic = topics.get(what, scene.settings.frames_topic)
        leader = three_brokers.leader(topic, 0)
        three_brokers.kill(leader)
        try:
            result = scene.result(f"broker killed that leads {what}")
        finally:
            three_brokers.start_broker(leader)
    check(result)


def test_the_only_broker_is_away_for_a_while(
    apache_kafka: None, tmp_path: Path, check: Callable[[Result], None]
) -> None:
    with KafkaCluster(tmp_path / "kafka") as cluster, Scene(cluster.bootstrap_servers, tmp_path, Traffic()) as scene:
        scene.send(seconds=10)
        leaving, staying = scene.worker(seconds=0.5), scene.worker(seconds=0.5)
        scene.wait_for_members(2)
        leaving.wait_until_asked(3)
        # Killed while it ends a transaction, a broker (Apache Kafka 4.3.1) that is alone may note that as done when it
        # is back, without having written it into the topics: nobody reads past it, and offsets stay unknown.
        scene.wait_for_no_transaction()
        cluster.kill(1)
        killed = time.monotonic()
        leaving.ask_to_stop()
        assert leaving.wait() == 0
        assert time.monotonic() - killed < 20
        time.sleep(max(0.0, 15 - (time.monotonic() - killed)))
        assert staying.runs()
        cluster.start_broker(1)
        result = scene.result("only broker away for 15 s, one worker stopped")
    check(result)
