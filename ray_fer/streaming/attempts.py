"""Asking the model until it answers, and going on without it where a single window is what breaks it."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ray_fer.streaming.messages import Prediction
from ray_fer.streaming.references import StoreAwayError
from ray_fer.streaming.windows import BufferedFrame, Window

_LOG = logging.getLogger(__name__)
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 10.0
_TOGETHER = 3
"""Failures of a batch after which its windows are asked for one by one."""
_ALONE, _ALONE_OF_ONE = 5, 35
"""Failures of a window after which it is given out as failed, in company and without."""


@dataclass
class Inference:
    """What the model says of a list of windows: one prediction each, and frames that could not be decoded."""

    predictions: list[Prediction]
    broken: list[tuple[BufferedFrame, str]]


class StoppedError(RuntimeError):
    """The worker was told to stop while it waited for something that may never come."""


class Attempts:
    """Runs `infer` with patience.

    A batch that fails is tried again after a while, so that a model that is restarted costs time only. After three
    failures its windows are tried one by one. One that fails five times alone, while the model answers others, breaks
    it, and is given out as `failed` (`Window.failed` is the reason; `infer` is asked last about such a window). While
    none is answered the model is away, and everything waits; a batch of a single window, which has no other to compare
    with, is given up after some five minutes.

    `StoreAwayError` is no fault of a window, so it is waited out for as long as it lasts.
    """

    def __init__(self, infer: Callable[[Sequence[Window]], Inference]) -> None:
        self._infer = infer
        self._stop = threading.Event()
        self.failures = 0
        """How many calls of the model failed."""

    def stop(self) -> None:
        """No new attempt: one that is running may end, and if it fails `run` raises StoppedError."""
        self._stop.set()

    def run(self, windows: Sequence[Window]) -> Inference:
        """One prediction per window, in order. Raises StoppedError, and the model's error about a failed window."""
        wait = _FIRST_WAIT_S
        for _ in range(_TOGETHER):
            answer = self._try(windows)
            if isinstance(answer, Inference):
                return answer
            wait = self._wait(wait, answer)
        answers: dict[int, Inference] = {}
        alone: Counter[int] = Counter()
        while True:
            errors = self._round(windows, answers)
            if not errors:
                return _joined([answers[place] for place in range(len(windows))])
            blamed = [place for place, error in errors.items() if not isinstance(error, StoreAwayError)]
            if blamed and (len(windows) == 1 or self._alive(windows, answers)):
                alone.update(blamed)
            most = _ALONE if len(windows) > 1 else _ALONE_OF_ONE
            for place, error in errors.items():
                if alone[place] >= most and place in blamed:
                    window = windows[place]
                    _LOG.warning("window %d of stream %s breaks the model: %s", window.index, window.stream_id, error)
                    reason = str(error) or type(error).__name__
                    answers[place] = self._infer([replace(window, chosen=(), failed=reason)])
            wait = self._wait(wait, next(iter(errors.values())))

    def _round(self, windows: Sequence[Window], answers: dict[int, Inference]) -> dict[int, Exception]:
        """Ask for each window that has no answer yet; errors by place."""
        errors = {}
        for place, window in enumerate(windows):
            if place not in answers:
                answer = self._try([window])
                if isinstance(answer, Inference):
                    answers[place] = answer
                else:
                    errors[place] = answer
        return errors

    def _alive(self, windows: Sequence[Window], answers: dict[int, Inference]) -> bool:
        """Whether the model answers now about a window that it has answered before."""
        known = next((windows[place] for place in answers), None)
        return known is not None and isinstance(self._try([known]), Inference)

    def _wait(self, seconds: float, error: Exception) -> float:
        if self._stop.is_set():
            raise StoppedError(f"stopped while the model failed: {error}")
        _LOG.warning("the model failed (%s); it is asked again in %.1f s", error, seconds)
        self._stop.wait(seconds)
        return min(2 * seconds, _LONGEST_WAIT_S)

    def _try(self, windows: Sequence[Window]) -> Inference | Exception:
        try:
            return self._infer(windows)
        except Exception as error:  # whatever a model may raise
            self.failures += 1
            return error


def _joined(answers: Sequence[Inference]) -> Inference:
    return Inference(
        [prediction for answer in answers for prediction in answer.predictions],
        [broken for answer in answers for broken in answer.broken],
    )
