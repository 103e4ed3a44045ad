"""Kafka clients with settings that suit frames: sizes that agree on both ends, transactions, security, clear errors."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Iterator
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError

from ray_fer.streaming.kafka_client import Client, OwnAssignor, TransactionalClient, TransactionalProducer, connected
from ray_fer.streaming.kafka_settings import FILE_FIELDS, KafkaSettings

_NOTED = 20
FETCH_AT_LEAST = 2**20
"""What the broker waits for, up to `fetch_max_wait_ms`, before it answers a worker."""
BATCH_BYTES = 2**19
"""By default a batch is smaller than a frame, and every frame is a request."""
FETCH_WAIT_MS = 100
LINGER_MS = 5
_PATIENCE_MS = 10_000
_OUTAGES: dict[str, Any] = {"bootstrap_timeout_ms": _PATIENCE_MS, "reconnect_backoff_max_ms": 5000}
"""While no broker answers: whoever waits for one can soon be stopped, and one that is back is soon found."""


class BrokerError(RuntimeError):
    """No broker answered, or it refused; the message says where it was looked for and what to do."""


def check_broker(bootstrap_servers: str, timeout_s: float = 3.0) -> None:
    """Raise BrokerError unless one of the servers accepts a TCP connection within `timeout_s`."""
    reasons = []
    for server in bootstrap_servers.split(","):
        host, _, port = server.strip().rpartition(":")
        if not host or not port.isdigit():
            raise BrokerError(f"bootstrap server {server!r} is not host:port")
        try:
            socket.create_connection((host, int(port)), timeout=timeout_s).close()
            return
        except OSError as error:
            reasons.append(f"{server.strip()} ({error.strerror or error})")
    raise BrokerError(
        f"no Kafka broker at {', '.join(reasons)}; start one, or correct --bootstrap-servers (`ray-fer demo` "
        "without it brings a broker of its own)"
    )


def client_arguments(settings: KafkaSettings) -> dict[str, Any]:
    """What every kind of client is told: where the brokers are and how to get in.

    Raises ValueError when a file that the settings name is not on this machine.
    """
    for name in FILE_FIELDS:
        path = getattr(settings, name)
        if path is not None and not path.is_file():
            raise ValueError(f"{name}: {path}: no such file on this machine; every node that runs a client needs it")
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers.split(","),
        "security_protocol": settings.security_protocol,
    }
    if settings.sasl_mechanism is not None:
        arguments["sasl_mechanism"] = settings.sasl_mechanism
        arguments["sasl_plain_username"] = settings.sasl_username
        arguments["sasl_plain_password"] = settings.password()
    if settings.security_protocol.endswith("SSL"):
        arguments["ssl_check_hostname"] = settings.ssl_check_hostname
        for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
            if (path := getattr(settings, name)) is not None:
                arguments[name] = str(path)
    return arguments


def consumer(settings: KafkaSettings, **overrides: Any) -> KafkaConsumer:
    """A consumer of committed records without automatic commits; `overrides` are kafka-python arguments."""
    arguments: dict[str, Any] = {
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "isolation_level": "read_committed",
        # A topic made on the way would have the broker's default size and partitions, not ours.
        "allow_auto_create_topics": False,
        "max_partition_fetch_bytes": settings.partition_fetch_bytes,
        "fetch_max_bytes": settings.fetch_bytes,
        "fetch_max_wait_ms": FETCH_WAIT_MS,
        "max_poll_records": settings.max_poll_records,
    }
    return connected(KafkaConsumer, Client, **(client_arguments(settings) | _OUTAGES | arguments | overrides))


def group_consumer(settings: KafkaSettings) -> KafkaConsumer:
    """The stream worker's consumer: a member of the group. Subscribe it to the frames topic.

    Partitions that stay with a member during a rebalance are read on meanwhile (cooperative assignment, KIP-429), and
    with `settings.instance` a member that is back within the session timeout causes no rebalance (KIP-345).
    """
    assignor = OwnAssignor()
    made = consumer(
        settings,
        group_id=settings.group,
        group_instance_id=settings.instance,
        partition_assignment_strategy=[assignor],
        # Frames of live streams come one by one. To fetch them so would cost more than all else that is done with them.
        fetch_min_bytes=min(FETCH_AT_LEAST, settings.partition_fetch_bytes),
        session_timeout_ms=settings.session_timeout_ms,
        heartbeat_interval_ms=max(200, settings.session_timeout_ms // 4),
    )
    assignor.claim(made.assignment)
    return made


def producer(settings: KafkaSettings, **overrides: Any) -> KafkaProducer:
    """An idempotent producer of frames, which are compressed already; `overrides` are kafka-python arguments."""
    return connected(KafkaProducer, Client, **(_producing(settings) | overrides))


def _producing(settings: KafkaSettings) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "max_request_size": settings.max_message_bytes,
        "allow_auto_create_topics": False,
        "linger_ms": LINGER_MS,
        "batch_size": BATCH_BYTES,
    }
    return client_arguments(settings) | _OUTAGES | arguments


def worker_producer(settings: KafkaSettings) -> KafkaProducer:
    """The stream worker's producer: of predictions, state and dead letters. Transactional for `exactly_once`."""
    arguments = _producing(settings) | {
        "max_request_size": settings.dead_letter_bytes,
        "max_block_ms": _PATIENCE_MS,
        "linger_ms": 0,
        "compression_type": settings.compression,
    }
    if settings.processing_guarantee == "at_least_once":
        return connected(KafkaProducer, Client, **arguments)
    arguments["transactional_id"] = settings.transactional_id()
    arguments["transaction_timeout_ms"] = settings.transaction_timeout_ms
    return connected(TransactionalProducer, TransactionalClient, **arguments)


@contextlib.contextmanager
def admin(settings: KafkaSettings) -> Iterator[KafkaAdminClient]:
    """An admin client; what goes wrong with it is a BrokerError (see `one_line_errors`)."""
    with one_line_errors(settings):
        client = connected(KafkaAdminClient, Client, **(client_arguments(settings) | _OUTAGES))
        try:
            yield client
        finally:
            client.close()


@contextlib.contextmanager
def one_line_errors(settings: KafkaSettings) -> Iterator[None]:
    """Raise a KafkaError of the body as a BrokerError of one line that says why and what to look at.

    A client that cannot get in tries again until its time is up, and only its log says what was wrong.
    """
    log, noted = logging.getLogger("kafka.net.manager"), _Noted()
    log.addHandler(noted)
    try:
        yield
    except KafkaError as error:
        text = one_line(error)
        if isinstance(error, KafkaTimeoutError) and noted.errors:
            text = (
                f"{noted.errors[0]}; is security_protocol {settings.security_protocol} right for this listener, and "
                "are the settings that begin with sasl_ and ssl_?"
            )
        raise BrokerError(f"{settings.bootstrap_servers}: {text}") from error
    finally:
        log.removeHandler(noted)


def one_line(error: KafkaError) -> str:
    """The error's text, without the requests and responses that follow in some of them."""
    return str(error).split(": Request '")[0]


class _Noted(logging.Handler):
    """Keeps the first errors of connections that failed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.errors: list[KafkaError] = []

    def emit(self, record: logging.LogRecord) -> None:
        arguments = record.args if isinstance(record.args, tuple) else ()
        if len(self.errors) < _NOTED:
            self.errors += [one for one in arguments if isinstance(one, KafkaError)]


def assign_all(reader: KafkaConsumer, topic: str, timeout_s: float = 10.0) -> list[TopicPartition]:
    """Assign all partitions of `topic` to a consumer outside any group. Raises BrokerError for an unknown topic."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        partitions = None
        with contextlib.suppress(KafkaConnectionError):  # the broker that was asked may be one that is down
            partitions = reader.partitions_for_topic(topic)
        if partitions:
            assigned = [TopicPartition(topic, number) for number in sorted(partitions)]
            reader.assign(assigned)
            return assigned
        time.sleep(0.1)
    raise BrokerError(f"there is no topic {topic!r}; `ray-fer stream topics --create` makes it")
