"""Errors that are the user's to mend: shown as one line, exit code 2, no traceback."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def exit_on_bad_input(command: Callable[P, R]) -> Callable[P, R]:
    """Turn expected errors of a command into one line on standard error and exit code 2.

    Expected are ValueError (which our MediaError, BundleError and ManifestError are), missing or existing files, and
    a broker or face model that is not there. Anything else is a defect and keeps its traceback.
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        # Imported late: kafka and cv2 are slow to load, and `--help` needs neither.
        from ray_fer.streaming.kafka import BrokerError
        from ray_fer.video.face_model import FaceModelError

        try:
            return command(*args, **kwargs)
        except (
            ValueError,
            FileNotFoundError,
            FileExistsError,
            NotADirectoryError,
            PermissionError,
            BrokerError,
            FaceModelError,
        ) as error:
            print(f"error: {' '.join(_text(error).split())}", file=sys.stderr)
            raise SystemExit(2) from None

    return wrapped


def _text(error: Exception) -> str:
    """What the error says; of pydantic's report only what is wrong, without its links and types."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    places = ((".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")) for one in error.errors())
    return "; ".join(f"{place}: {message}" if place else message for place, message in places)
