"""Render clips to MP4 in parallel processes, with their manifest and their truth."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import cv2
import numpy as np
import torch

from ray_fer.datasets.manifest import Clip, write_manifest
from ray_fer.datasets.synthfer.conditions import make_take
from ray_fer.datasets.synthfer.identities import Identity, build_identity
from ray_fer.datasets.synthfer.photos import Photo, load_photos, remember_photos
from ray_fer.datasets.synthfer.plan import SynthOptions
from ray_fer.datasets.synthfer.renderer import render
from ray_fer.datasets.synthfer.specs import ClipSpec
from ray_fer.datasets.synthfer.truth import manifest_row, write_truth

_CHUNK = 16
_FRAMES = 8  # rendered at once: enough to keep torch busy, few enough to stay in the cache


def generate(
    specs: Sequence[ClipSpec],
    root: str | Path,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    options: SynthOptions | None = None,
    overwrite: bool = False,
) -> Path:
    """Render all specs below `root` and return the manifest's path.

    Writes ``videos/<clip_id>.mp4``, ``manifest.parquet``, ``truth.json`` and ``truth/aus.parquet``. `workers`
    processes share the work (one per CPU when None); `progress` is told (clips done, clips in all); `options` are
    those of the plan and are only recorded. Raises FileExistsError when `root` holds a manifest, unless it is an
    earlier SynthFER and `overwrite` is set, and ValueError when two specs have one clip_id. The processes are spawned:
    a script that calls this needs the usual ``if __name__ == "__main__":``, or it hangs.
    """
    root = Path(root)
    if len({spec.clip_id for spec in specs}) != len(specs):
        raise ValueError("two clips have the same clip_id; plan them together")
    _make_room(root, overwrite)
    (root / "videos").mkdir(parents=True, exist_ok=True)
    write_truth(specs, root, options)
    photos = load_photos([name for spec in specs for name in spec.subject.photos])
    workers = workers or multiprocessing.cpu_count()
    # A subject takes as long to make as thirty frames take to render: keep the clips of each together.
    by_face = sorted(specs, key=lambda spec: spec.subject.subject_id)
    size = min(_CHUNK, -(-len(by_face) // workers))
    chunks = [by_face[start : start + size] for start in range(0, len(by_face), size)]
    context = multiprocessing.get_context("spawn")
    rows: dict[str, Clip] = {}
    with ProcessPoolExecutor(min(workers, len(chunks)), context, _start_worker, (photos,)) as pool:
        try:
            for future in as_completed([pool.submit(_write_chunk, chunk, root / "videos") for chunk in chunks]):
                rows |= {row.clip_id: row for row in future.result()}
                if progress is not None:
                    progress(len(rows), len(specs))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # or the error would come after all other clips were rendered
            raise
    return write_manifest([rows[spec.clip_id] for spec in specs], root / "manifest.parquet")


def _make_room(root: Path, overwrite: bool) -> None:
    if not (root / "manifest.parquet").exists() and not (root / "truth.json").exists():
        return
    if not overwrite:
        raise FileExistsError(f"{root} holds a dataset; choose another folder or pass --overwrite")
    if not (root / "truth.json").exists():
        raise FileExistsError(
            f"{root} holds a dataset that is no SynthFER, so it is not replaced; choose another folder"
        )
    for file in (root / "manifest.parquet", root / "truth.json", *(root / "videos").glob("synth*.mp4")):
        file.unlink(missing_ok=True)


def write_clip(spec: ClipSpec, identity: Identity, path: Path) -> Clip:
    """Render one clip into an MP4 file (H.264) and return its manifest row."""
    take = make_take(spec, identity)
    with _Writer(path, spec.fps, spec.size, take.crf) as writer:
        for start in range(0, spec.frames, _FRAMES):
            index = np.arange(start, min(start + _FRAMES, spec.frames))[None]
            for image in render([take], index)[0].permute(0, 2, 3, 1).numpy():
                writer.write(image)
    return manifest_row(spec, take.overlay is not None, take.crf)


def _start_worker(photos: Mapping[str, Photo]) -> None:
    # A pool's workers outlive a parent that is killed, waiting for work for ever.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    remember_photos(photos)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _write_chunk(specs: Sequence[ClipSpec], folder: Path) -> list[Clip]:
    rows, identity = [], None
    for spec in specs:
        if identity is None or identity.subject != spec.subject:
            identity = build_identity(spec.subject, load_photos(spec.subject.photos), bool(spec.polarity))
        rows.append(write_clip(spec, identity, folder / f"{spec.clip_id}.mp4"))
    return rows


class _Writer:
    """H.264 in MP4, constant frame rate, one thread so that the same frames give the same bytes."""

    def __init__(self, path: Path, fps: int, size: tuple[int, int], crf: int) -> None:
        self._container = av.open(str(path), "w")
        self._stream = self._container.add_stream("libx264", rate=Fraction(fps))
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = {"crf": str(crf), "preset": "ultrafast", "threads": "1"}

    def __enter__(self) -> _Writer:
        return self

    def write(self, image: np.ndarray) -> None:
        self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.mux(self._stream.encode())
        self._container.close()
