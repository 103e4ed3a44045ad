"""A Ray to run on: the cluster that RAY_ADDRESS names, or one of our own that leaves nothing behind."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

# A Ray that is started here has no dashboard. Ray Train looks for one at the end of a run, for 12 s, unless this says
# where it would be; nothing listens on the discard port.
_NO_DASHBOARD = ("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:9")


def quieten() -> None:
    """Keep Ray's libraries from logging to the terminal; their components set their level again as they start."""
    for name in ("ray", "ray.data", "ray.serve", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def simulated_cluster(nodes: int, cpus: int) -> Iterator[Cluster]:
    """A Ray of several nodes on this machine, each claiming `cpus` CPUs: for what needs nodes and not speed.

    Yields what nodes can be added to and removed from.
    """
    import ray
    from ray.cluster_utils import Cluster

    quieten()
    memory = 200 * 1024**2
    with _environment(*_NO_DASHBOARD):
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus, "object_store_memory": memory})
        try:
            for _ in range(nodes - 1):
                cluster.add_node(num_cpus=cpus, object_store_memory=memory)
            ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
            cluster.wait_for_nodes()
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """A variable for the nodes that are started meanwhile, and for all their workers."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def ray_session() -> Iterator[None]:
    """Connect to RAY_ADDRESS if it is set, else start a local Ray in a temporary folder and remove both at the end.

    Quiet: what Ray and its workers log goes to Ray's own files.
    """
    import ray
    from ray.data import DataContext

    address = os.environ.get("RAY_ADDRESS")
    folder = None
    stack = ExitStack()
    if address is None:
        stack.enter_context(_environment(*_NO_DASHBOARD))
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Ray secures a local cluster with a token. One of our own keeps it from saving one in ~/.ray, where it would
        # change how the user's next `ray start` behaves.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        folder = tempfile.mkdtemp(prefix="ray-fer-")  # short on purpose: Ray puts sockets in it
    quieten()
    # Batches come as read-only views of Ray's object store; the training loop does not write to them.
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    try:
        if folder is None:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            # What a worker leaves that is killed, such as a checkpoint that it was uploading, goes with the folder.
            Path(folder, "tmp").mkdir()
            with _environment("TMPDIR", f"{folder}/tmp"):
                ray.init(_temp_dir=folder, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        context = DataContext.get_current()
        context.enable_progress_bars = sys.stderr.isatty()
        context.print_on_execution_start = False
        yield
    finally:
        ray.shutdown()
        stack.close()
        if folder is not None:
            _remove(folder)


def _remove(folder: str) -> None:
    """Delete a folder in which processes that are ending may still write."""
    deadline = time.monotonic() + 5
    while os.path.exists(folder) and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)
