"""Put a Serve application up and take it down, on a Ray of our own or on a cluster that others use too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ray import serve

from ray_fer.serving.local_ray import quieten


@contextmanager
def deployed(app: serve.Application, name: str, host: str, port: int, keep: bool = False) -> Iterator[str]:
    """Deploy `app` at route "/" and yield its URL; delete it at the end unless `keep`.

    Starts Serve at `host`:`port` where none runs, and stops it again when no other application has come to it. A Serve
    that runs already keeps its own address, and is left running. Raises RuntimeError with Serve's reason when the
    application does not come up.
    """
    running = bool(serve.status().proxies)
    quieten()
    if not running:
        serve.start(http_options={"host": host, "port": port}, logging_config={"log_level": "ERROR"})
        quieten()
    serve.run(app, name=name, route_prefix="/", logging_config={"log_level": "ERROR"})
    quieten()
    try:
        yield f"http://{host}:{port}/" if not running else "the HTTP address of the Serve that was running already"
    finally:
        if not keep:
            serve.delete(name)
            # On a Ray of our own, Serve goes with it: stopping it first only makes its controller complain.
            if not running and "RAY_ADDRESS" in os.environ and not serve.status().applications:
                serve.shutdown()
