"""DeepFace as ethnicity estimator (CA-FER section II.B.1).

Written against the interface of deepface 0.0.103: ``DeepFace.build_model(model_name, task)`` loads weights, fetching
the file from its authors when it is not there; ``DeepFace.analyze(img_path, actions, enforce_detection,
detector_backend, align, silent)`` takes one BGR array and returns a list of faces, each with ``race``: percent for each
of six names.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ray_fer.datasets.curation.estimators import Estimate, EstimatorError
from ray_fer.datasets.ethnic_groups import DEEPFACE_CATEGORIES

WEIGHT_FILE = "race_model_single_batch"
"""With the suffix of DeepFace's backend: .pth (PyTorch), .onnx or .h5 (TensorFlow); about 500 MB."""


class DeepFaceEstimator:
    """DeepFace's race model on faces that are already cropped and aligned.

    `home` is the folder that holds ``.deepface/weights/`` (DeepFace's own ``DEEPFACE_HOME``, default the user's home).
    DeepFace runs on PyTorch unless ``DEEPFACE_BACKEND_ENGINE`` says otherwise. Raises EstimatorError when the package
    or its weights cannot be had.
    """

    name = "deepface"
    categories = DEEPFACE_CATEGORIES

    def __init__(self, home: Path | None = None) -> None:
        if home is not None:
            if not home.is_dir():
                raise EstimatorError(f"{home}: no such folder; for deepface it must hold .deepface/weights/")
            os.environ["DEEPFACE_HOME"] = str(home.resolve())
        os.environ.setdefault("DEEPFACE_BACKEND_ENGINE", "pytorch")
        try:
            from deepface import DeepFace
        except ImportError as error:
            raise EstimatorError(f"deepface cannot be imported ({error}): pip install 'ray-fer[ethnicity]'") from error
        folder = Path(os.environ.get("DEEPFACE_HOME") or Path.home()) / ".deepface" / "weights"
        try:
            DeepFace.build_model("Race", task="facial_attribute")
        except Exception as error:  # whatever a download or a damaged file gives; the first line says which
            first = str(error).strip().split("\n")[0]
            raise EstimatorError(
                f"deepface cannot load its race model: {first}; put {WEIGHT_FILE}.pth of its releases into {folder}"
            ) from error
        self._deepface: Any = DeepFace

    def estimate(self, images: Sequence[np.ndarray]) -> list[Estimate | None]:
        """One estimate per face crop uint8 [H,W,3] RGB; None where DeepFace returns no finite percentages."""
        return [self._one(image) for image in images]

    def _one(self, image: np.ndarray) -> Estimate | None:
        faces = self._deepface.analyze(
            img_path=np.ascontiguousarray(image[:, :, ::-1]),
            actions=["race"],
            enforce_detection=False,
            detector_backend="skip",  # the crop is a face already; a second detector would cut it again
            align=False,
            silent=True,
        )
        if not faces:
            return None
        percent = {name: float(faces[0]["race"][name]) for name in self.categories}
        total = sum(percent.values())
        if not math.isfinite(total) or total <= 0:
            return None
        return Estimate({name: value / total for name, value in percent.items()})
