"""What stream workers are given in tests of faults, and what has to come out of it whatever happens to them."""

from __future__ import annotations

import hashlib
import io
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from ray_fer.streaming.frame_message import FrameMessage
from ray_fer.streaming.messages import CultureInfo, Headers, ModelInfo, Prediction, WindowInfo
from ray_fer.streaming.windows import BufferedFrame, StreamWindows, Window, WindowConfig
from ray_fer.video.images import encode_jpeg

# No stream falls silent here: windows are closed by event time, and so always hold the same frames.
CONFIG = WindowConfig(size=2.0, stride=0.5, frames=4, allowed_lateness=0.3, idle_timeout=120.0)
UNDECODABLE = b"undecodable"

Position = tuple[int, int]
"""Partition and offset in the frames topic."""
Key = tuple[str, int, int]
"""Stream, which of its sessions (counted from 0), window."""
Answer = tuple[str, str | None, int, int, int]
"""Status, expression, number of frames, start and end: what is compared of a prediction."""


@dataclass(frozen=True)
class Record:
    """One record of the frames topic: a frame in a run of its stream, or None where it is not a frame at all."""

    stream_id: str
    run: int
    value: bytes
    headers: Headers
    frame: FrameMessage | None


def answer(window: Window) -> Prediction:
    """The fake model's prediction: its `expression` is a hash of the chosen frames."""
    digest = hashlib.sha1(f"{window.stream_id}/{window.index}".encode())
    for frame in window.chosen:
        digest.update(f"/{frame.pts_us}/".encode() + frame.payload.data)
    return Prediction(
        stream_id=window.stream_id,
        window=WindowInfo(
            session=window.session,
            index=window.index,
            start_us=window.start_us,
            end_us=window.end_us,
            frames=window.frames,
            faces=len(window.chosen),
        ),
        status="ok" if window.chosen else "gap",
        expression=digest.hexdigest() if window.chosen else None,
        culture=CultureInfo(source="global_prior", weights={}),
        model=ModelInfo(name="fake", version="0"),
    )


def compared(prediction: Prediction) -> Answer:
    """What of a prediction has to be as in an undisturbed run."""
    window = prediction.window
    return prediction.status, prediction.expression, window.frames, window.start_us, window.end_us


class Traffic:
    """Records of `streams` cameras, each `seconds` long in event time; the same for the same seed.

    Some frames come up to a second late, some come twice. The first stream has a hole of four seconds, the second one
    starts again in its middle. The share `malformed` of the frames is followed by a record that is not a frame, and
    the share `undecodable` of them has a signature and an end, but nothing in between that could be decoded. A run of a
    stream ends with a frame late enough to close all windows before it.
    """

    def __init__(
        self,
        streams: int = 6,
        seconds: float = 20,
        fps: int = 10,
        malformed: float = 0.05,
        undecodable: float = 0.1,
        seed: int = 0,
    ) -> None:
        self._random = random.Random(seed)
        self._fps = fps
        self._malformed = malformed
        self._undecodable = undecodable
        lines = []
        for number in range(streams):
            runs = [seconds / 2, seconds / 2] if number == 1 else [seconds]
            hole = (0.3 * seconds, 0.3 * seconds + 4) if number == 0 else (0.0, 0.0)
            lines.append(
                [one for run, length in enumerate(runs) for one in self._run(f"camera-{number}", run, length, hole)]
            )
        # As cameras send: side by side, each record at its place in its own stream.
        places = [(place / len(line), number, place) for number, line in enumerate(lines) for place in range(len(line))]
        self.records = [lines[number][place] for _, number, place in sorted(places)]

    def _run(self, stream_id: str, run: int, seconds: float, hole: tuple[float, float]) -> list[Record]:
        times = [i / self._fps for i in range(round(seconds * self._fps)) if not hole[0] <= i / self._fps < hole[1]]
        order: list[tuple[float, int]] = []
        for seq in range(len(times)):
            # A stream that starts again is known by its first frame, so that one is neither late nor twice.
            delay = self._random.uniform(0, self._fps) if seq and self._random.random() < 0.05 else 0
            order.append((seq + delay, seq))
            if seq and self._random.random() < 0.03:
                order.append((seq + delay + 0.5, seq))
        times.append(times[-1] + CONFIG.size + CONFIG.allowed_lateness + CONFIG.stride)
        order.append((len(times) + self._fps, len(times) - 1))
        frames = [self._frame(stream_id, seq, second) for seq, second in enumerate(times)]
        records = []
        for _, seq in sorted(order):
            frame = frames[seq]
            records.append(Record(stream_id, run, frame.payload, frame.headers(), frame))
            if self._random.random() < self._malformed:
                value, headers = self._random.choice(_SPOIL)(frame.payload, dict(frame.headers()))
                records.append(Record(stream_id, run, value, list(headers.items()), None))
        return records

    def _frame(self, stream_id: str, seq: int, second: float) -> FrameMessage:
        pixels = np.array(self._random.choices(range(256), k=8 * 8 * 3), np.uint8).reshape(8, 8, 3)
        jpeg = encode_jpeg(pixels)
        if self._random.random() < self._undecodable:
            jpeg = jpeg[:-2] + UNDECODABLE + jpeg[-2:]
        return FrameMessage(stream_id, round(second * 1e6), seq, "image/jpeg", jpeg)


_SPOIL: list[Callable[[bytes, dict[str, bytes]], tuple[bytes, dict[str, bytes]]]] = [
    lambda value, headers: (value[:-30], headers),
    lambda value, headers: (b"GIF89a" + value, headers),
    lambda value, headers: (b"", headers),
    lambda value, headers: (value, {name: text for name, text in headers.items() if name != "pts-us"}),
    lambda value, headers: (value, headers | {"seq": b"first"}),
    lambda value, headers: (value, headers | {"content-type": b"image/webp"}),
]


@dataclass(frozen=True)
class Expected:
    """The undisturbed run: every window with its answer, and the records that belong among the dead letters."""

    answers: Mapping[Key, Answer]
    dead: Mapping[Position, Record]


def expected(log: Mapping[Position, Record]) -> Expected:
    """Feed the records, in the order of the log, to one `StreamWindows` for each run of each stream."""
    runs: dict[tuple[str, int], StreamWindows] = {}
    dead: dict[Position, Record] = {}
    for position, record in sorted(log.items()):
        if record.frame is None:
            dead[position] = record
            continue
        windows = runs.setdefault((record.stream_id, record.run), StreamWindows(record.stream_id, CONFIG))
        frame = record.frame
        buffered = BufferedFrame(frame.pts_us, frame.seq, frame.source(), record=position, offset=position[1])
        if windows.add(buffered) == "late":
            dead[position] = record
    last = dict(sorted(runs))
    answers: dict[Key, Answer] = {}
    for (stream_id, run), windows in runs.items():
        # A run that is followed by another one is over; of the last one some windows stay open.
        for window in windows.ready() if run == last[stream_id] else windows.flush():
            answers[stream_id, run, window.index] = compared(answer(window))
            dead |= {one.record: log[one.record] for one in window.chosen if UNDECODABLE in one.payload.data}
    return Expected(answers, dead)


def ranked(predictions: Sequence[Prediction]) -> list[tuple[Key, Answer]]:
    """Predictions by stream, window and which of the stream's sessions, whatever the sessions' names are."""
    sessions: dict[str, set[int]] = {}
    for one in predictions:
        sessions.setdefault(one.stream_id, set()).add(one.window.session)
    ranks = {
        (stream_id, session): rank
        for stream_id, names in sessions.items()
        for rank, session in enumerate(sorted(names))
    }
    return [
        ((one.stream_id, ranks[one.stream_id, one.window.session], one.window.index), compared(one))
        for one in predictions
    ]


@dataclass(frozen=True)
class Result:
    """What became of a run's windows, and of the records that are no frames."""

    fault: str
    windows: int
    """How many there have to be."""
    missing: int
    twice: int
    different: int
    """Windows with another answer than in the undisturbed run, or that are not in it."""
    dead_letters: int
    """How many there have to be."""
    wrong_letters: int
    """Dead letters that are missing, there twice, changed, or of good records."""

    def right(self) -> bool:
        return not (self.missing or self.twice or self.different or self.wrong_letters)


def compare(fault: str, wanted: Expected, predictions: Sequence[Prediction], letters: Sequence[Any]) -> Result:
    """Compare what was committed with the undisturbed run; `letters` are records of the dead-letter topic."""
    found = ranked(predictions)
    windows = Counter(key for key, _ in found)
    places: Counter[Position] = Counter()
    wrong = 0
    for letter in letters:
        headers = dict(letter.headers)
        place = int(headers["error-partition"]), int(headers["error-offset"])
        record = wanted.dead.get(place)
        places[place] += 1
        wrong += record is None or not (
            letter.key == record.stream_id.encode()
            and (letter.value or b"") == record.value
            and set(record.headers) <= set(letter.headers)
        )
    return Result(
        fault,
        windows=len(wanted.answers),
        missing=len(wanted.answers.keys() - windows.keys()),
        twice=sum(times > 1 for times in windows.values()),
        different=len({key for key, told in found if wanted.answers.get(key) != told}),
        dead_letters=len(wanted.dead),
        wrong_letters=wrong + len(wanted.dead.keys() - places.keys()) + sum(times > 1 for times in places.values()),
    )


def table(results: Sequence[Result]) -> str:
    """Faults x what became of the windows."""
    shown = Table("fault", "windows", "missing", "twice", "different", "dead letters", "wrong ones")
    for one in results:
        shown.add_row(*(str(value) for value in astuple(one)))
    console = Console(width=110, file=io.StringIO())
    with console.capture() as captured:
        console.print(shown)
    return captured.get()
