"""The scene stream: everything stays visible, and a masked head is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ray_fer.video.faces import FaceFinder
from ray_fer.video.images import decode_image
from ray_fer.video.scene import MASK_COLOUR, scene_image

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)


@pytest.fixture(scope="module")
def finder() -> Iterator[FaceFinder]:
    with FaceFinder() as one:
        yield one


def test_the_whole_frame_is_averaged_into_the_square() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (448, 896, 3), np.uint8)
    blocks = frame.reshape(224, 2, 224, 4, 3).mean((1, 3))
    scene = scene_image(frame)
    assert scene.dtype == np.uint8
    np.testing.assert_allclose(scene, blocks, atol=1)


def test_edges_stay_where_they_are() -> None:
    frame = np.zeros((216, 384, 3), np.uint8)
    frame[:, :16], frame[:, -16:] = 200, 100
    scene = scene_image(frame, size=96)
    assert scene.shape == (96, 96, 3)
    assert scene[:, 0, 0].tolist() == [200] * 96
    assert scene[:, -1, 0].tolist() == [100] * 96


def test_a_masked_head_is_hidden_and_nothing_else(finder: FaceFinder, media: Path) -> None:
    image = decode_image((media / "single_face.jpg").read_bytes())
    before = image.copy()
    face = finder.find(image)
    assert face is not None
    plain, masked = scene_image(image), scene_image(image, face.landmarks)
    np.testing.assert_array_equal(image, before)
    assert finder.find(plain) is not None
    assert finder.find(masked) is None
    scale = 224 / np.array([image.shape[1], image.shape[0]])
    for x, y in face.landmarks[:, :2] * scale:
        assert tuple(masked[int(y), int(x)]) == MASK_COLOUR
    changed = (plain != masked).any(2)
    assert 0.1 < changed.mean() < 0.5
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert changed.sum() > 0.9 * (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


def test_the_mask_is_nothing_to_clip() -> None:
    np.testing.assert_allclose(np.array(MASK_COLOUR) / 255, CLIP_MEAN, atol=0.5 / 255)


def test_only_the_main_persons_face_is_hidden(finder: FaceFinder, media: Path) -> None:
    image = decode_image((media / "multi_face.jpg").read_bytes())
    first, second = (face.landmarks for face in finder.find_faces(image))
    scene = scene_image(image, first, size=640)
    scale = [image.shape[1] / 640, image.shape[0] / 640]
    seen = [face.landmarks[:, :2].mean(0) * scale for face in finder.find_faces(scene)]
    assert min(np.linalg.norm(place - second[:, :2].mean(0)) for place in seen) < 10
    assert min(np.linalg.norm(place - first[:, :2].mean(0)) for place in seen) > 100


def test_a_face_at_the_edge_and_a_face_that_was_never_seen() -> None:
    frame = np.full((60, 80, 3), 7, np.uint8)
    corner = np.array([[-10.0, -10.0], [30.0, 40.0]])
    assert (scene_image(frame, corner) != 7).any()
    assert (scene_image(frame, np.zeros((478, 3), np.float32)) == 7).all()
