"""What integration tests share: every one of them is marked, and can look for what a command left behind."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from ray_fer.streaming.apache_kafka import KafkaCluster, missing_tools

REPOSITORY = Path(__file__).parents[2]
KAFKA_USER = ("alice", "looking-glass")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.integration)
            if "apache_kafka" in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.kafka)


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Environment of commands under test: this interpreter's scripts first, no Ray of somebody else's, and not the size
    that pytest-xdist gives the terminal of its processes."""
    foreign = ("RAY_", "COLUMNS", "LINES")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"
    return variables


def hear_interrupts() -> None:
    """For a command that is interrupted: a shell's background job ignores SIGINT, and hands that down."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def need(tools: list[str], why: str) -> None:
    """Skip where system programs are missing."""
    if tools:
        pytest.skip(f"{', '.join(tools)} not installed: {why}")


@pytest.fixture(scope="session")
def apache_kafka() -> None:
    """Skips where there is none; tests that ask for it, or for a fixture below, carry the mark `kafka`."""
    need(missing_tools(), "this test starts a real Apache Kafka")


@pytest.fixture(scope="session")
def kafka_cluster(apache_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """A real Apache Kafka of one broker, which also lets `KAFKA_USER` in by SASL."""
    with KafkaCluster(tmp_path_factory.mktemp("kafka"), user=KAFKA_USER) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def kafka(kafka_cluster: KafkaCluster) -> str:
    """Its bootstrap servers, for clients that need not log in."""
    return kafka_cluster.bootstrap_servers


def _processes(folder: str) -> set[str]:
    """Names of the processes that have their temporary files below `folder`."""
    found = set()
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR", "").startswith(folder):
                found.add(process.name())
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.fixture
def left_behind(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], tuple[set[str], set[str]]]]:
    """Call it for what commands of this test have left: processes, and temporary files of ours."""
    with tempfile.TemporaryDirectory(prefix="rf-", ignore_cleanup_errors=True) as folder:  # short for Ray
        monkeypatch.setitem(environment, "TMPDIR", folder)
        yield lambda: (_processes(folder), {name for name in os.listdir(folder) if name.startswith("ray-fer")})
