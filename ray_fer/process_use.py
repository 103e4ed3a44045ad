"""What processes cost: most memory of a run, and processor time and memory of each part of a running system."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

_GONE = (psutil.NoSuchProcess, psutil.AccessDenied)
_RAY = ("raylet", "gcs_server", "ray::", "ray.", "ray/")
_REPLICA = "ray::ServeReplica:"


@contextmanager
def peak_memory(every_s: float = 1.0) -> Iterator[Callable[[], float]]:
    """Yields a function that gives the most bytes that this process and its descendants held since."""
    most, stop = 0.0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not stop.wait(every_s):
            most = max(most, _tree_bytes())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: most
    finally:
        most = max(most, _tree_bytes())
        stop.set()
        thread.join()


def _tree_bytes() -> float:
    me = psutil.Process()
    return sum(_bytes(process) for process in [me, *me.children(recursive=True)])


def _bytes(process: psutil.Process) -> float:
    """Its memory, of what it shares with others its share; 0 when it has ended."""
    try:
        return float(process.memory_full_info().pss)
    except _GONE:
        return 0.0


@dataclass
class Use:
    """Of each part: seconds of processor time since the watch began, and (seconds since then, bytes) now and then."""

    seconds: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)
    memory: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


class Watch:
    """A context manager: follows this machine's parts of a Serve application, its Ray, and processes named by pid.

    Parts are the application's deployments, "Ray" for all else of Ray, and the names given; `use` says what they took.
    """

    def __init__(self, app: str, pids: Mapping[int, str], every_s: float = 10.0) -> None:
        self._app = app
        self._pids = pids
        self._every_s = every_s
        self._first: dict[tuple[int, float], tuple[str, float]] = {}
        self._last: dict[tuple[int, float], float] = {}
        self._use = Use()
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def use(self) -> Use:
        """What was seen at the last look: also at the end of the watch, once that is over."""
        return self._use

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self._look()

    def _look(self) -> None:
        self._use.seconds = now = time.monotonic() - self._began
        held: dict[str, float] = {}
        begins = not self._first
        for process in psutil.process_iter():
            try:
                part = self._part(process)
                if part is None:
                    continue
                key = (process.pid, process.create_time())
                times = process.cpu_times()
            except _GONE:
                continue
            taken = times.user + times.system
            # One that began after the watch has taken all of its time since then.
            self._first.setdefault(key, (part, taken if begins else 0.0))
            self._last[key] = taken
            held[part] = held.get(part, 0.0) + _bytes(process)
        for part, size in held.items():
            self._use.memory.setdefault(part, []).append((now, size))
        spent: dict[str, float] = {}
        for process, (part, before) in self._first.items():
            spent[part] = spent.get(part, 0.0) + self._last[process] - before
        self._use.cpu_s = spent

    def _part(self, process: psutil.Process) -> str | None:
        if process.pid in self._pids:
            return self._pids[process.pid]
        command = process.cmdline()
        title = command[0] if command else ""
        if title.startswith(f"{_REPLICA}{self._app}:"):
            return re.split(r"[.#]", title.split(":")[-1])[0]  # while it is asked, its title names the method
        return "Ray" if any(word in one for word in _RAY for one in command[:3]) else None
