"""Optical flow and optical strain from onset to apex: the motion image of EthnicMER (section III.C, equations 5-7).

The authors computed the flow with MATLAB's ``classic+nl-fast`` (Sun et al., "Secrets of optical flow estimation and
their principles", CVPR 2010), which has no free implementation. The default here is TV-L1 (Zach et al. 2007, with
OpenCV's constants), the usual one in micro-expression research; Farneback and DIS are the faster ones. Both images must
be cropped by one alignment (`faces.align_all`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import cv2
import numpy as np

FlowMethod = Literal["tvl1", "farneback", "dis"]


class FlowError(ValueError):
    """Optical flow that cannot be computed; the message says what to do."""


def optical_flow(onset: np.ndarray, apex: np.ndarray, method: FlowMethod = "tvl1") -> np.ndarray:
    """Motion of every pixel from `onset` to `apex`, float32 [H,W,2]: x (to the right), then y (down), in pixels.

    Both uint8, RGB [H,W,3] or grey [H,W]. What lies at p in `onset` lies at p + flow(p) in `apex` (equation 5, with
    the two frames as unit of time). On textured images of 224 px that were moved by about a pixel, the median error of
    TV-L1 is 0.01 px (0.5 s on one core), that of DIS (5 ms) and Farneback (10 ms) 0.05 to 0.1 px. Raises FlowError for
    images of different size, an unknown method, and when OpenCV was installed without TV-L1.
    """
    if onset.shape[:2] != apex.shape[:2]:
        raise FlowError(f"onset and apex differ in size: {onset.shape[:2]} and {apex.shape[:2]}")
    if method not in _METHODS:
        raise FlowError(f"unknown flow method {method!r}; expected one of {', '.join(get_args(FlowMethod))}")
    return _METHODS[method](_grey(onset), _grey(apex))


def optical_strain(flow: np.ndarray) -> np.ndarray:
    """Magnitude of the symmetric gradient of `flow` [H,W,2], float32 [H,W]: how much the skin is stretched.

    Equation 6, E = (grad f + grad f^T) / 2, and of it the Frobenius norm sqrt(Exx^2 + Eyy^2 + 2 Exy^2) (Shreve et al.,
    FG 2011), which is zero where a face moves or turns as a whole. Derivatives are central differences, per pixel.

    The authors' code (MEB) differs: it takes the derivatives along the other axis, so that it mixes up stretch and
    shear, and adds up sqrt(ux^2 + vy^2 + (uy^2 + vx^2) / 2), which is not zero for a turned head.
    """
    across, down = flow[..., 0].astype(np.float32), flow[..., 1].astype(np.float32)
    across_y, across_x = np.gradient(across)
    down_y, down_x = np.gradient(down)
    shear = (across_y + down_x) / 2
    return np.sqrt(across_x**2 + down_y**2 + 2 * shear**2).astype(np.float32)


def flow_image(onset: np.ndarray, apex: np.ndarray, method: FlowMethod = "tvl1", normalise: bool = False) -> np.ndarray:
    """Equation 7: float32 [3,H,W] of horizontal flow, vertical flow (pixels) and strain (per pixel).

    The paper's equations normalise nothing, and raw values keep strength and direction of a motion; a stored image can
    be normalised later. With `normalise` each channel is stretched to 0..1 (`stretched`), as the authors' code does.
    Raises FlowError as `optical_flow` does.
    """
    flow = optical_flow(onset, apex, method)
    image = np.concatenate([flow.transpose(2, 0, 1), optical_strain(flow)[None]])
    return stretched(image) if normalise else image


def stretched(image: np.ndarray) -> np.ndarray:
    """Each channel of [C,H,W] from its minimum and maximum to 0..1, float32; a constant channel gives zeros."""
    low, high = image.min((1, 2), keepdims=True), image.max((1, 2), keepdims=True)
    spread = np.where(high > low, high - low, 1)
    return ((image - low) / spread).astype(np.float32)


def _grey(image: np.ndarray) -> np.ndarray:
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _tvl1(onset: np.ndarray, apex: np.ndarray) -> np.ndarray:
    if not hasattr(cv2, "optflow"):
        raise FlowError(
            "TV-L1 is in opencv-contrib-python, and another OpenCV package overwrote it: run "
            "`pip install --force-reinstall --no-deps opencv-contrib-python`, or choose method dis or farneback"
        )
    return cv2.optflow.createOptFlow_DualTVL1().calc(onset, apex, None)


def _farneback(onset: np.ndarray, apex: np.ndarray) -> np.ndarray:
    return cv2.calcOpticalFlowFarneback(
        onset, apex, None, pyr_scale=0.5, levels=3, winsize=15, iterations=3, poly_n=5, poly_sigma=1.2, flags=0
    )


def _dis(onset: np.ndarray, apex: np.ndarray) -> np.ndarray:
    return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(onset, apex, None)


_METHODS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "tvl1": _tvl1,
    "farneback": _farneback,
    "dis": _dis,
}
