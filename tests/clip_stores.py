"""Clip stores for tests of training and evaluation, written without any video: colours tell the label."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_fer import storage
from ray_fer.labels import EXPRESSIONS
from ray_fer.preprocessing.clips import ClipOptions, store_schema
from ray_fer.preprocessing.shards import Shard, shard_bytes, shard_name
from ray_fer.preprocessing.store import FAILURES
from ray_fer.preprocessing.store_index import read_index
from ray_fer.video.faces import LANDMARKS
from ray_fer.video.images import encode_jpeg
from ray_fer.video.sampling import Sampling

SIDE = 32


def colour_store(
    folder: Path,
    clips: dict[str, int],
    frames: int = 4,
    classes: Sequence[str] = EXPRESSIONS,
    cultures: Sequence[str] = ("A", "B"),
    subjects: int = 6,
    shard_rows: int = 10,
    noise: float = 60.0,
    folds: int | None = None,
    seed: int = 0,
    dataset: str = "colours",
    scene: bool = False,
    flow: bool = False,
    culture_of_subject: bool = False,
    prefix: str = "",
    face: np.ndarray | None = None,
) -> Path:
    """A store of `clips` per split; a clip's frames have its label's colour under `noise` (grey levels).

    With `scene` it keeps whole frames, too, which have the same colour under a third of the noise; with `flow` a stripe
    that moves, one for each label, and an apex frame with its culture's colour. A culture has two clips in a row, and
    with `culture_of_subject` every other subject. `face` [478,3] are the landmarks of all frames; zeros when None.
    """
    rng = np.random.default_rng(seed)
    colours = np.random.default_rng(99).uniform(60, 195, (len(classes), 3))
    options = ClipOptions(
        sampling=Sampling(frames=frames), scene="whole" if scene else "none", flow="tvl1" if flow else "none"
    )
    schema = store_schema(options)
    landmarks = ([0.0] * (LANDMARKS * 3) if face is None else face.ravel().tolist()) * frames
    rows = []
    for split, count in clips.items():
        for number in range(count):
            label, subject = number % len(classes), number // len(classes) % subjects
            culture = (subject if culture_of_subject else number // 2) % len(cultures)
            images = rng.normal(colours[label], noise, (frames, SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
            empty = {field.name: None for field in schema}
            if scene:
                whole = rng.normal(colours[label], noise / 3, (frames, SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
                empty["scene"] = [encode_jpeg(image) for image in whole]
            if flow:
                motion = rng.normal(0, 0.1, (3, 224, 224)).astype(np.float16)
                wide = 224 // len(classes)
                motion[:, :, label * wide : (label + 1) * wide] += 1
                empty |= {"flow": motion.tobytes(), "onset": 0, "apex": frames}
                apex = rng.normal(90 + 70 * culture, noise, (SIDE, SIDE, 3))
                empty["apex_frame"] = encode_jpeg(apex.clip(0, 255).astype(np.uint8))
            rows.append(
                empty | {
                    "clip_id": f"{prefix}{split}-{number:04d}", "dataset": dataset, "path": f"{split}-{number:04d}.mp4",
                    "media": "video", "label": classes[label], "culture": cultures[culture],
                    "subject_id": f"{split}-{subject}", "split": split,
                    "fold": None if folds is None else 1 + subject % folds,
                    "frames": [encode_jpeg(image) for image in images], "landmarks": landmarks,
                    "blendshapes": [0.0] * (frames * 52), "face_found": [True] * frames,
                    "timestamps": [float(i) for i in range(frames)], "frame_index": list(range(frames)),
                }
            )  # fmt: skip
    (folder / "clips").mkdir(parents=True)
    starts = range(0, len(rows), shard_rows)
    for number, start in enumerate(starts):
        shard = Shard(number, [], repr((clips, frames, classes, cultures, seed, noise, scene)))
        table = pa.Table.from_pylist(rows[start : start + shard_rows], schema=schema)
        (folder / "clips" / shard.file_name).write_bytes(shard_bytes(table, shard, []))
    about = {
        "kind": "clips", "shard_rows": shard_rows, "shards": len(starts), "source": "colours",
        "options": options.model_dump(mode="json"),
    }  # fmt: skip
    (folder / "store.json").write_text(json.dumps(about))
    storage.write_bytes(folder / FAILURES, b"")
    return folder


def joined_store(parts: Sequence[Path]) -> Path:
    """The first of some stores, with the shards of the others added to it."""
    first, *others = parts
    for other in others:
        for shard in sorted((other / "clips").iterdir()):
            number = len(list((first / "clips").iterdir()))
            shutil.copy(shard, first / "clips" / shard_name(number))
    return first


def still_store(folder: Path, cultures: Sequence[str] = ("Black", "White"), **sizes: dict[str, int]) -> Path:
    """Stills of several datasets in one store; `sizes` are the clips by split of each, by its name."""
    return joined_store([
        colour_store(
            folder / name, clips, frames=1, dataset=name, prefix=f"{name}-", cultures=cultures, shard_rows=70
        )
        for name, clips in sizes.items()
    ])  # fmt: skip


def au_table(folder: Path, store: Path, value: Callable[[dict[str, Any]], float]) -> str:
    """An AU table of a store: all AUs of a clip have the value that `value` says of its row in the index."""
    index = read_index(store)
    levels = [value(row) for row in index.table.to_pylist()]
    table = pa.table({
        "clip_id": index.column("clip_id"), "extractor": ["test"] * len(index), "active": [0.5] * len(index),
        "au_stats": pa.array([[level] * 80 for level in levels], pa.list_(pa.float32())),
    })  # fmt: skip
    (folder / "aus").mkdir(parents=True)
    pq.write_table(table, folder / "aus" / "part-00000.parquet")
    about = {"kind": "aus", "shard_rows": 0, "shards": 1, "source": str(store), "options": {}}
    (folder / "store.json").write_text(json.dumps(about))
    (folder / FAILURES).touch()
    return str(folder)
