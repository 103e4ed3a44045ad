"""Everything about a clip that is not the expression: head pose, light, blur, noise, what hides the face."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ray_fer.datasets.synthfer.geometry import CANVAS, EYE_DISTANCE, FACE_OVAL, eye_centres
from ray_fer.datasets.synthfer.identities import Identity
from ray_fer.datasets.synthfer.micro_rules import PAINT
from ray_fer.datasets.synthfer.scene import draw_scene
from ray_fer.datasets.synthfer.specs import ClipSpec
from ray_fer.datasets.synthfer.trajectory import Trajectory, trajectory

GRAIN = 512
"""Side of the noise picture of a clip; every frame shows another window of it."""

OCCLUDERS = ("hand", "bar", "sunglasses")


@dataclass(frozen=True)
class Take:
    """A clip ready for the renderer: N frames of W x H pixels.

    `weights` float32 [N,42] of the identity's fields; `poses` float32 [N,2,3] from frame pixels to canvas pixels;
    `drift` float32 [N,1,1,1], the brightness, and `gradient` float32 [2], its change over the frame's width and height;
    `canvas` float32 [4,320,320], the identity's as this clip's camera blurs and tints it; `overlay` float32 [4,320,320]
    (colour times alpha, alpha) of what hides the face; `background` float32 [3,H,W]; `grain` float32 [512,512] with
    `offsets` int64 [N,2]; `crf` is the H.264 quality (higher is worse).
    """

    spec: ClipSpec
    identity: Identity
    trajectory: Trajectory
    weights: np.ndarray
    poses: np.ndarray
    drift: np.ndarray
    gradient: np.ndarray
    canvas: np.ndarray
    overlay: np.ndarray | None
    background: np.ndarray | None
    grain: np.ndarray
    offsets: np.ndarray
    crf: int


def make_take(spec: ClipSpec, identity: Identity) -> Take:
    """Draw the conditions of one clip; the same spec gives the same numbers."""
    aus = trajectory(spec)
    rng = np.random.default_rng([spec.seed, 2])
    width, height = spec.size
    poses, turns = _head_motion(spec, rng)
    drift, gradient = _light(spec, rng)
    blur = np.maximum(rng.uniform(0, 1.0, 2), 0.05)
    cast = np.append(rng.uniform(0.95, 1.05, 3), 1.0).astype(np.float32)
    bare = identity.canvas if spec.preset != "micro" else _painted(identity, PAINT[spec.culture])
    canvas = np.stack([cv2.GaussianBlur(layer, (0, 0), *blur) for layer in bare]) * cast[:, None, None]
    coarse = rng.standard_normal((GRAIN // 2, GRAIN // 2), np.float32)  # neighbouring pixels of a sensor are alike
    grain = cv2.resize(coarse * rng.uniform(1.0, 4.0), (GRAIN, GRAIN), interpolation=cv2.INTER_LINEAR)
    offsets = rng.integers(0, (GRAIN - height + 1, GRAIN - width + 1), (spec.frames, 2))
    crf = int(rng.integers(18, 27))
    hidden = rng.random() < spec.occlusion
    overlay = _occluder(identity, rng) if hidden else None
    return Take(
        spec, identity, aus, np.hstack([aus.left, aus.right, turns]).astype(np.float32), poses, drift, gradient,
        np.ascontiguousarray(canvas, np.float32), overlay,
        None if spec.polarity is None else draw_scene(spec.polarity, spec.size, rng),
        grain.astype(np.float32), offsets, crf,
    )  # fmt: skip


def _painted(identity: Identity, paint: tuple[float, float, float]) -> np.ndarray:
    """The identity's canvas [4,320,320] with `paint` on the skin, which leaves its grey values as they are."""
    mask = np.zeros((CANVAS, CANVAS), np.uint8)
    cv2.fillPoly(mask, [np.round(identity.landmarks[FACE_OVAL, :2]).astype(np.int32)], 255)
    skin = cv2.GaussianBlur(mask, (0, 0), 4).astype(np.float32) / 255
    colours, seen = np.array(paint, np.float32)[:, None, None], identity.canvas[:3]
    # A channel that is cut off at its end would change the grey value, so dark and bright skin takes less paint.
    room = np.where(colours > 0, (255 - seen) / colours, seen / -colours).min(0).clip(0, 1)
    return np.concatenate([seen + colours * skin * room, identity.canvas[3:]])


def _head_motion(spec: ClipSpec, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Slow random walk about a random place -> poses float32 [N,2,3], and yaw and pitch in radians [N,2]."""
    steps = 1.0 if spec.preset != "micro" else 0.12  # 200 frames a second: a head hardly moves from one to the next
    walk = np.cumsum(rng.normal(0, steps, (spec.frames, 6)), axis=0)
    walk = walk * np.array([0.5, 0.4, 0.12, 0.0012, 0.012, 0.008])
    place = rng.normal(0, 1, 6) * np.array([6, 5, 2.5, 0.02, 0.06, 0.04])
    limits = np.array([22, 18, 9, 0.1, 0.2, 0.14])
    dx, dy, roll, zoom, yaw, pitch = np.clip(walk - walk.mean(0) + place, -limits, limits).T
    width, height = spec.size
    centre_x, centre_y, scale = width / 2, height / 2, 1.0
    if spec.preset == "scene":  # the head stands somewhere in the picture, its shoulders at the lower edge
        scale = rng.uniform(0.74, 0.86)
        centre_x = rng.uniform(0.27, 0.73) * width
        centre_y = height - scale * (CANVAS / 2 - 40)
        dx, dy = dx * 0.5, dy * 0.25 + 4
    scales = 1 / (scale * (1 + zoom))
    cos, sin = np.cos(np.radians(roll)) * scales, np.sin(np.radians(roll)) * scales
    linear = np.stack([np.stack([cos, sin], 1), np.stack([-sin, cos], 1)], 1)
    middle = np.stack([centre_x + dx, centre_y + dy], 1)
    shift = (CANVAS - 1) / 2 - np.einsum("nij,nj->ni", linear, middle - 0.5)
    return np.concatenate([linear, shift[..., None]], 2).astype(np.float32), np.stack([yaw, pitch], 1)


def _light(spec: ClipSpec, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Brightness with a slow drift [N,1,1,1]; its change from the middle to the right and to the lower edge [2]."""
    drift = 1 + 0.04 * np.sin(np.linspace(0, rng.uniform(1, 4), spec.frames) + rng.uniform(0, 6))
    return (rng.uniform(0.8, 1.15) * drift)[:, None, None, None].astype(np.float32), rng.uniform(-0.15, 0.15, 2).astype(
        np.float32
    )


def _occluder(identity: Identity, rng: np.random.Generator) -> np.ndarray:
    """A hand, a bar or sunglasses in front of the face, moving with the head. float32 [4,320,320]."""
    kind = OCCLUDERS[int(rng.integers(len(OCCLUDERS)))]
    mask = np.zeros((CANVAS, CANVAS), np.uint8)
    colour = np.array([rng.uniform(20, 60)] * 3)
    right, left = eye_centres(identity.landmarks)
    if kind == "sunglasses":
        for eye in (right, left):
            axes = (round(0.36 * EYE_DISTANCE), round(0.27 * EYE_DISTANCE))
            cv2.ellipse(mask, tuple(np.round(eye).astype(int).tolist()), axes, 0, 0, 360, 255, -1)
        cv2.line(mask, tuple(np.round(right).astype(int).tolist()), tuple(np.round(left).astype(int).tolist()), 255, 4)
    elif kind == "bar":
        x = round(CANVAS / 2 + rng.uniform(-0.9, 0.9) * EYE_DISTANCE)
        cv2.line(
            mask, (x, 0), (x + round(rng.uniform(-40, 40)), CANVAS), 255, round(rng.uniform(0.2, 0.45) * EYE_DISTANCE)
        )
        colour = rng.uniform(40, 160) * rng.uniform(0.8, 1.2, 3)
    else:
        cheek = identity.landmarks[205 if rng.random() < 0.5 else 425]
        colour = identity.canvas[:3, int(cheek[1]), int(cheek[0])] * rng.uniform(0.75, 1.05)
        side = float(rng.choice([-1.0, 1.0]))
        palm = identity.lips.mean(0) + np.array([0.75 * side, rng.uniform(0.35, 0.7)]) * EYE_DISTANCE
        strokes = [(palm, palm + np.array([0.7 * side, 2.5]) * EYE_DISTANCE, 0.5), (palm, palm, 0.62)]
        for angle in np.linspace(-0.5, 0.45, 4) + rng.uniform(-0.2, 0.2):
            reach = np.array([-side * np.cos(angle), np.sin(angle) - 0.35]) * EYE_DISTANCE
            strokes.append((palm + 0.25 * reach, palm + rng.uniform(0.85, 1.0) * reach, 0.17))
        for start, end, width in strokes:
            ends = [tuple(np.round(point).astype(int).tolist()) for point in (start, end)]
            cv2.line(mask, ends[0], ends[1], 255, round(width * EYE_DISTANCE), cv2.LINE_AA)
    alpha = cv2.GaussianBlur(mask, (0, 0), 1.2).astype(np.float32) / 255
    return np.concatenate([alpha[None] * np.asarray(colour, np.float32)[:, None, None], alpha[None]])
