"""What processes take, against processes that take a known amount."""

from __future__ import annotations

import subprocess
import sys
import time

from ray_fer.process_use import Watch, peak_memory

_BUSY = "import time\nheld = bytearray({size})\nend = time.process_time() + {seconds}\nprint('ready', flush=True)\n" + (
    "while time.process_time() < end: pass\nprint('done', flush=True)\ninput()\n"
)


def _start(size: int, seconds: float) -> subprocess.Popen[str]:
    code = _BUSY.format(size=size, seconds=seconds)
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _read(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == line


def test_peak_memory_counts_what_a_child_held_and_gave_back() -> None:
    with peak_memory(every_s=0.05) as peak:
        before = peak()
        child = _start(200_000_000, 0.3)
        _read(child, "ready")
        _read(child, "done")
        child.communicate("\n")
    assert peak() - before > 190e6


def test_a_watch_tells_processor_time_and_memory_of_each_part() -> None:
    with _start(100_000_000, 0.6) as busy, _start(1000, 0.0) as idle:
        _read(busy, "ready")
        _read(idle, "ready")
        with Watch("no-such-app", {busy.pid: "busy", idle.pid: "idle"}, every_s=0.1) as watch:
            _read(busy, "done")
            time.sleep(0.2)
        use = watch.use()
        busy.communicate("\n")
        idle.communicate("\n")
    assert 0.3 < use.cpu_s["busy"] < 0.9
    assert use.cpu_s["idle"] < 0.1
    assert 95e6 < use.memory["busy"][-1][1] - use.memory["idle"][-1][1] < 120e6
    assert len(use.memory["busy"]) >= 3
    assert {"busy", "idle"} <= set(use.memory) <= {"busy", "idle", "Ray"}


def test_a_watch_that_is_over_has_seen_all_of_it() -> None:
    with _start(1000, 0.6) as busy:
        _read(busy, "ready")
        with Watch("no-such-app", {busy.pid: "busy"}, every_s=60) as watch:
            _read(busy, "done")
        use = watch.use()
        busy.communicate("\n")
    assert use.seconds > 0.3
    assert 0.3 < use.cpu_s["busy"] < 0.9
