"""Manifest -> clip store: decode, sample, find and align faces, over shards.

One task does all of a clip. Decoding apart from the face stage would move its frames between processes: 16 frames of
720p are 44 MB, 200 times what is kept of them.

Columns of the store, beside the manifest's: `frames` (T JPEG crops of 224 px), `landmarks` (T x 478 x 3 floats,
flattened), `blendshapes` (T x 52, flattened), `face_found`, `timestamps` (seconds) and `frame_index` (position in the
file or folder), and where asked for `scene`
(T JPEGs of 224 px of the whole frame), `flow` (3 x 224 x 224 float16, u, v and strain from onset to apex, as bytes)
and `apex_frame` (a JPEG crop).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import ray
from pydantic import BaseModel, ConfigDict, Field

from ray_fer import storage
from ray_fer.datasets.manifest import SCHEMA, read_manifest
from ray_fer.preprocessing.fetch import local_media
from ray_fer.preprocessing.journal import Processor
from ray_fer.preprocessing.motion import motion_columns
from ray_fer.preprocessing.runner import Progress, Session, one_by_one
from ray_fer.preprocessing.shards import Failure, Row, default_shard_rows, media_stamps, path_stamps, plan_shards
from ray_fer.preprocessing.store import Description, Summary, build_store, open_dataset, read_description
from ray_fer.storage import Location
from ray_fer.video.clip_frames import clip_frames
from ray_fer.video.decode import Frame
from ray_fer.video.face_clip import clip_faces
from ray_fer.video.faces import BLENDSHAPES, LANDMARKS, FaceFinder
from ray_fer.video.images import encode_jpeg
from ray_fer.video.limits import MediaError
from ray_fer.video.sampling import Sampling
from ray_fer.video.scene import scene_image
from ray_fer.video.yolo_face import YoloFaceFinder


class ClipOptions(BaseModel):
    """What is made of each clip. Kept in the store, so that two runs can be told apart."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sampling: Sampling = Sampling()
    jpeg_quality: int = Field(92, ge=1, le=100)
    scene: Literal["none", "whole", "masked"] = "none"
    flow: Literal["none", "tvl1", "farneback", "dis"] = "none"
    yolo_weights: str | None = None
    """ONNX file of a YOLOv8 face model that finds the faces; MediaPipe finds them when None."""


def store_schema(options: ClipOptions) -> pa.Schema:
    """Column types of a clip store."""
    fields = [
        *SCHEMA,
        pa.field("frames", pa.list_(pa.binary())),
        pa.field("landmarks", pa.list_(pa.float32())),
        pa.field("blendshapes", pa.list_(pa.float32())),
        pa.field("face_found", pa.list_(pa.bool_())),
        pa.field("timestamps", pa.list_(pa.float64())),
        pa.field("frame_index", pa.list_(pa.int32())),
    ]
    if options.scene != "none":
        fields.append(pa.field("scene", pa.list_(pa.binary())))
    if options.flow != "none":
        fields += [pa.field("flow", pa.binary()), pa.field("apex_frame", pa.binary())]
    shapes = {"frames": str(options.sampling.frames), "landmarks": f"{LANDMARKS}x3", "blendshapes": str(BLENDSHAPES)}
    return pa.schema(fields, metadata=shapes)


@dataclass(frozen=True)
class ClipWork:
    """Work of a shard of manifest rows."""

    options: ClipOptions

    @contextmanager
    def open(self) -> Iterator[Processor]:
        """Load the face model."""
        with FaceFinder() as finder:
            yield ClipProcessor(self.options, finder)


class ClipProcessor:
    """Rows of a manifest in, rows of the clip store out."""

    def __init__(self, options: ClipOptions, finder: FaceFinder) -> None:
        self.schema = store_schema(options)
        self._options = options
        self._finder = finder
        self._yolo = None if options.yolo_weights is None else YoloFaceFinder(Path(options.yolo_weights))

    def __call__(self, rows: Iterable[Row]) -> Iterator[Row | Failure]:
        return one_by_one(rows, self._one)

    def _one(self, row: Row) -> Row:
        with local_media(row) as here:
            return row | self._columns(here)

    def _columns(self, row: Row) -> Row:
        options = self._options
        frames = clip_frames(row, options.sampling)
        box = None if row["bbox"] is None else tuple(row["bbox"])
        images = [frame.image for frame in frames]
        clip = clip_faces(self._finder, images, box, self._yolo)
        if not clip.found.any():
            raise MediaError(row["path"], f"no face in any of {len(frames)} sampled frames")
        columns: Row = {
            "frames": self._jpegs(clip.crops),
            "landmarks": clip.landmarks.ravel(),
            "blendshapes": clip.blendshapes.ravel(),
            "face_found": clip.found.tolist(),
            "timestamps": timestamps(frames, row["media"]),
            "frame_index": [frame.index for frame in frames],
        }
        if options.scene != "none":
            masked = [landmarks if options.scene == "masked" else None for landmarks in clip.landmarks]
            columns["scene"] = self._jpegs(map(scene_image, images, masked))
        if options.flow != "none":
            columns |= motion_columns(row, self._finder, options.flow, options.jpeg_quality)
        return columns

    def _jpegs(self, images: Iterable[np.ndarray]) -> list[bytes]:
        return [encode_jpeg(image, self._options.jpeg_quality) for image in images]


def timestamps(frames: Sequence[Frame], media: str) -> list[float]:
    """Seconds of each frame of a video; images have no time and count 0, 1, 2, ..."""
    return [frame.pts_us / 1e6 for frame in frames] if media == "video" else [float(i) for i in range(len(frames))]


def preprocess(
    manifest: Location,
    output: Location,
    options: ClipOptions | None = None,
    shard_rows: int | None = None,
    resume: bool = False,
    retry_failed: bool = False,
    overwrite: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
    session: Session = nullcontext,
) -> Summary:
    """Build the clip store of `manifest` in folder or URL `output` on the Ray that `session` gives: the current one.

    Every CPU of the cluster works on its own shards of `shard_rows` clips (see `default_shard_rows`). Clips that
    cannot be used are in the summary and in `failures.parquet`. A store that is there and complete costs no work, an
    unfinished one is finished with `resume`, with `retry_failed` failures are tried again too. Raises FileExistsError
    when `output` holds anything else and `overwrite` is not set, and ValueError for an empty manifest.
    """
    options = options or ClipOptions()
    rows = read_manifest(manifest)
    if not rows:
        raise ValueError(f"{manifest}: the manifest is empty")
    before = None if overwrite else read_description(output)
    before = before if before is not None and before.kind == "clips" else None
    work = ClipWork(options)
    made_from = options.model_dump_json() + path_stamps({"yolo_weights": options.yolo_weights})
    with ExitStack() as stack:
        if shard_rows is None and before is None:  # how large shards should be depends on the cluster
            stack.enter_context(session())
            session = nullcontext
            shard_rows = default_shard_rows(len(rows), ray.cluster_resources().get("CPU", 1.0))
        elif shard_rows is None and before is not None:
            shard_rows = before.shard_rows
        assert shard_rows is not None
        shards = plan_shards(rows, shard_rows, made_from, media_stamps(rows))
        source = storage.absolute(manifest)
        description = Description("clips", shard_rows, len(shards), source, options.model_dump(mode="json"))
        return build_store(
            output, description, shards, work, resume=resume, overwrite=overwrite,
            retry_failed=retry_failed, progress=progress, session=session,
        )  # fmt: skip


def read_store(store: Location, columns: list[str], split: str | None = None) -> pa.Table:
    """Clips of a store (all splits, or one). Raises FileNotFoundError or ValueError with advice."""
    dataset = open_dataset(store, "clips", "ray-fer preprocess")
    missing = [name for name in columns if name not in dataset.schema.names]
    if missing:
        raise ValueError(f"{store} has no columns {', '.join(missing)}; make it again with the options that add them")
    return dataset.to_table(columns=columns, filter=None if split is None else pads.field("split") == split)
