"""What kafka-python (3.0.12) leaves waiting or trying for ever, with an end. `kafka` makes its clients of these."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from kafka import KafkaProducer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

T = TypeVar("T")

_ABORT_S = 3.0
_PIECE_BYTES = 64 * 1024
_NOTHING_THERE = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class NotLetInError(KafkaError):
    """The broker refuses us, or we do not trust it: trying again changes nothing. The text says what to correct."""

    def __str__(self) -> str:
        return str(self.args[0])


class _Connections(KafkaConnectionManager):
    """Tells at once that the first connection was refused, which kafka-python tries again until its time is up."""

    _refusal: NotLetInError | None = None

    def get_connection(self, node_id: Any, **named: Any) -> Any:
        if self._refusal is not None and self.cluster.is_bootstrap(node_id):
            raise self._refusal
        return super().get_connection(node_id, **named)

    async def _connect(self, node: Any, conn: Any, **named: Any) -> None:
        conn.init_future.add_errback(self._failed)
        await super()._connect(node, conn, **named)

    async def _build_transport(self, node: Any, **named: Any) -> Any:
        transport = await super()._build_transport(node, **named)
        transport._sock_recv = partial(_receive, transport)
        return transport

    def _failed(self, error: Exception) -> None:
        refused = self._refused(error)
        if refused is not None:
            self._refusal = NotLetInError(refused)

    def _refused(self, error: Exception) -> str | None:
        if isinstance(error, (SaslAuthenticationFailedError, UnsupportedSaslMechanismError)):
            name = self.config["sasl_plain_username"]
            return f"user {name!r} is not let in; correct sasl_username, password or sasl_mechanism"
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            reason = str(error).rpartition("CERTIFICATE_VERIFY_FAILED] ")[2]
            return f"the broker's certificate is not trusted ({reason}); correct ssl_cafile or ssl_check_hostname"
        return None


def _receive(transport: Any) -> tuple[bytes, Exception | None]:
    """All that a connection has received, or why it is at its end.

    kafka-python reads in pieces of 4 KiB, so that a frame of 50 KB is a dozen system calls, and throws away what came
    just before the end of a connection, such as the broker's refusal.
    """
    pieces: list[bytes] = []
    error: Exception | None = None
    while True:
        try:
            piece = transport._sock.recv(_PIECE_BYTES)
        except _NOTHING_THERE:
            break
        except OSError as reason:
            error = KafkaConnectionError(reason)
            break
        if not piece:
            error = KafkaConnectionError("socket disconnected")
            break
        pieces.append(piece)
    return b"".join(pieces), None if pieces else error


class Client(KafkaNetClient):
    """The network layer of every client."""

    def __init__(self, **configs: Any) -> None:
        net = NetworkSelector(**configs)
        super().__init__(net, _Connections(net, **configs))


class TransactionalClient(Client):
    """Says that a node is not ready where kafka-python raises.

    With the exception its transactional sender drops the request that it was about to send, so whoever waits for the
    answer waits forever; told that the node is not ready it asks for the coordinator and sends again.
    """

    def await_ready(self, node_id: Any, timeout_ms: float = 30_000) -> bool:
        try:
            return bool(super().await_ready(node_id, timeout_ms))
        except KafkaConnectionError:
            time.sleep(0.1)
            return False


class TransactionalProducer(KafkaProducer):
    """Waits for the broker for as long as the transaction may last, and for its abortion a little longer.

    kafka-python waits for both until there is an answer, which is forever when the cluster does not come back.
    """

    _deadline = 0.0

    def begin_transaction(self) -> None:
        self._deadline = time.monotonic() + self.config["transaction_timeout_ms"] / 1000
        super().begin_transaction()

    def remaining_s(self) -> float:
        """How long the transaction may still last."""
        return max(0.0, self._deadline - time.monotonic())

    def send_offsets_to_transaction(self, offsets: Any, group_metadata: Any) -> None:
        result = self._transaction_manager.send_offsets_to_transaction(offsets, group_metadata)
        self._wait(result, self.remaining_s())

    def commit_transaction(self) -> None:
        self._wait(self._transaction_manager.begin_commit(), self.remaining_s())

    def abort_transaction(self) -> None:
        self._wait(self._transaction_manager.begin_abort(), _ABORT_S)

    def _wait(self, result: Any, seconds: float) -> None:
        self._sender.wakeup()
        if not result.wait(timeout_ms=seconds * 1000):
            raise KafkaTimeoutError("the transaction took longer than transaction_timeout_ms")


class OwnAssignor(CooperativeStickyAssignor):
    """Cooperative assignment in which a member claims the partitions that it has.

    kafka-python's claims those that it was given last, also when it has lost them with its membership: whoever comes
    back after a stall claims what is another's by then. The leader waits until it gives them up, which it never does,
    as it does not have them, and nobody gets them before the group changes again.
    """

    def __init__(self) -> None:
        super().__init__()
        self._owned: Callable[[], Iterable[TopicPartition]] = tuple

    def claim(self, owned: Callable[[], Iterable[TopicPartition]]) -> None:
        """`owned` gives the partitions that the consumer has."""
        self._owned = owned

    def metadata(self, topics: Any) -> Any:
        self.member_assignment = list(self._owned())
        return super().metadata(topics)


def connected(kind: Callable[..., T], network: type[Client], **arguments: Any) -> T:
    """A kafka-python client; one that cannot be made, because no broker answers, leaves no thread and socket behind."""
    made: list[Client] = []

    def make(**configs: Any) -> Client:
        made.append(network(**configs))
        return made[-1]

    try:
        return kind(kafka_client=make, **arguments)
    except Exception:
        for client in made:
            client.close()
        raise


def drop(producer: KafkaProducer) -> None:
    """Close a producer without sending what it still holds: to flush it, as closing does, may take forever."""
    producer._sender.force_close()
    try:
        producer.close(timeout=5)
    except KafkaTimeoutError:  # of the flush; its thread ends by itself, and no later than the process
        producer._closed = True
