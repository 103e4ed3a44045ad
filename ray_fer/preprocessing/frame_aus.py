"""Whole videos -> one row per frame with its Action Units, in pieces over the cluster.

A video is cut into chunks of some hundred frames, each of them a shard: memory and time per frame do not depend on how
long the video is, and its chunks are worked on by all CPUs or machines at once. Columns: `video, frame, timestamp`
(seconds), `face_found`, one column per AU and `extractor`.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ray_fer import storage
from ray_fer.action_units.extractor import ActionUnitExtractor, create_extractor
from ray_fer.labels import AU_NAMES
from ray_fer.preprocessing.aus import pool_for
from ray_fer.preprocessing.journal import Processor
from ray_fer.preprocessing.runner import Progress, Session, failure_of
from ray_fer.preprocessing.shards import Failure, Row, Shard, path_stamps
from ray_fer.preprocessing.store import Description, Summary, build_store
from ray_fer.storage import Location
from ray_fer.video.decode import Frame, count_frames, iter_frames
from ray_fer.video.face_clip import FaceFrame, assemble, find_face
from ray_fer.video.faces import FaceTracker
from ray_fer.video.frame_folder import VIDEO_SUFFIXES
from ray_fer.video.images import encode_jpeg
from ray_fer.video.limits import DEFAULT_LIMITS, MediaError

CHUNK = 300
_WARM_UP = 15  # frames before a chunk that the face tracker sees, so that its smoothing is as in one long run
_BATCH = 32  # frames whose crops are held at once
_MAX_BYTES = DEFAULT_LIMITS.max_bytes

SCHEMA = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("frame", pa.int32(), nullable=False),
        pa.field("timestamp", pa.float64(), nullable=False),
        pa.field("face_found", pa.bool_(), nullable=False),
        *(pa.field(name, pa.float32()) for name in AU_NAMES),
        pa.field("extractor", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class FrameWork:
    """Work of a chunk of a video."""

    extractor: str
    options: dict[str, Any]

    @contextmanager
    def open(self) -> Iterator[Processor]:
        """Load the face model and the extractor's."""
        with ExitStack() as stack:
            tracker = stack.enter_context(FaceTracker())
            extractor = create_extractor(self.extractor, **self.options)
            stack.callback(extractor.close)
            yield FrameProcessor(tracker, extractor)


class FrameProcessor:
    """Rows that name chunks in, rows of frames out."""

    schema = SCHEMA

    def __init__(self, tracker: FaceTracker, extractor: ActionUnitExtractor) -> None:
        self._tracker = tracker
        self._extractor = extractor

    def __call__(self, rows: Iterable[Row]) -> Iterator[Row | Failure]:
        for row in rows:
            try:
                with storage.local_copy(row["path"], _MAX_BYTES) as path:
                    found = list(self._chunk(row, path))
            except Exception as error:  # it costs this piece and no other
                yield failure_of(row, error)
            else:
                yield from found

    def _chunk(self, row: Row, path: Path) -> Iterator[Row]:
        self._tracker.reset()
        start, end = row["start_frame"], row["end_frame"]
        frames = iter_frames(path, wanted=range(max(0, start - _WARM_UP), end))
        for batch in _batches(frames, _BATCH):
            found = [find_face(self._tracker, frame.image) for frame in batch]
            kept = [(frame, face) for frame, face in zip(batch, found, strict=True) if frame.index >= start]
            if kept:
                yield from self._rows(row, *zip(*kept, strict=True))

    def _rows(self, row: Row, frames: Sequence[Frame], faces: Sequence[FaceFrame | None]) -> Iterator[Row]:
        clip = assemble(list(faces))
        known = row | {
            "landmarks": clip.landmarks.ravel(), "blendshapes": clip.blendshapes.ravel(),
            "timestamps": [frame.pts_us / 1e6 for frame in frames], "face_found": clip.found.tolist(),
            "frame_index": [frame.index for frame in frames],
        }  # fmt: skip
        if "frames" in self._extractor.columns:
            known["frames"] = [encode_jpeg(crop) for crop in clip.crops]
        au = self._extractor.extract([known])[0]
        for frame, seen, values in zip(frames, clip.found.tolist(), au, strict=True):
            yield {
                "video": row["video"], "frame": frame.index, "timestamp": frame.pts_us / 1e6, "face_found": seen,
                **{name: float(value) if seen and not np.isnan(value) else None
                   for name, value in zip(AU_NAMES, values, strict=True)},
                "extractor": self._extractor.name,
            }  # fmt: skip


def extract_frame_aus(
    videos: Sequence[Location],
    output: Location,
    extractor: str = "blendshape",
    options: dict[str, Any] | None = None,
    resume: bool = False,
    retry_failed: bool = False,
    overwrite: bool = False,
    chunk: int = CHUNK,
    progress: Callable[[Progress], None] = lambda _: None,
    session: Session = nullcontext,
) -> Summary:
    """Write the AUs of every frame of `videos` to folder or URL `output` on the Ray that `session` gives.

    The summary counts frames that are usable and chunks that failed. Raises as `ray_fer.preprocessing.aus.extract_aus`.
    """
    options = options or {}
    work = FrameWork(extractor, options)
    made_from = (extractor, sorted(options.items()), path_stamps(options))
    shards = [
        Shard(number, [row], hashlib.sha256(repr((row, made_from, stamp)).encode()).hexdigest())
        for number, (row, stamp) in enumerate(_chunks([storage.absolute(one) for one in videos], chunk))
    ]
    source = " ".join(sorted(map(storage.absolute, videos)))
    description = Description("frames", chunk, len(shards), source, {"extractor": extractor, **options})
    return build_store(
        output, description, shards, work, partial(pool_for, extractor), resume, overwrite, retry_failed,
        progress, session,
    )  # fmt: skip


def find_videos(locations: Sequence[Location]) -> list[str]:
    """Videos among files and folders, sorted within a folder. Raises FileNotFoundError where there is none."""
    found = []
    for location in locations:
        if not storage.is_folder(location):
            if storage.size_of(location) is None:
                raise FileNotFoundError(f"{location}: no such clip store, video or folder of videos")
            found.append(str(location))
            continue
        names = [name for name in storage.list_files(location) if Path(name).suffix.lower() in VIDEO_SUFFIXES]
        if not names:
            raise FileNotFoundError(f"{location}: no video ({' '.join(VIDEO_SUFFIXES)}) in this folder")
        found += [storage.join(location, name) for name in names]
    return found


def _chunks(videos: Sequence[str], chunk: int) -> Iterator[tuple[Row, str]]:
    stamps = storage.stamps(videos)
    for video in videos:
        name = Path(storage.resolve(video)[1]).name
        try:
            with storage.local_copy(video, _MAX_BYTES) as path:
                count = count_frames(path)
        except (MediaError, FileNotFoundError, storage.StorageError):
            count = 1  # one chunk, which fails with the reason
        for start in range(0, count, chunk):
            end = min(start + chunk, count)
            row = {
                "clip_id": f"{name}:{start}", "video": name, "path": video, "media": "video", "start_frame": start,
                "end_frame": end,
            }  # fmt: skip
            yield row, stamps[video]


def _batches(frames: Iterator[Frame], size: int) -> Iterator[list[Frame]]:
    while batch := list(itertools.islice(frames, size)):
        yield batch
