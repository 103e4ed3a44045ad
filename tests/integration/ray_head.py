"""A Ray head node as `ray start` makes it, for jobs and `serve deploy`."""

from __future__ import annotations

import secrets
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil

from ray_fer.streaming.broker import free_port
from tests.integration.conftest import REPOSITORY


class RayHead:
    """A head node started by `ray start`, and jobs submitted to it."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="rf-")  # short: Ray puts sockets in it
        self._port, self._dashboard = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self._dashboard}"
        self._environment = environment | {
            "RAY_TMPDIR": self._folder.name,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }
        command = [
            "ray", "start", "--head", "--block", f"--port={self._port}", f"--dashboard-port={self._dashboard}",
            f"--temp-dir={self._folder.name}", "--ray-client-server-port", str(free_port()), "--disable-usage-stats",
        ]  # fmt: skip
        log = Path(self._folder.name) / "start.log"
        with log.open("wb") as file:
            self._process = subprocess.Popen(command, env=self._environment, stdout=file, stderr=file)
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            assert self._process.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(f"{self.url}/api/version", timeout=2).close()
                return
            except urllib.error.HTTPError:
                return  # it answers; the token that it wants is read by `ray job`
            except OSError:
                time.sleep(0.5)
        raise AssertionError(f"the dashboard did not come up:\n{log.read_text()}")

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

    def stop(self) -> None:
        """End the head node and everything that it started, and nothing else."""
        children = psutil.Process(self._process.pid).children(recursive=True)
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
        for child in children:
            if child.is_running():
                child.kill()
        psutil.wait_procs(children, timeout=10)
        self._folder.cleanup()
