"""Fitting blendshapes to Action Units, on made-up readings and on rendered faces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ray_fer.action_units.blendshape_map import BLENDSHAPE_NAMES
from ray_fer.action_units.calibration import SUPPORT, CalibrationFrames, fit_blendshape_map
from ray_fer.datasets.synthfer.calibration import CalibrationOptions, calibration_frames
from ray_fer.labels import AU_NAMES


@pytest.fixture
def frames() -> CalibrationFrames:
    """20 faces: a smile reads as 0.1 + 0.5 AU12, a jaw as noise, and brows differ from face to face at rest."""
    rng = np.random.default_rng(0)
    faces = np.repeat(np.arange(20), 40)
    aus = rng.random((800, 20)) * (rng.random((800, 20)) < 0.3)
    shapes = np.zeros((800, 52))
    for side in ("Left", "Right"):
        shapes[:, BLENDSHAPE_NAMES.index(f"mouthSmile{side}")] = 0.1 + 0.5 * aus[:, AU_NAMES.index("AU12")]
    shapes[:, BLENDSHAPE_NAMES.index("jawOpen")] = rng.random(800)
    rest = rng.random(20)[faces] * 0.3
    shapes[:, BLENDSHAPE_NAMES.index("browInnerUp")] = rest + 0.3 * aus[:, AU_NAMES.index("AU01")]
    return CalibrationFrames(shapes, aus, np.array([f"p{face}" for face in faces]), faces >= 14)


def test_the_fit_finds_scale_and_offset(frames: CalibrationFrames) -> None:
    found = fit_blendshape_map(frames, "made up")
    smile = found.aus["AU12"]
    assert smile.calibrated
    assert smile.weights["mouthSmile"] == pytest.approx(2, abs=0.01)
    assert smile.offset == pytest.approx(-0.2, abs=0.01)
    assert smile.held_out.correlation > 0.999
    assert smile.held_out.mae < 0.01 < smile.held_out_documented.mae
    assert (found.train_identities, found.held_out_identities, found.held_out_frames) == (14, 6, 240)


def test_resting_faces_lower_the_correlation_over_all_and_not_that_within(frames: CalibrationFrames) -> None:
    brows = fit_blendshape_map(frames, "made up").aus["AU01"]
    assert brows.held_out.within > 0.95
    assert brows.held_out.correlation < 0.9
    assert brows.reliable


def test_what_is_not_followed_keeps_the_documented_shapes_and_is_listed(frames: CalibrationFrames) -> None:
    found = fit_blendshape_map(frames, "made up")
    assert found.aus["AU26"].model_dump(include={"weights", "offset", "calibrated"}) == {
        "weights": {"jawOpen": 1.0}, "offset": 0.0, "calibrated": False,
    }  # fmt: skip
    assert "AU26" in found.unreliable
    assert "AU12" not in found.unreliable
    assert not found.aus["AU11"].weights


def test_a_fit_that_reads_unseen_identities_worse_is_not_taken(frames: CalibrationFrames) -> None:
    """Frowns read as they are on most faces, and one training face in four has a strong frown at rest as well."""
    rng = np.random.default_rng(1)
    truth = frames.aus[:, AU_NAMES.index("AU15")]
    faces = np.arange(800) // 40
    shapes = frames.blendshapes.copy()
    for side in ("Left", "Right"):
        frown = truth + rng.normal(0, 0.02, 800)
        shapes[:, BLENDSHAPE_NAMES.index(f"mouthFrown{side}")] = np.clip(frown + 0.5 * (faces % 4 == 0), 0, 1)
    found = fit_blendshape_map(replace(frames, blendshapes=shapes), "made up").aus["AU15"]
    assert not found.calibrated
    assert found.held_out == found.held_out_documented
    assert found.held_out.within > 0.8
    assert fit_blendshape_map(frames, "made up").aus["AU12"].calibrated


def test_held_out_identities_decide_nothing(frames: CalibrationFrames) -> None:
    turned = np.where(frames.held_out[:, None], 1 - frames.aus, frames.aus)
    found, other = (fit_blendshape_map(one, "made up") for one in (frames, replace(frames, aus=turned)))
    for au in AU_NAMES:
        assert found.aus[au].weights == other.aus[au].weights
        assert found.aus[au].calibrated == other.aus[au].calibrated


def test_identities_cannot_be_on_both_sides(frames: CalibrationFrames) -> None:
    leaky = replace(frames, held_out=np.arange(800) % 40 < 5)
    with pytest.raises(ValueError, match="identities are on both sides of the calibration: p0"):
        fit_blendshape_map(leaky, "made up")
    with pytest.raises(ValueError, match="both training and held-out"):
        fit_blendshape_map(replace(frames, held_out=np.zeros(800, bool)), "made up")
    with pytest.raises(ValueError, match="at least two training identities"):
        fit_blendshape_map(replace(frames, held_out=np.arange(800) >= 40), "made up")


def test_support_names_blendshapes() -> None:
    names = {name.removesuffix("Left") for name in BLENDSHAPE_NAMES}
    assert {shape for shapes in SUPPORT.values() for shape in shapes} <= names


def test_rendered_faces_of_both_sides_share_no_photograph() -> None:
    options = CalibrationOptions(train_identities=2, held_out_identities=1, frames=24)
    ticks: list[tuple[int, int]] = []
    frames = calibration_frames(options, lambda done, total: ticks.append((done, total)))
    assert ticks[-1] == (3, 3)
    assert frames.blendshapes.shape[1] == 52
    assert len(frames.aus) > 60
    assert {name.split("-")[0] for name in frames.identities[frames.held_out]} == {"test"}
    assert {name.split("-")[0] for name in frames.identities[~frames.held_out]} == {"train"}
    smile = frames.blendshapes[:, BLENDSHAPE_NAMES.index("mouthSmileLeft")]
    assert np.corrcoef(smile, frames.aus[:, AU_NAMES.index("AU12")])[0, 1] > 0.5
    again = calibration_frames(options)
    np.testing.assert_array_equal(again.aus, frames.aus)
