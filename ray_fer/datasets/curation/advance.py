"""How long work tells its caller how far it is."""

from __future__ import annotations

from collections.abc import Callable

Advance = Callable[[str, int, int], None]
"""Called with the name of the stage, the clips done and the clips in all."""


def silent(stage: str, done: int, total: int) -> None:
    """For callers that do not want to know."""
