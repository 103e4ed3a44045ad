"""A real Apache Kafka for benchmarks and tests: one or three KRaft nodes on free loopback ports.

Needs Java 17 and Maven, which fetches Kafka itself once. Not for production: its data goes when it stops.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from ray_fer.streaming.broker import die_with_parent, free_port
from ray_fer.streaming.kafka import BrokerError, check_broker

T = TypeVar("T")

VERSION = "4.3.1"
_PATIENCE_S = 90.0
_SMALL = ("-Xms64m", "-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Starts soon and needs little memory."""
FAST = ("-Xms512m", "-Xmx512m", "-XX:+UseG1GC")
"""Compiled fully, as a server's: for benchmarks."""

_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>ray-fer</groupId><artifactId>local-kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""


def missing_tools() -> list[str]:
    """Which of the two programs that this needs are not installed."""
    return [name for name in ("java", "mvn") if shutil.which(name) is None]


def download() -> Path:
    """Folder with Kafka's jars (about 45 MB), fetched once into the user's cache."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ray_fer" / f"kafka-{VERSION}"
    if not (folder / "complete").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pom.xml").write_text(_POM)
        command = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={folder / 'lib'}"]
        subprocess.run(command, cwd=folder, check=True, timeout=300, stdin=subprocess.DEVNULL)
        (folder / "complete").touch()
    return folder / "lib"


class KafkaCluster:
    """A context manager. Every node is broker and controller, so three of them do without any one.

    Brokers are numbered from 1; everything they write lies in `folder`. With `user`, a name and its password, they
    listen at `secure_servers` as well, where clients have to log in by SASL (PLAIN or SCRAM-SHA-256); over TLS with
    `certificate`, a PEM file of the brokers' private key (PKCS 8) and certificates. `java` are options of its Java
    machine.
    """

    def __init__(
        self,
        folder: Path,
        brokers: int = 1,
        user: tuple[str, str] | None = None,
        certificate: Path | None = None,
        java: Sequence[str] = _SMALL,
    ) -> None:
        self._certificate = certificate
        self._folder = folder
        self._java_options = java
        self._user = user
        self._numbers = range(1, brokers + 1)
        ports: set[int] = set()
        while len(ports) < 3 * brokers:
            ports.add(free_port())
        self._ports = {number: (ports.pop(), ports.pop(), ports.pop()) for number in self._numbers}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self.bootstrap_servers = ",".join(f"127.0.0.1:{plain}" for plain, _, _ in self._ports.values())
        self.secure_servers = ",".join(f"127.0.0.1:{secure}" for _, secure, _ in self._ports.values())

    def __enter__(self) -> KafkaCluster:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Format and start all brokers; they know each other when this returns."""
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        formatting = []
        for number in self._numbers:
            properties = self._home(number) / "server.properties"
            properties.parent.mkdir(parents=True)
            properties.write_text("\n".join(f"{name}={value}" for name, value in self._properties(number).items()))
            arguments = ["format", f"--cluster-id={cluster}", "-c", str(properties)]  # an id may begin with "-"
            if self._user:
                name, password = self._user
                arguments += ["-S", f"SCRAM-SHA-256=[name={name},password={password}]"]
            formatting.append(self._java(number, "kafka.tools.StorageTool", *arguments))
        for number, process in zip(self._numbers, formatting, strict=True):
            if process.wait(timeout=_PATIENCE_S) != 0:
                raise RuntimeError(f"the storage of broker {number} was not formatted:\n{self._log(number)}")
        for number in self._numbers:
            self._launch(number)
        self._wait()

    def pids(self) -> list[int]:
        """Of the brokers that run."""
        return [process.pid for process in self._processes.values()]

    def start_broker(self, number: int) -> None:
        """Start one again that was killed; it has joined the others when this returns."""
        self._launch(number)
        self._wait()

    def kill(self, number: int) -> None:
        """End a broker as a power cut would."""
        process = self._processes.pop(number)
        process.kill()
        process.wait()

    def leader(self, topic: str, partition: int) -> int:
        """The number of the broker that leads a partition; waits while there is none."""

        def ask(admin: KafkaAdminClient) -> int | None:
            (described,) = admin.describe_topics([topic])
            leaders = {one["partition_index"]: one["leader_id"] for one in described["partitions"]}
            return leaders[partition] if leaders.get(partition) in self._processes else None

        return self._ask(ask)

    def stop(self) -> None:
        """End all brokers, at once: nobody reads their data again."""
        for number in list(self._processes):
            self.kill(number)

    def _home(self, number: int) -> Path:
        return self._folder / f"broker-{number}"

    def _log(self, number: int) -> str:
        return (self._home(number) / "kafka.log").read_text(errors="replace")[-3000:]

    def _java(self, number: int, *arguments: str) -> subprocess.Popen[bytes]:
        command = [
            "java",
            *self._java_options,
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp",
            f"{download()}/*",
            *arguments,
        ]
        with (self._home(number) / "kafka.log").open("ab") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent
            )

    def _launch(self, number: int) -> None:
        self._processes[number] = self._java(number, "kafka.Kafka", str(self._home(number) / "server.properties"))

    def _wait(self) -> None:
        """Until every broker that runs is known as alive to the cluster."""

        def ask(admin: KafkaAdminClient) -> bool | None:
            alive = {one["broker_id"] for one in admin.describe_cluster()["brokers"] if not one["is_fenced"]}
            return alive >= set(self._processes) or None

        self._ask(ask)

    def _ask(self, question: Callable[[KafkaAdminClient], T | None]) -> T:
        """Ask the brokers that run until there is an answer. Raises RuntimeError with their logs when there is none."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline and all(process.poll() is None for process in self._processes.values()):
            servers = [f"127.0.0.1:{self._ports[number][0]}" for number in self._processes]
            with contextlib.suppress(BrokerError, KafkaError):
                for server in servers:
                    check_broker(server)  # until then the client would fill the log
                admin = KafkaAdminClient(bootstrap_servers=servers, bootstrap_timeout_ms=2000, request_timeout_ms=2000)
                with contextlib.closing(admin):
                    answer = question(admin)
                if answer is not None:
                    return answer
            time.sleep(0.2)
        logs = "\n".join(f"broker {number}:\n{self._log(number)}" for number in self._processes)
        self.stop()
        raise RuntimeError(f"Kafka gave no answer within {_PATIENCE_S:g} s, or a broker ended:\n{logs}")

    def _properties(self, number: int) -> dict[str, object]:
        plain, secure_port, controller = self._ports[number]
        listeners = {"PLAINTEXT": plain} | ({"SECURE": secure_port} if self._user else {})
        addresses = [f"{name}://127.0.0.1:{port}" for name, port in listeners.items()]
        secure = "SASL_SSL" if self._certificate else "SASL_PLAINTEXT"
        replicas = min(3, len(self._numbers))
        properties: dict[str, object] = {
            "process.roles": "broker,controller",
            "node.id": number,
            "controller.quorum.voters": ",".join(f"{n}@127.0.0.1:{ports[2]}" for n, ports in self._ports.items()),
            "controller.listener.names": "CONTROLLER",
            "listeners": ",".join([*addresses, f"CONTROLLER://127.0.0.1:{controller}"]),
            "advertised.listeners": ",".join(addresses),
            "listener.security.protocol.map": f"PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:{secure}",
            "log.dirs": self._home(number) / "data",
            "default.replication.factor": replicas,
            "min.insync.replicas": min(2, replicas),
            "offsets.topic.replication.factor": replicas,
            # One partition, so that one broker is the coordinator of all groups, and one of all transactions.
            "offsets.topic.num.partitions": 1,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": min(2, replicas),
            "transaction.state.log.num.partitions": 1,
            # Deaths are noticed in seconds, as the tests' clients expect, and not in the tens of seconds of a real one.
            "broker.session.timeout.ms": 3000,
            "broker.heartbeat.interval.ms": 500,
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": 500,
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,
            "message.max.bytes": 9_000_000,
            "auto.create.topics.enable": "false",
        }
        if self._user:
            name, password = self._user
            login = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{name}="{password}";'
            scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            properties |= {
                "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
                "listener.name.secure.plain.sasl.jaas.config": login,
                "listener.name.secure.scram-sha-256.sasl.jaas.config": scram,
            }
        if self._certificate:
            properties |= {
                "listener.name.secure.ssl.keystore.type": "PEM",
                "listener.name.secure.ssl.keystore.location": self._certificate,
            }
        return properties
