"""The manifest: one row per clip, in Parquet. Every reader writes it, every pipeline starts from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_fer import storage
from ray_fer.labels import UNKNOWN_CULTURE
from ray_fer.storage import Location

MEDIA = ("video", "frames", "image")

SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("media", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("culture", pa.string(), nullable=False),
        pa.field("subject_id", pa.string()),
        pa.field("split", pa.string()),
        pa.field("fold", pa.int32()),
        pa.field("start_frame", pa.int32()),
        pa.field("end_frame", pa.int32()),
        pa.field("onset", pa.int32()),
        pa.field("apex", pa.int32()),
        pa.field("offset", pa.int32()),
        pa.field("bbox", pa.list_(pa.float32())),
        pa.field("annotations", pa.string()),
    ]
)
"""Column types. `annotations` is JSON; `bbox` is left, top, width, height in pixels; frames count from 0."""


class ManifestError(ValueError):
    """A manifest that cannot be used; the message names the file and the row."""


@dataclass(frozen=True)
class Clip:
    """One row. `label` and `culture` are names (`ray_fer.labels`), `path` is absolute or relative to the manifest's
    folder.

    Media `frames` is a folder of images, or a folder and a pattern of file names where clips share a folder. Folds
    count from 1; the fold of a clip is the one that tests it.
    """

    clip_id: str
    dataset: str
    path: str
    media: str = "video"
    label: str | None = None
    culture: str = UNKNOWN_CULTURE
    subject_id: str | None = None
    split: str | None = None
    fold: int | None = None
    start_frame: int | None = None
    end_frame: int | None = None
    onset: int | None = None
    apex: int | None = None
    offset: int | None = None
    bbox: list[float] | None = None
    annotations: str | None = None


def write_manifest(clips: Iterable[Clip], path: str | Path) -> Path:
    """Write clips as Parquet. Raises ManifestError for a repeated `clip_id` or an unknown `media`."""
    return write_rows([dataclasses.asdict(clip) for clip in clips], path)


def write_rows(rows: list[dict[str, Any]], path: str | Path) -> Path:
    """Write rows as `read_manifest` gives them (absolute paths stay absolute). Raises as `write_manifest` does."""
    path = Path(path)
    _check(rows, str(path))
    if path.is_dir() or any(parent.is_file() for parent in path.parents):
        raise ManifestError(f"{path}: a folder, or below a file; name a file such as manifest.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path, compression="zstd")
    return path


def read_manifest(path: Location) -> list[dict[str, Any]]:
    """Rows of a manifest (a file or URL, or its folder), `path` of each made absolute against the manifest's folder.

    Raises ManifestError when the file is missing, is not Parquet, lacks a column or repeats a `clip_id`, and
    StorageError for a URL that cannot be opened.
    """
    path = storage.absolute(path)
    if storage.is_folder(path):
        path = storage.join(path, "manifest.parquet")
    try:
        table = pq.read_table(pa.BufferReader(storage.read_bytes(path)))
    except FileNotFoundError:
        raise ManifestError(f"{path}: no such manifest; make one with `ray-fer import` or `ray-fer synth`") from None
    except (pa.ArrowException, OSError) as error:
        raise ManifestError(f"{path}: not a Parquet file: {error}") from error
    missing = [name for name in SCHEMA.names if name not in table.column_names]
    if missing:
        raise ManifestError(f"{path}: columns are missing: {', '.join(missing)}")
    rows = _typed(table.select(SCHEMA.names), path).to_pylist()
    _check(rows, path)
    folder = storage.parent(path)
    for row in rows:
        row["path"] = storage.absolute(storage.join(folder, row["path"]))
    return rows


def _typed(table: pa.Table, name: str) -> pa.Table:
    for field in SCHEMA:
        column = table.column(field.name)
        given = column.type
        if pa.types.is_string(field.type) and not (
            pa.types.is_string(given) or pa.types.is_large_string(given) or pa.types.is_null(given)
        ):
            raise ManifestError(f"{name}: column {field.name} holds {given} where names are expected")
        if not field.nullable and column.null_count:
            raise ManifestError(f"{name}: column {field.name} is empty in {column.null_count} rows")
    try:
        return table.cast(SCHEMA)
    except pa.ArrowException as error:
        raise ManifestError(f"{name}: a column has the wrong type: {error}") from error


def _check(rows: list[dict[str, Any]], name: str) -> None:
    seen: set[str] = set()
    for number, row in enumerate(rows):
        if row["clip_id"] in seen:
            raise ManifestError(f"{name}: row {number}: clip_id {row['clip_id']!r} occurs twice")
        if row["media"] not in MEDIA:
            raise ManifestError(f"{name}: row {number}: media {row['media']!r} is not one of {', '.join(MEDIA)}")
        seen.add(row["clip_id"])
