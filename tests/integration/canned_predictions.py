"""Predictions that look like those of people: moods that last, faces that are mostly found, Action Units that fit."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np

from ray_fer.labels import AU_NAMES, CULTURES, EXPRESSIONS
from ray_fer.streaming.messages import CultureInfo, ModelInfo, Prediction, WindowInfo

TYPICAL_UNITS = {
    "Angry": ("AU04", "AU07", "AU23"),
    "Disgust": ("AU09", "AU10", "AU17"),
    "Fear": ("AU01", "AU02", "AU20"),
    "Happy": ("AU06", "AU12", "AU25"),
    "Neutral": (),
    "Sad": ("AU01", "AU04", "AU15"),
    "Surprise": ("AU02", "AU05", "AU26"),
}
FRAMES = 16
VERSION = "0.1.0+1f2e3d4c"


@dataclass
class Face:
    """One stream of windows; the same name gives the same ones. `live` windows have a latency."""

    stream_id: str
    live: bool = True
    model: str = "cafer-synthfer"
    size: float = 5.0
    stride: float = 1.0
    session: int = 0
    index: int = 0
    mood: str = "Neutral"
    random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(zlib.crc32(self.stream_id.encode()))
        self.mood = str(self.random.choice(EXPRESSIONS))

    def next_start_us(self) -> int:
        return round(self.index * self.stride * 1e6)

    def next_end_us(self) -> int:
        return self.next_start_us() + round(self.size * 1e6)

    def next_window(self, status: str = "ok", frames: int | None = None) -> Prediction:
        """The stream's next window; `frames` in it, 25 a second if not said."""
        if self.random.random() < 0.12:
            self.mood = str(self.random.choice(EXPRESSIONS))
        logits = self.random.normal(0, 0.6, len(EXPRESSIONS))
        logits[EXPRESSIONS.index(self.mood)] += 2.4
        shares = np.exp(logits) / np.exp(logits).sum()
        found = 16 if self.random.random() < 0.8 else int(self.random.integers(7, 16))
        one = prediction(self.stream_id, dict(zip(EXPRESSIONS, shares.tolist(), strict=True)), self._units(), status)
        window = WindowInfo(
            session=self.session,
            index=self.index,
            start_us=self.next_start_us(),
            end_us=self.next_end_us(),
            frames=0 if status == "gap" else (round(25 * self.size) if frames is None else frames),
            faces={"ok": found, "failed": found, "no_face": int(self.random.integers(0, 3))}.get(status, 0),
        )
        latency = round(float(self.random.gamma(9, 70)), 1) if self.live else None
        self.index += 1
        return one.model_copy(
            update={
                "window": window,
                "latency_ms": latency,
                "model": ModelInfo(name=self.model, version=VERSION),
            }
        )

    def _units(self) -> dict[str, float]:
        values = np.clip(self.random.gamma(1.2, 0.06, len(AU_NAMES)), 0, 1)
        for name in TYPICAL_UNITS[self.mood]:
            values[AU_NAMES.index(name)] = self.random.uniform(0.35, 0.95)
        return {name: round(float(value), 4) for name, value in zip(AU_NAMES, values, strict=True)}


def prediction(
    stream_id: str, probabilities: dict[str, float], units: dict[str, float] | None = None, status: str = "ok"
) -> Prediction:
    """The first window of a stream, with what the model says if `status` is ok."""
    ok = status == "ok"
    known = stream_id.startswith("interview")
    return Prediction(
        stream_id=stream_id,
        window=WindowInfo(session=0, index=0, start_us=0, end_us=5_000_000, frames=125, faces=FRAMES if ok else 0),
        status=status,
        error="the model gave NaN" if status == "failed" else None,
        expression=max(probabilities, key=probabilities.__getitem__) if ok else None,
        probabilities=probabilities if ok else {},
        action_units=(units or {}) if status in ("ok", "failed") else {},
        culture=CultureInfo(
            source="stream_header" if known else "global_prior",
            weights={CULTURES[0]: 0.7, CULTURES[2]: 0.3} if known else {"global": 1.0},
        ),
        model=ModelInfo(name="cafer-synthfer", version=VERSION),
        latency_ms=640.0,
    )
