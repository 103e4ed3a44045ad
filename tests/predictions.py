"""Predictions for tests of what comes after the model."""

from __future__ import annotations

from ray_fer.streaming.messages import CultureInfo, ModelInfo, Prediction, WindowInfo


def prediction(index: int, expression: str | None) -> Prediction:
    """Window `index` of five seconds: certain of `expression`, or without a face when it is None."""
    return Prediction(
        stream_id="s",
        window=WindowInfo(index=index, start_us=index * 10**6, end_us=(index + 5) * 10**6, frames=50, faces=16),
        status="ok" if expression else "no_face",
        expression=expression,
        probabilities={expression: 1.0} if expression else {},
        culture=CultureInfo(source="global_prior", weights={}),
        model=ModelInfo(name="m", version="1"),
        latency_ms=100.0 * index,
    )
