"""One live connection's frames, windows and answers; who sends and receives them is `api_live`.

Frames come at the pace of a camera, and answers should be of what it shows now. So windows that wait while the model is
busy are passed over when they become too many: they are given out as `skipped`, and the newest are answered.
"""

from __future__ import annotations

import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ray_fer.serving.catalogue import ServedModel
from ray_fer.serving.inference import Stages, always, infer_windows
from ray_fer.serving.isolated import IsolatedDecoder
from ray_fer.serving.options import UploadLimits
from ray_fer.serving.stages import FaceResult
from ray_fer.serving.uploads import TooLargeError, image_payload
from ray_fer.streaming.frame_message import MAX_PTS_US
from ray_fer.streaming.messages import Prediction
from ray_fer.streaming.windows import BufferedFrame, StreamWindows, Window, WindowConfig
from ray_fer.video.limits import MediaError

_TIME = struct.Struct(">Q")
_WAITING = 8
"""Windows that may wait for the model; the others that wait are passed over, and their frames let go."""
_AT_ONCE = 4
_MOST_PASSED_OVER = 10_000
_LOOKS = 16
"""How often what is held is added up while frames of as many bytes come as may be held."""


class Start(BaseModel):
    """The first message of a client."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["start"]
    key: str | None = Field(None, max_length=200)
    model: str | None = Field(None, max_length=200)
    size: float = Field(5.0, ge=0.1, le=60)
    stride: float = Field(1.0, ge=0.05, le=60)
    lateness: float = Field(0.2, ge=0, le=10)


class LiveSession:
    """Takes frames on one thread, and gives answers on another."""

    def __init__(
        self,
        stream_id: str,
        start: Start,
        choose: Callable[[], ServedModel],
        stages: Stages,
        decoder: IsolatedDecoder,
        limits: UploadLimits,
    ) -> None:
        model = choose()
        config = WindowConfig(
            size=start.size, stride=start.stride, frames=model.transform.frames, allowed_lateness=start.lateness
        )
        self.frames = self.windows = 0
        self.model = model
        self._choose = choose
        self._stages, self._decoder = stages, decoder
        self._limits = limits
        self._came = 0
        self._stream = StreamWindows(stream_id, config)
        self._waiting: deque[Window] = deque()
        self._turns = threading.Lock()

    def add(self, message: bytes) -> dict[str, Any] | None:
        """Take a frame; what there is to say to the client about it, if it cannot be used.

        Raises ValueError for a message that is no frame at all, TooLargeError when too much waits.
        """
        if len(message) <= _TIME.size:
            raise ValueError("a frame is 8 bytes event time in microseconds, big-endian, and then a JPEG or PNG")
        (pts_us,) = _TIME.unpack_from(message)
        if pts_us > MAX_PTS_US:
            raise ValueError(f"event time {pts_us} is after the year 2255; it is 8 bytes, big-endian, in microseconds")
        data = message[_TIME.size :]
        self.frames += 1
        if len(data) > self._limits.live_bytes:
            return self._broken(pts_us, f"{len(data)} bytes, more than {self._limits.live_bytes}; send smaller frames")
        try:
            payload = image_payload(data)
        except MediaError as error:
            return self._broken(pts_us, error.reason)
        frame = BufferedFrame(pts_us, self.frames, payload, arrived_ms=round(time.time() * 1000))
        verdict = self._stream.add(frame)
        self._put(self._stream.ready())
        if self.waiting > _MOST_PASSED_OVER:
            raise TooLargeError("windows come much faster than the model answers; choose a longer stride")
        self._came += len(data)
        if self._came > self._limits.live_held_bytes // _LOOKS:
            self._came = 0
            self._check_held()
        if verdict == "kept":
            return None
        said = {"late": "came after its windows had closed", "duplicate": "another frame has the same time"}
        return self._broken(pts_us, said.get(verdict, "its time is before that of frames that came earlier"))

    def end(self) -> None:
        """No more frames: close all windows."""
        self._put(self._stream.flush())

    @property
    def waiting(self) -> int:
        """Windows that nobody has answered yet."""
        return len(self._waiting)

    def answer(self) -> Iterator[dict[str, Any]]:
        """What is to be said of the windows that wait: messages for the client, as they are ready.

        Raises what the stages raise.
        """
        while turn := self._turn():
            self._check(turn)
            chosen = self._choose()
            if chosen.transform.frames == self.model.transform.frames:  # another bundle may have taken over
                self.model = chosen
            inference = infer_windows(self._stages, turn, always(self.model))
            for frame, reason in inference.broken:
                yield self._broken(frame.pts_us, reason)
            for prediction in inference.predictions:
                self.windows += 1
                yield _window(prediction)

    def _put(self, windows: list[Window]) -> None:
        with self._turns:
            self._waiting.extend(windows)
            place = len(self._waiting) - _WAITING - 1
            while place >= 0 and not self._waiting[place].skipped:
                self._waiting[place] = replace(self._waiting[place], skipped=True, chosen=())
                place -= 1

    def _turn(self) -> list[Window]:
        """The windows that were passed over, and the next ones."""
        with self._turns:
            turn = []
            while self._waiting and self._waiting[0].skipped:
                turn.append(self._waiting.popleft())
            return turn + [self._waiting.popleft() for _ in range(min(_AT_ONCE, self.waiting))]

    def _check_held(self) -> None:
        with self._turns:
            waiting = {id(frame): len(frame.payload.data) for window in self._waiting for frame in window.chosen}
        held = self._stream.held()[1] + sum(waiting.values())
        if held > self._limits.live_held_bytes:
            raise TooLargeError(
                f"frames of {held / 1e6:.0f} MB wait for their windows; send smaller ones, or choose shorter windows"
            )

    def _check(self, windows: list[Window]) -> None:
        """Look at the frames that were chosen, in the process that may die of them."""
        for frame in {id(frame): frame for window in windows for frame in window.chosen}.values():
            if frame.face is None:
                try:
                    self._decoder.check_image(frame.payload.data)
                except MediaError as error:
                    frame.face = FaceResult(None, error.reason)

    def _broken(self, pts_us: int, reason: str) -> dict[str, Any]:
        return {"type": "broken", "pts_us": pts_us, "reason": reason}


def _window(prediction: Prediction) -> dict[str, Any]:
    return {"type": "window", "prediction": prediction.model_dump()}
