"""SynthFER: videos of real photographs moved by known Action Units, for tests, demos and smoke training.

Every clip starts neutral, moves to an apex and mostly stays there, with blinks, small head motion, changing light
and sensor noise. The planted AU intensities are kept in the manifest, so extractors and priors can be checked.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from ray_fer.datasets.manifest import Clip, write_manifest
from ray_fer.datasets.synthfer_faces import CANVAS, TEST_IDENTITIES, TRAIN_IDENTITIES, load_identity, warp
from ray_fer.datasets.synthfer_profiles import peak_intensities
from ray_fer.labels import AU_NAMES, EXPRESSIONS, SYNTHETIC_CULTURES

FPS = 10
SECONDS = 5.0
"""GCC-FER's clips last five seconds; so do these."""


@dataclass(frozen=True)
class ClipSpec:
    """What to render: one expression, or several in turn for a labelled stream (`expressions`)."""

    clip_id: str
    identity: str
    culture: str
    expressions: tuple[str, ...]
    split: str
    seed: int
    fps: int = FPS
    seconds: float = SECONDS


def plan(clips: int, seed: int, split: str, prefix: str = "synth") -> list[ClipSpec]:
    """Specs of `clips` clips with expression, culture and identity balanced. `split` "test" uses held-out identities.

    Raises ValueError when `clips` is below one or `split` is unknown.
    """
    if clips < 1:
        raise ValueError(f"cannot make {clips} clips; ask for at least 1")
    if split not in ("train", "val", "test"):
        raise ValueError(f"unknown split {split!r}; expected train, val or test")
    identities = list(TEST_IDENTITIES if split == "test" else TRAIN_IDENTITIES)
    rng = np.random.default_rng([seed, ("train", "val", "test").index(split)])
    specs = []
    cells = [(e, c) for c in SYNTHETIC_CULTURES for e in EXPRESSIONS]
    order = rng.permutation(len(identities))
    for number in range(clips):
        expression, culture = cells[number % len(cells)]
        turn = number // len(cells) + number  # walks through identities so that no cell keeps one face
        identity = identities[order[turn % len(identities)]]
        specs.append(
            ClipSpec(
                f"{prefix}_{split}_{number:05d}", identity, culture, (expression,), split, int(rng.integers(2**31))
            )
        )
    return specs


def plan_streams(streams: int, seed: int) -> list[ClipSpec]:
    """Specs of labelled streams: a held-out identity shows all seven expressions, five seconds each, shuffled."""
    identities = list(TEST_IDENTITIES)
    rng = np.random.default_rng([seed, 7])
    return [
        ClipSpec(
            clip_id=f"synth-{number + 1}",
            identity=identities[number % len(identities)],
            culture=SYNTHETIC_CULTURES[(number + number // len(identities)) % len(SYNTHETIC_CULTURES)],
            expressions=tuple(rng.permutation(EXPRESSIONS).tolist()),
            split="test",
            seed=int(rng.integers(2**31)),
        )
        for number in range(streams)
    ]


def generate(
    specs: Sequence[ClipSpec],
    root: str | Path,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Render all specs below `root` (``videos/*.mp4``) in parallel processes; returns the manifest's path."""
    root = Path(root)
    (root / "videos").mkdir(parents=True, exist_ok=True)
    workers = workers or multiprocessing.cpu_count()
    clips: dict[str, Clip] = {}
    # One process per identity at a time would starve; chunks keep each process's identity cache warm instead.
    by_face = sorted(specs, key=lambda spec: spec.identity)
    chunks = [by_face[start : start + 16] for start in range(0, len(by_face), 16)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(chunks)), mp_context=context) as pool:
        for future in as_completed([pool.submit(_render_chunk, chunk, str(root)) for chunk in chunks]):
            clips.update({clip.clip_id: clip for clip in future.result()})
            if progress is not None:
                progress(len(clips), len(specs))
    return write_manifest([clips[spec.clip_id] for spec in specs], root / "manifest.parquet")


def _render_chunk(specs: Sequence[ClipSpec], root: str) -> list[Clip]:
    cv2.setNumThreads(1)
    return [render_clip(spec, root) for spec in specs]


def render_clip(spec: ClipSpec, root: str | Path) -> Clip:
    """Render one spec to ``root/videos/<clip_id>.mp4`` (H.264) and return its manifest row."""
    rng = np.random.default_rng(spec.seed)
    identity = load_identity(spec.identity)
    peaks, curves = [], []
    for expression in spec.expressions:
        peak = _sampled_peak(expression, spec.culture, rng)
        peaks.append(peak)
        curves.append(peak * _envelope(spec, rng)[:, None] + _idle_motion(spec, rng))
    aus = np.concatenate(curves)
    poses, lights = _head_motion(len(aus), rng), _light(len(aus), rng)
    noise = rng.uniform(1.0, 4.0)
    relative = Path("videos") / f"{spec.clip_id}.mp4"
    with _Writer(Path(root) / relative, spec.fps) as writer:
        for values, pose, light in zip(aus, poses, lights, strict=True):
            image = cv2.warpAffine(
                warp(identity, values), pose, (CANVAS, CANVAS), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            grain = rng.standard_normal((CANVAS // 2, CANVAS // 2), np.float32) * noise
            grain = cv2.resize(grain, (CANVAS, CANVAS))
            writer.write(np.clip(image * light + grain[:, :, None], 0, 255).astype(np.uint8))
    single = len(spec.expressions) == 1
    return Clip(
        clip_id=spec.clip_id,
        dataset="synthfer",
        path=str(relative),
        label=spec.expressions[0] if single else None,
        culture=spec.culture,
        subject_id=spec.identity,
        split=spec.split,
        onset=0 if single else None,
        apex=int(np.argmax(aus.sum(1))) if single else None,
        offset=len(aus) - 1 if single else None,
        annotations=json.dumps(
            {
                "segments": [
                    {
                        "label": expression,
                        "start_us": round(position * spec.seconds * 1e6),
                        "end_us": round((position + 1) * spec.seconds * 1e6),
                        "peak_aus": {au: round(float(v), 3) for au, v in zip(AU_NAMES, peak, strict=True) if v > 0},
                    }
                    for position, (expression, peak) in enumerate(zip(spec.expressions, peaks, strict=True))
                ]
            }
        ),
    )


def _sampled_peak(expression: str, culture: str, rng: np.random.Generator) -> np.ndarray:
    peak = peak_intensities(expression, culture) * rng.uniform(0.75, 1.15)
    return peak * rng.uniform(0.8, 1.2, len(AU_NAMES)).astype(np.float32)


def _envelope(spec: ClipSpec, rng: np.random.Generator) -> np.ndarray:
    """Share of the apex at each frame, float32 [N]: neutral, smooth onset, hold, and sometimes a partial release."""
    times = np.arange(round(spec.fps * spec.seconds)) / spec.fps
    onset = rng.uniform(0.4, 1.3)
    rise = rng.uniform(0.3, 0.9)
    curve = _smoothstep((times - onset) / rise)
    if rng.random() < 0.4:
        release = rng.uniform(3.2, 4.4)
        curve = curve * (1 - rng.uniform(0.2, 0.8) * _smoothstep((times - release) / 0.6))
    return curve.astype(np.float32)


def _idle_motion(spec: ClipSpec, rng: np.random.Generator) -> np.ndarray:
    """What a face does anyway: blinks, and small slow movements of a few muscles. float32 [N,20]."""
    count = round(spec.fps * spec.seconds)
    motion = np.zeros((count, len(AU_NAMES)), np.float32)
    for _ in range(rng.poisson(1.0)):
        at = int(rng.integers(0, count))
        motion[at : at + 2, AU_NAMES.index("AU43")] = rng.uniform(0.7, 1.0)
    times = np.arange(count) / spec.fps
    for au in rng.choice(len(AU_NAMES) - 1, 3, replace=False):
        wave = np.sin(2 * np.pi * (rng.uniform(0.05, 0.3) * times + rng.random()))
        motion[:, au] += rng.uniform(0, 0.12) * np.clip(wave, 0, None)
    return motion


def _head_motion(count: int, rng: np.random.Generator) -> list[np.ndarray]:
    walk = np.cumsum(rng.normal(0, 1, (count, 4)), axis=0) * np.array([0.5, 0.4, 0.12, 0.0012])
    walk = walk - walk.mean(0) + rng.normal(0, 1, 4) * np.array([6, 5, 2.5, 0.02])
    poses = []
    for dx, dy, roll, zoom in np.clip(walk, [-25, -20, -10, -0.12], [25, 20, 10, 0.12]):
        matrix = cv2.getRotationMatrix2D((CANVAS / 2, CANVAS / 2), float(roll), float(1 + zoom))
        matrix[:, 2] += (dx, dy)
        poses.append(matrix)
    return poses


def _light(count: int, rng: np.random.Generator) -> np.ndarray:
    """Multiplicative light, float32 [N,1,CANVAS,3]: a colour cast, a sideways gradient, a slow drift."""
    cast = rng.uniform(0.9, 1.1, 3) * rng.uniform(0.8, 1.15)
    gradient = 1 + rng.uniform(-0.15, 0.15) * np.linspace(-1, 1, CANVAS)
    drift = 1 + 0.04 * np.sin(np.linspace(0, rng.uniform(1, 4), count) + rng.uniform(0, 6))
    return (drift[:, None, None, None] * gradient[None, None, :, None] * cast).astype(np.float32)


def _smoothstep(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


class _Writer:
    """H.264 in MP4, constant frame rate, one thread so that the same frames give the same bytes."""

    def __init__(self, path: Path, fps: int) -> None:
        self._container = av.open(str(path), "w")
        self._stream = self._container.add_stream("libx264", rate=Fraction(fps))
        self._stream.width = self._stream.height = CANVAS
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = {"crf": "20", "preset": "ultrafast", "threads": "1"}

    def __enter__(self) -> _Writer:
        return self

    def write(self, image: np.ndarray) -> None:
        self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))

    def __exit__(self, *_: object) -> None:
        self._container.mux(self._stream.encode())
        self._container.close()
