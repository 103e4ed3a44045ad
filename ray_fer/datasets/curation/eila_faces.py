"""From EiLA's video frames to 48 x 48 grey faces (EiLA paper, section 3.1).

The annotated box is cut from the frame, the face is isolated within it, and the face is resized to 48 x 48 grey pixels
so that it can be mixed with FER2013 and SFEW; frames without a face are discarded. The paper isolates with YOLOv8; the
default here is MediaPipe, which needs no download, and `YoloFaceFinder` takes an exported YOLOv8 model. The face's box
is widened to a square before it is resized: squeezing it would distort faces that FER2013 shows undistorted.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import cv2
import numpy as np

from ray_fer.datasets.curation.advance import Advance, silent
from ray_fer.video.boxes import Box, crop_box, face_box
from ray_fer.video.clip_frames import read_image
from ray_fer.video.decode import iter_frames
from ray_fer.video.faces import FaceFinder
from ray_fer.video.limits import MediaError

SIZE = 48
YOLO_CONFIDENCE = 0.6
"""The authors' code discards faces that YOLOv8 is less sure of."""
FOLDER = "faces"
FACE_FILES = "[0-9][0-9][0-9][0-9][0-9][0-9]-*.png"
"""Names of the files in it."""

NO_FACE = "faces: no face in the annotated box"
UNREADABLE = "faces: the frame cannot be read"
NO_FRAME = "faces: the row names no single frame"

Row = dict[str, Any]


class FaceIsolator(Protocol):
    """Finds the face within an annotated box."""

    def find_box(self, image: np.ndarray) -> Box | None:
        """Box of the largest face in `image` uint8 [H,W,3] RGB, in its pixels, or None."""
        ...


class MediaPipeIsolator:
    """Isolates with MediaPipe's face landmarks. A context manager, as FaceFinder is."""

    def __init__(self) -> None:
        self._finder = FaceFinder()

    def find_box(self, image: np.ndarray) -> Box | None:
        """Box around the landmarks of the largest face in `image`, or None."""
        face = self._finder.find(image)
        return None if face is None else face_box(face.landmarks)

    def __enter__(self) -> MediaPipeIsolator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finder.close()


@dataclass(frozen=True)
class IsolatedFaces:
    """Rows of the new manifest (media `image`), and (clip_id, reason, detail) of those that were dropped."""

    rows: list[Row]
    dropped: list[tuple[str, str, str]]


def isolate_faces(
    rows: Sequence[Row], output: Path, isolator: FaceIsolator, size: int = SIZE, advance: Advance = silent
) -> IsolatedFaces:
    """Write one grey PNG of `size` pixels per row below ``output/faces``.

    A row is one frame: a video with `start_frame`, or an image; `bbox` (left, top, width, height in pixels) is cut out
    first, the whole frame without one. Each video is decoded once, in order. Rows keep their order and their `clip_id`.
    """
    folder = output / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, Row] = {}
    dropped: list[tuple[str, str, str]] = []
    for done, (row, image, problem) in enumerate(_frames(rows), start=1):
        where = f"{row['path']} frame {row['start_frame'] or 0}"
        face = None if image is None else _isolate(image, row["bbox"], isolator, size)
        if face is None:
            reason, detail = problem or (NO_FACE, where)
            dropped.append((row["clip_id"], reason, detail))
        else:
            path = folder / f"{done:06d}-{re.sub(r'[^A-Za-z0-9_.-]', '_', row['clip_id'])[-80:]}.png"
            path.write_bytes(cv2.imencode(".png", face)[1].tobytes())
            frame = {"path": str(path), "media": "image", "start_frame": None, "end_frame": None, "bbox": None}
            made[row["clip_id"]] = row | frame
        advance("isolating faces", done, len(rows))
    return IsolatedFaces([made[row["clip_id"]] for row in rows if row["clip_id"] in made], dropped)


def _frames(rows: Sequence[Row]) -> Iterator[tuple[Row, np.ndarray | None, tuple[str, str] | None]]:
    """Each row once, with its frame or with (reason, detail)."""
    videos: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["media"] == "video" and row["start_frame"] is not None:
            videos[row["path"]].append(row)
        elif row["media"] == "image":
            try:
                yield row, read_image(Path(row["path"])), None
            except MediaError as error:
                yield row, None, (UNREADABLE, str(error))
        else:
            yield row, None, (NO_FRAME, f"media {row['media']}, start_frame {row['start_frame']}")
    for path, wanted in videos.items():
        yield from _video_frames(path, wanted)


def _video_frames(path: str, rows: list[Row]) -> Iterator[tuple[Row, np.ndarray | None, tuple[str, str] | None]]:
    waiting: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        waiting[row["start_frame"]].append(row)
    problem = "the video ends before this frame"
    try:
        for frame in iter_frames(path, wanted=sorted(waiting)):
            for row in waiting.pop(frame.index):
                yield row, frame.image, None
    except MediaError as error:
        problem = error.reason
    for number, left in sorted(waiting.items()):
        for row in left:
            yield row, None, (UNREADABLE, f"{path} frame {number}: {problem}")


def _isolate(image: np.ndarray, bbox: list[float] | None, isolator: FaceIsolator, size: int) -> np.ndarray | None:
    """uint8 [size,size] grey, or None when the box lies outside the frame or shows no face."""
    if bbox is not None:
        left, top, width, height = bbox
        image, _ = crop_box(image, (left, top, width, height))
    box = isolator.find_box(image) if image.size else None
    if box is None:
        return None
    left, top, width, height = box
    side = round(max(width, height))
    pad = side  # a face at the edge of the box: what lies outside is filled with the nearest pixels
    padded = cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    square = (left + (width - side) / 2 + pad, top + (height - side) / 2 + pad, float(side), float(side))
    face, _ = crop_box(padded, square)
    if min(face.shape[:2]) < 1:
        return None
    return cv2.cvtColor(cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
