"""The catalogue as those see it who ask the models: fetched from the `Api` deployment, and looked after."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from ray_fer.serving.catalogue import Catalogue

_LOG = logging.getLogger(__name__)
_LOOK_EVERY_S = 2.0


class Routes:
    """A catalogue that is at most some seconds old.

    While nobody gives a newer one the last known one stays: who has models need not wait for who lists them.
    """

    def __init__(self, fetch: Callable[[], Catalogue], look_every_s: float = _LOOK_EVERY_S) -> None:
        self._fetch = fetch
        self._look_every_s = look_every_s
        self._lock = threading.Lock()
        self._known: Catalogue | None = None
        self._looked_at = 0.0

    def current(self) -> Catalogue:
        """The catalogue. Raises what `fetch` raises while none is known."""
        with self._lock:
            if self._known is None or time.monotonic() - self._looked_at > self._look_every_s:
                try:
                    self._known = self._fetch()
                except Exception as error:
                    if self._known is None:
                        raise
                    _LOG.warning("the models' list cannot be read (%s); going on with the last one", error)
                self._looked_at = time.monotonic()
            return self._known
