"""Cut a head and its shoulders out of a framed photograph, to put it into a scene."""

from __future__ import annotations

import cv2
import numpy as np

from ray_fer.datasets.synthfer.geometry import CANVAS, EYE_DISTANCE, FACE_OVAL

_ITERATIONS = 4


def cut_out(canvas: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Matte float32 [320,320] in 0..1 of the person whose `landmarks` [478,>=2] lie in `canvas` uint8 [320,320,3].

    GrabCut, told that the face belongs to the person and that the corners above the shoulders do not.
    """
    oval = landmarks[FACE_OVAL, :2]
    centre = oval.mean(0)
    labels = np.full((CANVAS, CANVAS), cv2.GC_BGD, np.uint8)
    chin, width = float(oval[:, 1].max()), float(np.ptp(oval[:, 0]))
    up = np.array([0, 0.12 * EYE_DISTANCE])
    for head, shoulder, kind in ((1.75, 1.3, cv2.GC_PR_BGD), (1.42, 0.95, cv2.GC_PR_FGD)):
        cv2.fillPoly(labels, [np.round(centre + head * (oval - centre) - up).astype(np.int32)], kind)
        sides = [(-shoulder, CANVAS), (-0.35 * shoulder, chin - 8), (0.35 * shoulder, chin - 8), (shoulder, CANVAS)]
        body = [(centre[0] + x * width, y) for x, y in sides]
        cv2.fillPoly(labels, [np.round(body).astype(np.int32)], kind)
    cv2.fillPoly(labels, [np.round(centre + 0.95 * (oval - centre)).astype(np.int32)], cv2.GC_FGD)
    cv2.setRNGSeed(0)  # GrabCut's mixtures start at random
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(canvas, labels, (0, 0, 0, 0), background, foreground, _ITERATIONS, cv2.GC_INIT_WITH_MASK)
    person = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    person = cv2.morphologyEx(person, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    _, parts = cv2.connectedComponents(person)
    person = (parts == parts[int(centre[1]), int(centre[0])]).astype(np.uint8) * 255
    person = cv2.morphologyEx(person, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    return cv2.GaussianBlur(cv2.erode(person, np.ones((3, 3), np.uint8)), (0, 0), 1.6).astype(np.float32) / 255
