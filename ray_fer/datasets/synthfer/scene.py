"""Backgrounds that suggest something good, nothing, or something bad: by colour, by texture and by objects."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from ray_fer.datasets.synthfer.specs import POLARITIES
from ray_fer.labels import index_of

Draw = Callable[[np.ndarray, np.random.Generator], None]

_GRADIENTS = {  # colours at the top and at the bottom
    "positive": (
        ((120, 195, 250), (255, 228, 150)), ((255, 205, 150), (255, 240, 190)), ((150, 220, 245), (170, 225, 120)),
    ),
    "neutral": (
        ((150, 155, 160), (125, 125, 120)), ((170, 165, 155), (140, 140, 145)), ((135, 145, 140), (160, 155, 150)),
    ),
    "negative": (((45, 50, 70), (25, 25, 35)), ((60, 55, 65), (35, 30, 30)), ((40, 55, 60), (55, 60, 75))),
}  # fmt: skip


def draw_scene(polarity: str, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Background float32 [3,H,W] in 0..255 of `size` (W, H). Raises ValueError for an unknown polarity."""
    index_of(polarity, POLARITIES, "polarity")
    width, height = size
    top, bottom = (np.array(c, np.float32) for c in _GRADIENTS[polarity][int(rng.integers(3))])
    slope = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    image = np.ascontiguousarray(np.broadcast_to(top * (1 - slope) + bottom * slope, (height, width, 3)))
    image += rng.normal(0, 6, 3).astype(np.float32)
    image += _texture(polarity, (height, width), rng)[..., None]
    image = np.clip(image, 0, 255).astype(np.uint8)
    for draw in {"positive": _joys, "neutral": _furniture, "negative": _threats}[polarity]:
        draw(image, rng)
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.6, 1.2))
    return np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)


def _texture(polarity: str, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Smooth for good scenes, a fine weave for neutral ones, rough in several scales for bad ones. [H,W]."""
    noise = rng.standard_normal(shape).astype(np.float32)
    if polarity == "positive":
        return cv2.GaussianBlur(noise, (0, 0), 25) * 120
    if polarity == "neutral":
        return cv2.GaussianBlur(noise, (0, 0), 1.2) * 8
    return noise * 9 + cv2.GaussianBlur(noise[::-1].copy(), (0, 0), 3) * 110


def _place(image: np.ndarray, rng: np.random.Generator, low: float = 0.05, high: float = 0.95) -> tuple[int, int]:
    height, width = image.shape[:2]
    return int(rng.uniform(0.04, 0.96) * width), int(rng.uniform(low, high) * height)


def _bright(rng: np.random.Generator) -> tuple[int, int, int]:
    palette = ((240, 70, 80), (250, 180, 40), (90, 170, 240), (120, 200, 90), (235, 110, 190))
    return palette[int(rng.integers(len(palette)))]


def _sun(image: np.ndarray, rng: np.random.Generator) -> None:
    x, y = _place(image, rng, 0.1, 0.25)
    for turn in np.linspace(0, 2 * np.pi, 12, endpoint=False):
        tip = (int(x + 42 * np.cos(turn)), int(y + 42 * np.sin(turn)))
        cv2.line(image, (x, y), tip, (255, 225, 110), 3, cv2.LINE_AA)
    cv2.circle(image, (x, y), 24, (255, 236, 120), -1, cv2.LINE_AA)


def _flowers(image: np.ndarray, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(5, 10))):
        x, y = _place(image, rng, 0.72, 0.95)
        cv2.line(image, (x, y), (x, image.shape[0]), (70, 150, 60), 3, cv2.LINE_AA)
        colour = _bright(rng)
        for turn in np.linspace(0, 2 * np.pi, 6, endpoint=False):
            petal = (int(x + 8 * np.cos(turn)), int(y + 8 * np.sin(turn)))
            cv2.circle(image, petal, 5, colour, -1, cv2.LINE_AA)
        cv2.circle(image, (x, y), 5, (255, 235, 120), -1, cv2.LINE_AA)


def _balloons(image: np.ndarray, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(3, 7))):
        x, y = _place(image, rng, 0.15, 0.55)
        cv2.line(image, (x, y), (x + int(rng.integers(-8, 8)), y + 60), (150, 150, 150), 1, cv2.LINE_AA)
        cv2.ellipse(image, (x, y), (14, 18), 0, 0, 360, _bright(rng), -1, cv2.LINE_AA)
        cv2.ellipse(image, (x - 5, y - 6), (3, 5), 20, 0, 360, (255, 255, 255), -1, cv2.LINE_AA)


def _shelf(image: np.ndarray, rng: np.random.Generator) -> None:
    y = int(rng.uniform(0.3, 0.5) * image.shape[0])
    cv2.rectangle(image, (0, y), (image.shape[1], y + 6), (120, 112, 104), -1)
    x = int(rng.integers(0, 30))
    while x < image.shape[1]:
        wide, tall = int(rng.integers(8, 20)), int(rng.integers(25, 55))
        tone = int(rng.integers(95, 165))
        cv2.rectangle(image, (x, y - tall), (x + wide, y - 1), (tone, tone, tone + 5), -1)
        x += wide + int(rng.integers(1, 26))


def _window(image: np.ndarray, rng: np.random.Generator) -> None:
    x, y = _place(image, rng, 0.08, 0.15)
    cv2.rectangle(image, (x, y), (x + 80, y + 70), (185, 185, 180), -1)
    cv2.rectangle(image, (x, y), (x + 80, y + 70), (110, 108, 104), 4)
    cv2.line(image, (x + 40, y), (x + 40, y + 70), (110, 108, 104), 3)


def _storm(image: np.ndarray, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(2, 4))):
        x, y = _place(image, rng, 0.06, 0.22)
        for _ in range(6):
            puff = (x + int(rng.integers(-35, 35)), y + int(rng.integers(-8, 8)))
            cv2.circle(image, puff, int(rng.integers(12, 22)), (70, 72, 80), -1, cv2.LINE_AA)
        for _ in range(14):
            drop = (x + int(rng.integers(-45, 45)), y + int(rng.integers(20, 150)))
            cv2.line(image, drop, (drop[0] - 3, drop[1] + 11), (110, 125, 150), 1, cv2.LINE_AA)


def _lightning(image: np.ndarray, rng: np.random.Generator) -> None:
    x, y = _place(image, rng, 0.02, 0.1)
    points = [(x, y)]
    for _ in range(6):
        points.append((points[-1][0] + int(rng.integers(-22, 22)), points[-1][1] + int(rng.integers(12, 30))))
    cv2.polylines(image, [np.array(points, np.int32)], False, (215, 220, 245), 3, cv2.LINE_AA)


def _shards(image: np.ndarray, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(5, 10))):
        x, y = _place(image, rng, 0.5, 0.98)
        corners = np.array([[x, y]]) + rng.integers(-22, 22, (3, 2))
        tone = int(rng.integers(15, 95))
        cv2.fillPoly(image, [corners.astype(np.int32)], (tone, tone // 2, tone // 2), cv2.LINE_AA)
    for _ in range(4):  # cracks
        points = [_place(image, rng)]
        for _ in range(7):
            points.append((points[-1][0] + int(rng.integers(-26, 26)), points[-1][1] + int(rng.integers(-5, 22))))
        cv2.polylines(image, [np.array(points, np.int32)], False, (10, 10, 12), 1, cv2.LINE_AA)


_joys: tuple[Draw, ...] = (_sun, _balloons, _flowers)
_furniture: tuple[Draw, ...] = (_window, _shelf)
_threats: tuple[Draw, ...] = (_storm, _lightning, _shards)
