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

from tests.integration.kafka_server import KafkaServer, missing_tools

REPOSITORY = Path(__file__).parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Environment of commands under test: this interpreter's scripts first, no Ray of somebody else's."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"
    return variables


def hear_interrupts() -> None:
    """For a command that is interrupted: a shell's background job ignores SIGINT, and hands that down."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def need(tools: list[str], why: str) -> None:
    """Skip where system programs are missing; on CI, which installs them, fail instead."""
    if tools and os.environ.get("CI"):
        pytest.fail(f"{', '.join(tools)} missing on CI: {why}")
    if tools:
        pytest.skip(f"{', '.join(tools)} not installed: {why}")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of a real Apache Kafka."""
    need(missing_tools(), "this test starts a real Apache Kafka")
    server = KafkaServer(tmp_path_factory.mktemp("kafka"))
    server.start()
    yield server.bootstrap_servers
    server.stop()


def _servers() -> set[int]:
    names = ("raylet", "gcs_server", "tansu", "ray::")
    found = set()
    for process in psutil.process_iter(["pid", "name", "cmdline"]):
        words = [process.info["name"] or "", *(process.info["cmdline"] or [])[:1]]
        if any(name in word for name in names for word in words):
            found.add(process.info["pid"])
    return found


def _folders() -> set[str]:
    return {name for name in os.listdir(tempfile.gettempdir()) if name.startswith("ray-fer")}


@pytest.fixture
def left_behind() -> Callable[[], tuple[set[int], set[str]]]:
    """Call it for the broker and Ray processes and the temporary folders of ours that appeared during the test."""
    processes, folders = _servers(), _folders()
    return lambda: (_servers() - processes, _folders() - folders)
