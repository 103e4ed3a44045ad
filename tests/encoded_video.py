"""Small videos for tests, encoded with whatever codec, container and timing a test is about."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

RATE = 30


@cache
def _texture(width: int, height: int) -> np.ndarray:
    noise = cv2.GaussianBlur(np.random.default_rng(0).normal(size=(height, width, 3)), (0, 0), 5)
    return ((noise - noise.min()) / np.ptp(noise) * 255).astype(np.uint8)


def picture(number: int, width: int = 96, height: int = 80) -> np.ndarray:
    """uint8 [height,width,3]: a texture that moves, with a block whose brightness tells the frame."""
    image = np.roll(_texture(width, height), 3 * number, axis=1)
    image[: height // 4, : width // 4] = number * 37 % 256
    return image


def write_video(
    path: Path,
    codec: str = "libx264",
    frames: int | Sequence[np.ndarray] = 60,
    size: tuple[int, int] = (96, 80),
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    times_ms: Sequence[int] | None = None,
    format: str | None = None,
    container: dict[str, str] | None = None,
    **context: Any,
) -> Path:
    """Encode `frames` pictures (uint8 [H,W,3] RGB or [H,W,4] RGBA, or so many of `picture`), 30/s or at `times_ms`.

    `context` sets attributes of the encoder: color_range, colorspace, sample_aspect_ratio, ...
    """
    images = [picture(number, *size) for number in range(frames)] if isinstance(frames, int) else frames
    rate = RATE if times_ms is None else 1000
    with av.open(str(path), "w", format=format, options=container or {}) as output:
        stream = output.add_stream(codec, rate=RATE)
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        stream.options = options or {}
        stream.codec_context.time_base = Fraction(1, rate)
        stream.codec_context.thread_count = 1  # the same bytes on every machine
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24" if image.shape[2] == 3 else "rgba").reformat(
                format=pixels, dst_colorspace=context.get("colorspace"), dst_color_range=context.get("color_range")
            )
            frame.pts = number if times_ms is None else times_ms[number]
            frame.time_base = Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def remux(source: Path, target: Path, first: int = 0, rotation: float | None = None, **options: str) -> Path:
    """Copy the packets of a video from number `first` on, without encoding them again."""
    with av.open(str(source)) as given, av.open(str(target), "w", options=options) as output:
        stream = output.add_stream_from_template(given.streams.video[0])
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for number, packet in enumerate(packet for packet in given.demux(video=0) if packet.size):
            if number >= first:
                packet.stream = stream
                output.mux(packet)
    return target
