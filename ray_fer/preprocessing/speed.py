"""How fast and in how much memory clips are preprocessed, beside a plain script and beside what the work must cost.

Three figures on the same clips, in one run; the first and the last are measured before and after the second, on half of
their clips each, since a machine's clock is not the same from minute to minute:

* **sequential**: what people write first: decode every frame to RGB, look for a face in 16 of them, crop, encode;
* **ray_fer**: `preprocess` on the whole machine;
* **floor**: the fewest-packet decode, detection with alignment, and JPEG encoding, each measured alone in one process,
  summed and divided by the cores. Nothing that does this work can be faster.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from statistics import fmean, harmonic_mean

import av
import cv2
import numpy as np

from ray_fer.datasets.manifest import Clip, write_manifest
from ray_fer.datasets.synthfer import generate
from ray_fer.datasets.synthfer.plan import SynthOptions, plan
from ray_fer.preprocessing.clips import ClipOptions, preprocess
from ray_fer.preprocessing.frame_aus import extract_frame_aus
from ray_fer.process_use import peak_memory
from ray_fer.video.clip_frames import clip_frames
from ray_fer.video.decode import iter_frames
from ray_fer.video.face_clip import clip_faces
from ray_fer.video.faces import FaceFinder, align
from ray_fer.video.images import encode_jpeg
from ray_fer.video.sampling import uniform_indices

WIDTH, HEIGHT, FPS, SECONDS = 1280, 720, 30, 5
_DIFFERENT = 12  # clips that are rendered; more are copies, which cost what they cost


@dataclass(frozen=True)
class Speed:
    """Clips per second of one way, and the seconds per clip that each part takes where it was measured alone."""

    way: str
    clips_per_second: float
    parts: dict[str, float]


@dataclass(frozen=True)
class Memory:
    """Most memory of this process and all that it started (proportional set size), in MB, for so many clips."""

    clips: int
    peak_mb: float


def make_clips(folder: Path, count: int, seed: int = 42) -> Path:
    """Manifest of `count` clips of 5 s, 720p, 30 frames a second, as x264 encodes them by default."""
    rendered = generate(
        plan({"train": min(count, _DIFFERENT)}, SynthOptions(preset="scene", seed=seed)), folder / "small"
    )
    videos = sorted((rendered.parent / "videos").glob("*.mp4"))
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    for number, video in enumerate(videos):
        _enlarge(video, folder / "videos" / f"{number:05d}.mp4", seed + number)
    for number in range(len(videos), count):
        shutil.copyfile(folder / "videos" / f"{number % len(videos):05d}.mp4", folder / "videos" / f"{number:05d}.mp4")
    clips = [Clip(f"{number:05d}", "bench", f"videos/{number:05d}.mp4", split="train") for number in range(count)]
    return write_manifest(clips, folder / "manifest.parquet")


def _enlarge(source: Path, target: Path, seed: int) -> None:
    """720p with a camera's noise; without it H.264 has nothing to store and decodes faster than any real video."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 3, (8, HEIGHT, WIDTH, 1)).astype(np.float32)
    frames = [frame.image for frame in iter_frames(source)]
    with av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(FPS * SECONDS):
            image = cv2.resize(frames[number * len(frames) // (FPS * SECONDS)], (WIDTH, HEIGHT))
            noisy = np.clip(image + noise[rng.integers(len(noise))], 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noisy, format="rgb24")))
        container.mux(stream.encode())


def sequential(videos: list[Path], frames: int = 16) -> Speed:
    """The plain script."""
    with FaceFinder() as finder:
        started = time.perf_counter()
        for video in videos:
            with av.open(str(video)) as container:
                images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
            for index in uniform_indices(len(images), frames):
                face = finder.find(images[index])
                if face is not None:
                    encode_jpeg(align(images[index], face.landmarks), 92)
        return Speed("sequential", len(videos) / (time.perf_counter() - started), {})


def floor(videos: list[Path], cores: int, options: ClipOptions | None = None) -> Speed:
    """What the parts cost alone, over the cores."""
    options = options or ClipOptions()
    seconds = {"decode": 0.0, "faces": 0.0, "encode": 0.0}

    @contextmanager
    def timed(part: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        seconds[part] += (time.perf_counter() - started) / len(videos)

    row = {"media": "video", "start_frame": None, "end_frame": None}
    with FaceFinder() as finder:
        for video in videos:
            with timed("decode"):
                found = clip_frames(row | {"path": str(video)}, options.sampling)
            with timed("faces"):
                clip = clip_faces(finder, [frame.image for frame in found])
            with timed("encode"):
                for crop in clip.crops:
                    encode_jpeg(crop, options.jpeg_quality)
    return Speed("floor", cores / sum(seconds.values()), {name: round(one, 4) for name, one in seconds.items()})


def mean_speed(measured: Sequence[Speed]) -> Speed:
    """One way measured several times on as many clips: the mean of the times."""
    parts = {name: round(fmean(one.parts[name] for one in measured), 4) for name in measured[0].parts}
    return Speed(measured[0].way, harmonic_mean([one.clips_per_second for one in measured]), parts)


def ours(manifest: Path, clips: int, output: Path) -> tuple[Speed, Memory]:
    """`preprocess` on the current Ray, with the most memory that it and Ray took."""
    with peak_memory() as peak:
        started = time.perf_counter()
        summary = preprocess(manifest, output, overwrite=True)
        elapsed = time.perf_counter() - started
    if summary.failed:
        raise RuntimeError(f"{len(summary.failed)} clips failed, the first: {summary.failed[0].reason}")
    return Speed("ray_fer", clips / elapsed, {}), Memory(clips, round(peak() / 1e6, 1))


def warm_up(manifest: Path, output: Path) -> None:
    """Start the workers of a fresh Ray, which takes seconds once for a cluster and not once for a run."""
    preprocess(manifest, output, overwrite=True)


@dataclass(frozen=True)
class FrameSpeed:
    """AU extraction of every frame of one video."""

    frames: int
    frames_per_second: float
    peak_mb: float


def frame_aus(folder: Path, frames: int) -> FrameSpeed:
    """Action Units of every frame of one long video on the current Ray."""
    video = _long_video(folder / f"long-{frames}.mp4", frames)
    with peak_memory() as peak:
        started = time.perf_counter()
        summary = extract_frame_aus([video], folder / f"aus-{frames}")
        elapsed = time.perf_counter() - started
    if summary.usable != frames:
        raise RuntimeError(f"{summary.usable} of {frames} frames came out")
    return FrameSpeed(frames, frames / elapsed, round(peak() / 1e6, 1))


def _long_video(path: Path, frames: int) -> Path:
    """A face that talks for so many frames: the frames of one 720p clip, to and fro."""
    (source,) = sorted((path.parent).glob("*/videos/00000.mp4"))[:1]
    clip = [frame.image for frame in iter_frames(source)]
    there_and_back = clip + clip[::-1]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"preset": "ultrafast"}
        for number in range(frames):
            image = there_and_back[number % len(there_and_back)]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path
