"""Apex frames that are planted: in synthetic motion, and in SynthFER's micro-expressions."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from ray_fer.datasets.synthfer import ClipSpec, iter_batches
from ray_fer.datasets.synthfer.identities import plain_subject
from ray_fer.datasets.synthfer.specs import MICRO_FPS
from ray_fer.datasets.synthfer.trajectory import trajectory
from ray_fer.video.apex import estimate_apex
from ray_fer.video.faces import FaceFinder, align, align_all
from ray_fer.video.images import decode_image

FRAMES = 40
MOUTH, EYES = (0.75, 0.5), (0.37, 0.35)


@pytest.fixture(scope="module")
def crop(media: Path) -> np.ndarray:
    """An aligned face, uint8 [224,224,3]."""
    image = decode_image((media / "0-f1-su-ph.jpg").read_bytes())
    with FaceFinder() as finder:
        face = finder.find(image)
    assert face is not None
    return align(image, face.landmarks)


def pulse(peak: int) -> np.ndarray:
    """Rise and fall around frame `peak`, float64 [FRAMES], 1 at its highest."""
    return np.exp(-(((np.arange(FRAMES) - peak) / 6.0) ** 2))


def film(crop: np.ndarray, *motions: tuple[tuple[float, float], np.ndarray], drift: float = 0.0) -> np.ndarray:
    """uint8 [FRAMES,224,224,3]: bumps of 12 px at (row, column) move up by so many pixels; the head drifts."""
    y, x = np.mgrid[:224, :224].astype(np.float32)
    frames = []
    for number in range(FRAMES):
        lift = np.zeros_like(y)
        for (row, column), strength in motions:
            lift += strength[number] * np.exp(-((x - 224 * column) ** 2 + (y - 224 * row) ** 2) / (2 * 12**2))
        frame = cv2.remap(crop, x, y + lift.astype(np.float32), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        turn = cv2.getRotationMatrix2D((112, 112), 0.5 * drift * number, 1.0)
        turn[:, 2] += drift * number
        frames.append(cv2.warpAffine(frame, turn, (224, 224), borderMode=cv2.BORDER_REPLICATE))
    return np.stack(frames)


@pytest.mark.parametrize("peak", [8, 20, 33])
@pytest.mark.parametrize("drift", [0.0, 0.08])
def test_a_mouth_that_moves_is_followed_on_a_head_that_drifts(crop: np.ndarray, peak: int, drift: float) -> None:
    """At its end the head has moved by 3 pixels and turned by 1.6 degrees, more than the mouth ever moves."""
    assert estimate_apex(film(crop, (MOUTH, 2 * pulse(peak)), drift=drift)) == pytest.approx(peak, abs=2)


def test_a_blink_is_no_apex(crop: np.ndarray) -> None:
    frames = film(crop, (MOUTH, 2 * pulse(12)), (EYES, 3 * pulse(30)))
    assert estimate_apex(frames) == pytest.approx(12, abs=2)


def test_frames_before_the_onset_are_not_looked_at(crop: np.ndarray) -> None:
    frames = film(crop, (MOUTH, 3 * pulse(5) + 2 * pulse(30)))
    assert estimate_apex(frames, onset=18) == pytest.approx(30, abs=2)


def test_the_apex_comes_after_the_onset(crop: np.ndarray) -> None:
    still = [crop] * 4
    assert estimate_apex(still, onset=2) == 3
    for onset in (3, 4, -1):
        with pytest.raises(ValueError, match="no frame after the onset"):
            estimate_apex(still, onset)


def test_micro_expressions_of_synthfer() -> None:
    """Planted apexes, cropped by the onset frame as EthnicMER's flow is; clips of 100 frames."""
    subject = plain_subject("man_door", "train")
    specs = [
        ClipSpec(expression, subject, "A", (expression,), seed, "micro", fps=MICRO_FPS, seconds=0.5)
        for seed, expression in enumerate(("Happy", "Surprise", "Angry", "Sad", "Fear", "Disgust"))
    ]
    errors = []
    with FaceFinder(max_faces=1) as finder:
        for spec, (frames, *_) in zip(specs, iter_batches(specs, 1), strict=True):
            part = trajectory(spec).parts[0]
            assert part.onset is not None
            assert part.apex is not None
            images = frames[0].permute(0, 2, 3, 1).contiguous().numpy()
            face = finder.find(images[part.onset])
            assert face is not None
            errors.append(abs(estimate_apex(align_all(images, face.landmarks), part.onset) - part.apex))
    assert len(images) == 100
    assert np.mean(errors) < 4
    assert max(errors) < 10
