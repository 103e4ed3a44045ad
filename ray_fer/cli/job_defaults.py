"""Commands whose options have other defaults, for job files that train one system."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


def with_defaults(command: Callable[..., None], **defaults: Any) -> Callable[..., None]:
    """The command, in whose `--help` and calls these parameters have these defaults. Raises KeyError for another."""
    signature = inspect.signature(command, eval_str=True)
    parameters = dict(signature.parameters)
    for name, value in defaults.items():
        parameters[name] = parameters[name].replace(default=value)

    @functools.wraps(command)
    def changed(**given: Any) -> None:
        command(**{**defaults, **given})

    changed.__signature__ = signature.replace(parameters=list(parameters.values()))  # type: ignore[attr-defined]
    return changed
