"""Pictures: planted AUs are really in them, faces are found, conditions do what they say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from ray_fer.action_units.blendshapes import aus_from_blendshapes
from ray_fer.datasets.synthfer import ClipSpec, SynthOptions, iter_batches, plan
from ray_fer.datasets.synthfer.check import CheckReport, check, plant
from ray_fer.datasets.synthfer.conditions import OCCLUDERS, make_take
from ray_fer.datasets.synthfer.identities import Identity, build_identity, make_subjects, plain_subject
from ray_fer.datasets.synthfer.photos import PACKAGED, load_photos, packaged_splits
from ray_fer.datasets.synthfer.preview import contact_sheet
from ray_fer.datasets.synthfer.renderer import render
from ray_fer.datasets.synthfer.scene import draw_scene
from ray_fer.datasets.synthfer.specs import POLARITIES, SCENE_SIZE
from ray_fer.datasets.synthfer.trajectory import trajectory
from ray_fer.labels import AU_NAMES, EXPRESSIONS, SYNTHETIC_CULTURES
from ray_fer.video.faces import Face, FaceFinder


@pytest.fixture(scope="module")
def finder() -> Iterator[FaceFinder]:
    with FaceFinder(max_faces=1) as one:
        yield one


@pytest.fixture(scope="module")
def door() -> Identity:
    """One photograph as it is."""
    return build_identity(plain_subject("man_door", "train"), load_photos(["man_door"]))


@pytest.fixture(scope="module")
def report() -> CheckReport:
    return check(SynthOptions(), frames=80)


def images(batch: torch.Tensor) -> np.ndarray:
    """[1,T,3,H,W] -> [T,H,W,3] as everything else in the project has pictures."""
    return batch[0].permute(0, 2, 3, 1).contiguous().numpy()


def found(finder: FaceFinder, image: np.ndarray) -> Face:
    face = finder.find(image)
    assert face is not None
    return face


def test_photographs_lose_their_expression(finder: FaceFinder) -> None:
    """Half of the photographs smile with bare teeth; what is left of it is recorded and small."""
    photos = load_photos(list(PACKAGED))
    for photo in photos.values():
        readings = aus_from_blendshapes(found(finder, photo.canvas).blendshapes)
        np.testing.assert_allclose(readings, photo.readings, atol=0.02)
    for name in ("woman_blue_2", "man_hill", "woman_astronaut", "woman_group_1"):  # AU12 above 0.8 before
        assert photos[name].readings[AU_NAMES.index("AU12")] < 0.35
    residuals = [photo.residual for photo in photos.values()]
    assert np.median(residuals) < 0.25
    assert not photos["man_blue"].blendable  # looks aside


def test_subjects_of_one_photograph_look_different_and_have_faces(finder: FaceFinder) -> None:
    for split, names in packaged_splits().items():
        photos = load_photos(names)
        subjects = make_subjects(split, 12, photos, seed=2)
        faces = [build_identity(subject, photos) for subject in subjects[:8]]
        for face in faces:
            canvas = np.clip(face.canvas[:3].transpose(1, 2, 0), 0, 255).astype(np.uint8)
            np.testing.assert_allclose(found(finder, canvas).landmarks[152, :2], face.landmarks[152, :2], atol=9)
        assert faces[0].subject.photos == faces[3].subject.photos
        shapes = [face.landmarks[[234, 454], 0] @ [-1, 1] for face in faces[:4]]
        assert np.ptp(shapes) > 4
        blends = {len(face.subject.photos) for face in faces}
        assert blends == ({1, 2} if len(names) > 1 else {1})


def test_planted_aus_are_read_back(report: CheckReport) -> None:
    """An independent reader: MediaPipe's blendshape network knows nothing of the mesh model."""
    rows = {"+".join(row.aus): row for row in report.aus}
    assert len(rows) == 9
    for aus in ("AU01+AU02", "AU04", "AU12", "AU26"):
        assert rows[aus].alone >= 0.7, (aus, rows[aus])
        assert rows[aus].reading_at_1 > 0.2
        assert rows[aus].subjects > 0.8, (aus, rows[aus])
    for aus in ("AU05", "AU25", "AU43"):
        assert rows[aus].alone > 0.4, (aus, rows[aus])
    weak = [row for row in report.aus if row.alone < 0.7]
    assert all(row.limit for row in weak)


def test_a_face_is_found_in_gccfer_frames(report: CheckReport) -> None:
    assert report.face_rate >= 0.99
    assert report.face_frames == 280


@pytest.mark.parametrize(("side", "corner", "other"), [("left", 291, 61), ("right", 61, 291)])
def test_an_au_of_one_side_moves_that_side(
    finder: FaceFinder, door: Identity, side: str, corner: int, other: int
) -> None:
    smile = np.isin(AU_NAMES, ["AU12"]).astype(np.float32)[None]
    take = plant(door, np.concatenate([0 * smile, smile]), seed=0)
    still = np.repeat(take.poses[:1], 2, 0)  # the head must not move in between
    weights = take.weights.copy()
    weights[:, 40:] = 0
    weights[:, slice(20, 40) if side == "left" else slice(0, 20)] = 0
    rest, moved = (
        found(finder, one) for one in images(render([replace(take, weights=weights, poses=still)], np.array([[0, 1]])))
    )
    shift = np.linalg.norm((moved.landmarks - rest.landmarks)[:, :2], axis=1)
    assert shift[corner] > 4
    assert shift[corner] > 2.5 * shift[other]


def test_closing_eyes_closes_them_and_an_open_mouth_is_dark(finder: FaceFinder, door: Identity) -> None:
    aus = np.stack([np.zeros(20), np.isin(AU_NAMES, ["AU43"]), np.isin(AU_NAMES, ["AU25", "AU26"])]).astype(np.float32)
    rest, shut, wide = images(render([plant(door, aus, seed=0)], np.arange(3)[None]))
    lids = [found(finder, image).landmarks[[159, 145], 1] @ [-1, 1] for image in (rest, shut)]
    assert lids[1] < 0.75 * lids[0]
    face = found(finder, wide)
    inside = face.landmarks[[13, 14], :2].mean(0).round().astype(int)
    assert face.landmarks[14, 1] - face.landmarks[13, 1] > 8
    assert wide[inside[1], inside[0]].mean() < 0.6 * rest[inside[1], inside[0]].mean()


def test_batches_hold_what_single_clips_hold() -> None:
    specs = plan({"test": 5}, SynthOptions(seed=8))
    batches = list(iter_batches(specs, 4))
    assert [tuple(batch[0].shape) for batch in batches] == [(4, 50, 3, 256, 256), (1, 50, 3, 256, 256)]
    frames, aus, labels, cultures = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert frames.dtype == torch.uint8
    assert [EXPRESSIONS[i] for i in labels] == [spec.label for spec in specs]
    assert [SYNTHETIC_CULTURES[i] for i in cultures] == [spec.culture for spec in specs]
    np.testing.assert_array_equal(aus.numpy(), np.stack([trajectory(spec).mean for spec in specs]))
    for number, spec in enumerate(specs):
        take = make_take(spec, build_identity(spec.subject, load_photos(spec.subject.photos)))
        parts = [render([take], np.arange(start, start + 25)[None]) for start in (0, 25)]
        difference = torch.cat(parts, 1)[0].int() - frames[number].int()
        assert difference.abs().max() <= 1  # the last bit of a float decides how a pixel is rounded


def test_clips_of_different_length_need_a_number_of_frames() -> None:
    specs = plan({"test": 4}, SynthOptions("micro"))
    with pytest.raises(ValueError, match="say how many frames"):
        next(iter_batches(specs, 4))
    frames, aus, _, _ = next(iter_batches(specs, 4, frames=16))
    assert frames.shape[:2] == aus.shape[:2] == (4, 16)
    with pytest.raises(ValueError, match="batches of 0 clips"):
        next(iter_batches(specs, 0))


def test_an_occluder_hides_a_part_of_the_face_and_does_not_show_expression(door: Identity) -> None:
    spec = ClipSpec("c", door.subject, "A", ("Surprise",), seed=4)
    for seed in range(6):
        open_, hidden = (make_take(replace(spec, seed=seed, occlusion=share), door) for share in (0.0, 1.0))
        assert open_.overlay is None
        assert hidden.overlay is not None
        covered = hidden.overlay[3].mean()
        assert 0.01 < covered < 0.35
        np.testing.assert_array_equal(open_.weights, hidden.weights)
    assert len(OCCLUDERS) == 3
    shares = [make_take(replace(spec, seed=seed, occlusion=0.3), door).overlay is not None for seed in range(60)]
    assert 0.1 < np.mean(shares) < 0.5


def test_the_polarity_of_a_scene_is_seen_without_its_face() -> None:
    """Colour and texture alone tell the three apart: nearest mean of brightness, warmth and roughness."""

    def statistics(scene: np.ndarray) -> np.ndarray:
        grey = scene.mean(0)
        rough = np.abs(cv2.Laplacian(grey, cv2.CV_32F)).mean()
        return np.array(
            [grey.mean() / 60, (scene[0] - scene[2]).mean() / 60, (scene.max(0) - scene.min(0)).mean() / 40, rough / 8]
        )

    rng = np.random.default_rng(0)
    drawn = {p: np.stack([statistics(draw_scene(p, SCENE_SIZE, rng)) for _ in range(30)]) for p in POLARITIES}
    means = np.stack([drawn[p][:15].mean(0) for p in POLARITIES])
    for number, polarity in enumerate(POLARITIES):
        nearest = np.linalg.norm(drawn[polarity][15:, None] - means, axis=2).argmin(1)
        assert (nearest == number).mean() >= 0.9, polarity
    with pytest.raises(ValueError, match="unknown polarity"):
        draw_scene("gloomy", SCENE_SIZE, rng)


def test_paint_tells_the_group_by_colour_and_not_by_grey(door: Identity) -> None:
    """What optical flow is computed of must not tell the group."""
    shown = {}
    for culture in ("A", "B"):
        spec = ClipSpec("c", door.subject, culture, ("Sad",), 3, "micro", strength=1.0, fps=200, seconds=0.3)
        shown[culture] = images(render([make_take(spec, door)], np.array([[0]])))[0]
    x, y = (shown["A"].shape[0] // 2,) * 2
    cheeks = [image[y - 30 : y + 30, x - 40 : x + 40].reshape(-1, 3).mean(0) for image in shown.values()]
    assert (np.abs(cheeks[0] - cheeks[1]) > (50, 30, 20)).all()
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(int) for image in shown.values()]
    apart = np.abs(grey[0] - grey[1])
    assert np.median(apart) <= 1
    assert apart.mean() < 1.5, "bright skin that the light drives to white"


def test_a_face_is_found_in_a_scene_at_its_size(finder: FaceFinder) -> None:
    specs = plan({"test": 8}, SynthOptions("scene"))
    for spec, batch in zip(specs, iter_batches(specs, 1, frames=2), strict=True):
        frames = images(batch[0])
        assert frames.shape == (2, 216, 384, 3)
        height = np.ptp(found(finder, frames[1]).landmarks[:, 1])
        assert 85 < height < 175, spec.clip_id


@pytest.mark.parametrize(
    ("preset", "rows", "columns", "shape"),
    [("balanced", 4, 7, 1.0), ("micro", 2, 12, 1.0), ("scene", 4, 7, 216 / 384)],
)
def test_contact_sheets(preset: str, rows: int, columns: int, shape: float) -> None:
    sheet = contact_sheet(SynthOptions(preset))
    assert sheet.shape == (26 + rows * (round(192 * shape) + 2), 60 + columns * 194, 3)
    tiles = sheet[26:, 60:]
    assert tiles.std() > 30
