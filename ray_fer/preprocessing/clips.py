"""Manifest -> clip store: Ray Data decodes, samples, finds and aligns faces over shards.

The store is plain Parquet (zstd), readable without Ray or this package: the manifest's columns plus `frames` (T JPEG
crops of 224 px), `landmarks` (T x 478 x 3 floats, flattened), `blendshapes` (T x 52, flattened), `face_found`,
`timestamps` (seconds) and `error`. A clip that could not be used keeps its row, with the reason in `error`.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import ray
import ray.data

from ray_fer.datasets.manifest import SCHEMA, read_manifest
from ray_fer.video.clip_frames import clip_frames
from ray_fer.video.decode import MediaError, encode_jpeg
from ray_fer.video.face_clip import assemble, find_face
from ray_fer.video.faces import BLENDSHAPES, LANDMARKS, FaceFinder


@dataclass(frozen=True)
class PreprocessSummary:
    """What came of a manifest: clips usable, and (clip_id, reason) for the rest."""

    store: Path
    usable: int
    failed: list[tuple[str, str]]


def store_schema(frames: int) -> pa.Schema:
    """Column types of a clip store with `frames` frames per clip."""
    return pa.schema(
        [
            *SCHEMA,
            pa.field("frames", pa.list_(pa.binary())),
            pa.field("landmarks", pa.list_(pa.float32())),
            pa.field("blendshapes", pa.list_(pa.float32())),
            pa.field("face_found", pa.list_(pa.bool_())),
            pa.field("timestamps", pa.list_(pa.float64())),
            pa.field("error", pa.string()),
        ],
        metadata={"frames": str(frames), "landmarks": f"{LANDMARKS}x3", "blendshapes": str(BLENDSHAPES)},
    )


class ClipPreprocessor:
    """Ray Data actor: rows of a manifest in, rows of the clip store out. Holds one FaceFinder."""

    def __init__(self, frames: int, jpeg_quality: int) -> None:
        self._frames = frames
        self._quality = jpeg_quality
        self._finder = FaceFinder()
        self._schema = store_schema(frames)

    def __call__(self, batch: pa.Table) -> pa.Table:
        return pa.Table.from_pylist([self._one(row) for row in batch.to_pylist()], schema=self._schema)

    def __del__(self) -> None:  # Ray Data deletes its callable before it ends the actor
        self._finder.close()

    def _one(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            return row | self._faces(row)
        except MediaError as error:
            return row | {"error": str(error)}
        except Exception as error:  # whatever a decoder makes of a strange file, it costs this clip and no other
            return row | {"error": f"{row['path']}: {type(error).__name__}: {error}"}

    def _faces(self, row: dict[str, Any]) -> dict[str, Any]:
        images, times = sample_frames(row, self._frames)
        box = None if row["bbox"] is None else tuple(row["bbox"])
        found = [find_face(self._finder, image, box) for image in images]
        clip = assemble(found)
        if not clip.found.any():
            raise MediaError(row["path"], f"no face in any of {self._frames} sampled frames")
        return {
            "frames": [encode_jpeg(crop, self._quality) for crop in clip.crops],
            "landmarks": clip.landmarks.ravel(),
            "blendshapes": clip.blendshapes.ravel(),
            "face_found": clip.found.tolist(),
            "timestamps": times,
            "error": None,
        }


def sample_frames(row: dict[str, Any], frames: int) -> tuple[list[np.ndarray], list[float]]:
    """`frames` images uint8 [H,W,3] spread uniformly over a manifest row's clip, and their times in seconds.

    A clip with fewer frames repeats its last. Images have no time and count 0, 1, 2, ... Raises MediaError with the
    file's name and the reason.
    """
    found = clip_frames(row, frames)
    found += [found[-1]] * (frames - len(found))
    times = [f.pts_us / 1e6 for f in found] if row["media"] == "video" else [float(i) for i in range(frames)]
    return [frame.image for frame in found], times


def preprocess(
    manifest: str | Path,
    output: str | Path,
    frames: int = 16,
    workers: int | None = None,
    batch_size: int = 8,
    jpeg_quality: int = 92,
    overwrite: bool = False,
) -> PreprocessSummary:
    """Build the clip store of `manifest` in folder `output` on the current Ray cluster.

    `workers` actors share the work (default: one per CPU of the cluster). Broken clips are counted and named in the
    summary, never dropped. Raises FileExistsError when `output` exists and `overwrite` is not set.
    """
    output = Path(output).resolve()
    rows = read_manifest(manifest)
    if not rows:
        raise ValueError(f"{manifest}: the manifest is empty")
    if output.exists():
        if not overwrite:
            raise FileExistsError(f"{output} exists; choose another folder or pass --overwrite")
        if not output.is_dir() or any(file.suffix != ".parquet" for file in output.iterdir()):
            raise FileExistsError(f"{output} is no clip store, so it is not replaced; choose another folder")
        shutil.rmtree(output)
    cpus = ray.cluster_resources().get("CPU", 1.0)
    actors = max(1, min(workers or int(cpus), -(-len(rows) // batch_size)))
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    blocks = [table.slice(start, batch_size) for start in range(0, len(rows), batch_size)]
    ray.data.from_arrow(blocks).map_batches(
        ClipPreprocessor,
        fn_constructor_args=(frames, jpeg_quality),
        compute=ray.data.ActorPoolStrategy(size=actors),
        batch_format="pyarrow",
        batch_size=batch_size,
        # One CPU of the cluster stays free for the tasks that write: actors that held all would wait for them forever.
        num_cpus=min(1.0, max(0.1, round((cpus - 1) / actors, 2))),
        zero_copy_batch=True,
    ).write_parquet(str(output), compression="zstd", ray_remote_args={"num_cpus": 0.25})
    return summarise(output)


def summarise(store: str | Path) -> PreprocessSummary:
    """Count usable and failed clips of a store."""
    table = pads.dataset(str(store), format="parquet").to_table(columns=["clip_id", "error"])
    failed = [(row["clip_id"], row["error"]) for row in table.to_pylist() if row["error"] is not None]
    return PreprocessSummary(Path(store), table.num_rows - len(failed), failed)


def read_store(store: str | Path, columns: list[str], split: str | None = None) -> pa.Table:
    """Usable rows of a clip store (all splits, or one). Raises FileNotFoundError or ValueError with advice."""
    if not Path(store).is_dir():
        raise FileNotFoundError(f"{store}: no such clip store; make one with `ray-fer preprocess`")
    dataset = pads.dataset(str(store), format="parquet")
    missing = [name for name in [*columns, "error"] if name not in dataset.schema.names]
    if missing:
        raise ValueError(f"{store} is not a clip store: columns are missing: {', '.join(missing)}")
    wanted = pads.field("error").is_null()
    if split is not None:
        wanted &= pads.field("split") == split
    return dataset.to_table(columns=columns, filter=wanted)
