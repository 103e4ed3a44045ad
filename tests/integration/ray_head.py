"""A Ray cluster on this machine as `ray start` makes it, for jobs, `serve deploy`, and nodes that die."""

from __future__ import annotations

import secrets
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from ray_fer.streaming.broker import free_port
from tests.integration.conftest import REPOSITORY


class RayNode:
    """What `ray start --block` runs: a node, and everything that it started."""

    def __init__(self, environment: dict[str, str], log: Path, *options: str) -> None:
        # Ray's usual port of the agent, which starts jobs, belongs to whichever Ray of this machine came first.
        port = f"--dashboard-agent-listen-port={free_port()}"
        command = ["ray", "start", "--block", "--disable-usage-stats", port, *options]
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)

    def workers(self, name: str) -> list[psutil.Process]:
        """Processes of this name, such as "ServeReplica" or "RayTrainWorker"."""
        return [one for one in self._processes() if name in _title(one)]

    def runs(self, name: str) -> bool:
        """Whether there is one."""
        return self.workers(name) != []

    def kill(self) -> None:
        """What a power cut does. A graceful end takes up to half a minute."""
        processes = self._processes()
        for one in processes:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        self.process.wait(10)
        psutil.wait_procs(processes, timeout=10)

    def _processes(self) -> list[psutil.Process]:
        try:
            one = psutil.Process(self.process.pid)
            return [one, *one.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


class RayHead:
    """A head node, more nodes beside it, and jobs submitted to them."""

    def __init__(self, environment: dict[str, str], cpus: int | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="rf-")  # short: Ray puts sockets in it
        self._port, self._dashboard = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self._dashboard}"
        self.nodes: list[RayNode] = []
        self._added = 0
        self._environment = environment | {
            "RAY_TMPDIR": self._folder.name,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }
        log = Path(self._folder.name) / "start.log"
        self._head = RayNode(
            self._environment, log, "--head", f"--port={self._port}", f"--dashboard-port={self._dashboard}",
            f"--temp-dir={self._folder.name}", f"--ray-client-server-port={free_port()}",
            *([] if cpus is None else [f"--num-cpus={cpus}"]),
        )  # fmt: skip
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            assert self._head.process.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(f"{self.url}/api/version", timeout=2).close()
                return
            except urllib.error.HTTPError:
                return  # it answers; the token that it wants is read by `ray job`
            except OSError:
                time.sleep(0.5)
        raise AssertionError(f"the dashboard did not come up:\n{log.read_text()}")

    def add_node(self, cpus: int) -> RayNode:
        """One more node, which claims so many CPUs; it joins a few seconds later."""
        self._added += 1
        # Of its own, as on another machine: a node replaces the working directory of a job where it finds one.
        folder = Path(self._folder.name) / f"n{self._added}"
        self.nodes.append(
            RayNode(
                self._environment, folder.with_suffix(".log"), f"--address=127.0.0.1:{self._port}",
                f"--num-cpus={cpus}", f"--object-store-memory={200 * 1024**2}", f"--temp-dir={folder}",
            )
        )  # fmt: skip
        return self.nodes[-1]

    def submit(self, *words: str | Path, timeout_s: float = 400) -> subprocess.CompletedProcess[str]:
        """`ray job submit --working-dir . -- python ...`, waiting for the job."""
        command = ["ray", "job", "submit", "--address", self.url, "--working-dir", "."]
        for _ in range(30):
            done = subprocess.run(
                [*command, "--", "python", *map(str, words)],
                env=self._environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=timeout_s,
            )  # fmt: skip
            # The dashboard answers before the node's agent, which starts jobs; on a busy machine much earlier.
            if "No available agent to submit job" not in done.stderr:
                break
            time.sleep(2)
        return done

    def deploy(self, config: Path, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """`serve deploy`, which returns before all is up."""
        return subprocess.run(
            ["serve", "deploy", str(config), "--address", self.url],
            env=self._environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=timeout_s,
        )  # fmt: skip

    def workers(self, name: str) -> list[psutil.Process]:
        """Processes of this name on all nodes."""
        return [one for node in [*self.nodes, self._head] for one in node.workers(name)]

    def stop(self) -> None:
        """End all nodes, and nothing else."""
        for node in [*self.nodes, self._head]:
            node.kill()
        self._folder.cleanup()


@contextmanager
def ray_cluster(environment: dict[str, str], head: int | None, *others: int) -> Iterator[RayHead]:
    """A head and other nodes that claim so many CPUs each; the head all there are when None."""
    one = RayHead(environment, head)
    try:
        for cpus in others:
            one.add_node(cpus)
        yield one
    finally:
        one.stop()
