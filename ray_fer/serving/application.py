"""Put a Serve application up and take it down, on a Ray of our own or on a cluster that others use too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray import serve
from ray.serve.context import _get_global_client  # serve.status() does not say the address

from ray_fer.serving.local_ray import quieten


def running_address() -> tuple[str, int] | None:
    """Host and port of the Serve that runs already; None where there is none."""
    if not ray.is_initialized() or not serve.status().proxies:  # status() would start a Ray to ask
        return None
    client = _get_global_client()
    assert client is not None
    return str(client.http_config.host), int(client.http_config.port)


@contextmanager
def deployed(app: serve.Application, name: str, host: str, port: int, keep: bool = False) -> Iterator[str]:
    """Deploy `app` at route "/" and yield its URL; delete it at the end unless `keep`.

    Starts Serve at `host`:`port` where none runs, and stops it again when no other application has come to it. A Serve
    that runs already keeps its own address, and is left running. Raises RuntimeError with Serve's reason when the
    application does not come up.
    """
    running = running_address()
    quieten()
    if running is None:
        serve.start(http_options={"host": host, "port": port}, logging_config={"log_level": "ERROR"})
        quieten()
    serve.run(app, name=name, route_prefix="/", logging_config={"log_level": "ERROR"})
    quieten()
    try:
        there, its_port = running or (host, port)
        yield f"http://{there}:{its_port}/"
    finally:
        if not keep:
            serve.delete(name)
            # On a Ray of our own, Serve goes with it: stopping it first only makes its controller complain.
            if running is None and "RAY_ADDRESS" in os.environ and not serve.status().applications:
                serve.shutdown()
