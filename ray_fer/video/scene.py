"""The whole frame as a model sees it: the second stream of OUS, which reads what surrounds a face."""

from __future__ import annotations

import cv2
import numpy as np

from ray_fer.video.boxes import crop_box, face_box, widened
from ray_fer.video.faces import ALIGNED_SIZE

HEAD_MARGIN = 0.3
"""Landmarks end at the hairline and before the ears; so much further, hair, ears and chin are covered too."""

MASK_COLOUR = (123, 117, 104)
"""Mean colour of CLIP's training images (RGB): what is hidden becomes zero when the model's input is standardised."""


def scene_image(image: np.ndarray, masked: np.ndarray | None = None, size: int = ALIGNED_SIZE) -> np.ndarray:
    """Whole frame uint8 [H,W,3] RGB -> uint8 [size,size,3]; `masked` are the landmarks [478,>=2] of a face to hide.

    The frame is squashed to a square. CLIP's own transform cuts the edges off, which is where a scene is, and bars
    above and below would take 7 of 16 parts of the input from a 16:9 frame; video recognition on whole frames resizes
    in the same way.

    OUS separates "facial and environmental information" (section III.D) and does not say whether the face is taken out
    of the scene stream: by default it is left in. With `masked` the head is covered by a box. That is the main person's
    only: the faces of others are part of the environment.
    """
    if masked is not None:
        image = image.copy()
        head, _ = crop_box(image, widened(face_box(masked), HEAD_MARGIN))
        head[:] = MASK_COLOUR
    shrinks = min(image.shape[:2]) > size
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
