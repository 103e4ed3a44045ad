"""Regions of Action Units, on a face that is symmetric."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ray_fer.action_units.regions import EXPRESSION_AUS, FACE, REGIONS, SIDES, filled, outline, region_mask
from ray_fer.labels import AU_NAMES
from ray_fer.video.faces import aligned_landmarks
from tests.canonical_face import RESOURCES, VERTICES, canonical_face

SIZE = 224
BROWS, EYES = {"left": 336, "right": 107}, {"left": (362, 263), "right": (33, 133)}
LIP_CORNER, CHIN, NOSE_TIP = {"left": 291, "right": 61}, 152, 1


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """Landmarks [478,2] as they lie in an aligned crop."""
    return aligned_landmarks(canonical_face())


@pytest.fixture(scope="module")
def mirror(face: np.ndarray) -> np.ndarray:
    """The index of each landmark's mirror image."""
    mesh = face[:VERTICES]
    flipped = np.stack([2 * face[CHIN, 0] - mesh[:, 0], mesh[:, 1]], axis=1)
    distance = np.linalg.norm(mesh[:, None] - flipped[None], axis=2)
    assert distance.min(axis=1).max() < 0.01
    return distance.argmin(axis=1)


def test_every_action_unit_has_a_region_on_both_sides() -> None:
    assert tuple(REGIONS) == AU_NAMES
    assert all(set(one) == {"left", "right"} for one in REGIONS.values())
    assert {au for aus in EXPRESSION_AUS.values() for au in aus} <= set(REGIONS)


@pytest.mark.parametrize("au", AU_NAMES)
def test_left_and_right_are_mirror_images(au: str, face: np.ndarray, mirror: np.ndarray) -> None:
    left, right = REGIONS[au]["left"], REGIONS[au]["right"]
    # The canonical face has some landmarks of an eyelid at one place.
    np.testing.assert_allclose(face[mirror[list(right)]], face[list(left)], atol=0.01)
    assert outline(left, face)[:, 0].mean() > face[CHIN, 0] > outline(right, face)[:, 0].mean(), "the person's own left"
    masks = {side: region_mask(au, side, face, SIZE) for side in SIDES}
    assert masks["left"].sum() == pytest.approx(masks["right"].sum(), rel=0.1)
    assert (masks["left"] & masks["right"]).sum() <= SIZE, "no more than the midline"


@pytest.mark.parametrize("side", SIDES)
def test_regions_lie_where_their_names_say(side: str, face: np.ndarray) -> None:
    def middle(au: str) -> np.ndarray:
        return np.argwhere(region_mask(au, side, face, SIZE)).mean(axis=0)[::-1]

    eye = face[list(EYES[side])].mean(axis=0)
    corner, chin, nose = face[LIP_CORNER[side]], face[CHIN], face[NOSE_TIP]
    away = 1 if side == "left" else -1
    assert middle("AU01")[1] < face[BROWS[side], 1], "above the inner brow"
    assert away * (middle("AU02")[0] - middle("AU01")[0]) > 0, "the outer brow"
    assert middle("AU01")[1] < middle("AU04")[1] < eye[1], "lower than the forehead, above the eye"
    assert face[BROWS[side], 1] < middle("AU05")[1] < eye[1] < middle("AU06")[1] < corner[1]
    for au in ("AU07", "AU43"):
        assert region_mask(au, side, face, SIZE)[round(eye[1]), round(eye[0])]
    assert eye[1] < middle("AU09")[1] < nose[1] < middle("AU10")[1] < corner[1] < middle("AU15")[1]
    for au in ("AU12", "AU14", "AU15", "AU20", "AU23", "AU24", "AU25"):
        assert region_mask(au, side, face, SIZE)[round(corner[1]), round(corner[0])], f"{au} moves the lip corner"
    assert away * (middle("AU12")[0] - corner[0]) > 0, "up and outwards"
    assert middle("AU12")[1] < corner[1]
    assert corner[1] < middle("AU17")[1] < chin[1]
    assert middle("AU26")[1] > corner[1]


def test_all_but_the_forehead_is_in_the_face(face: np.ndarray) -> None:
    both = filled(FACE["left"], face, SIZE) | filled(FACE["right"], face, SIZE)
    for au in AU_NAMES:
        for side in SIDES:
            region = region_mask(au, side, face, SIZE)
            assert 250 < region.sum() < 4000
            assert (region & both).sum() == region.sum()


@pytest.mark.parametrize("au", ["AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU09", "AU12", "AU14", "AU15", "AU17",
                                "AU24"])  # fmt: skip
def test_py_feats_regions_are_near(au: str, face: np.ndarray) -> None:
    """py-feat parts the same mesh among the muscles: its regions do not overlap, and are as long as a muscle."""
    vertices = json.loads((RESOURCES / "au_region_map.json").read_text())["regions"][au]["mp478_vertices"]
    theirs = face[[one for one in vertices if one < VERTICES]]
    middle = theirs[theirs[:, 0] <= face[CHIN, 0]].mean(axis=0)
    ours = np.argwhere(region_mask(au, "right", face, SIZE)).mean(axis=0)[::-1]
    assert np.linalg.norm(ours - middle) < 0.34 * SIZE / 3, "a third of the distance of the eyes"


def test_what_lies_outside_is_cut_off_and_unknown_names_are_refused(face: np.ndarray) -> None:
    whole = region_mask("AU04", "right", face, SIZE)
    cut = region_mask("AU04", "right", face, 100)
    assert 0 < cut.sum() < whole.sum()
    assert (cut != whole[:100, :100]).sum() < 5, "an edge that is cut off may be a pixel aside"
    moved = region_mask("AU04", "right", face + 10, SIZE)
    np.testing.assert_array_equal(moved[10:, 10:], whole[:-10, :-10], "it follows the landmarks")
    with pytest.raises(ValueError, match="unknown Action Unit 'AU99'"):
        region_mask("AU99", "left", face, SIZE)
    with pytest.raises(ValueError, match="unknown side 'both'"):
        region_mask("AU12", "both", face, SIZE)  # type: ignore[arg-type]
