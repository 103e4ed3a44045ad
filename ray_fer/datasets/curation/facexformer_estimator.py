"""FaceXFormer as ethnicity estimator (EthnicMER section III.A).

Written against facexformer-pipeline 0.2.8, which carries the authors' network. Its pipeline class is not used: it
returns the most probable race without probabilities, prints instead of raising when weights do not load, and imports a
face detector whose requirements (torch below 2.3, numpy below 2) cannot be installed beside this project's. The network
alone needs torch and torchvision: ``FaceXFormer()(images [B,3,224,224], labels, tasks [B])`` returns eight tensors, of
which the seventh holds race logits [b,5] for those of the B images whose task is 4 (age, gender and race).
"""

from __future__ import annotations

import importlib.util
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from ray_fer.datasets.curation.estimators import Estimate, EstimatorError
from ray_fer.datasets.ethnic_groups import FACEXFORMER_CATEGORIES
from ray_fer.video.face_model import cache_dir

PACKAGE = "facexformer_pipeline"
INSTALL = "pip install --no-deps facexformer-pipeline"
SIDE = 224
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)
_AGE_GENDER_RACE = 4
_RACE_OUTPUT = 6


class FaceXFormerEstimator:
    """FaceXFormer's race head on aligned face crops, on the GPU if there is one.

    `weights` is the authors' ``ckpts/model.pt`` (default: ``facexformer/model.pt`` in the cache of `cache_dir`). It is
    read without running code from it. Raises EstimatorError when the package or the weights cannot be used.
    """

    name = "facexformer"
    categories = FACEXFORMER_CATEGORIES

    def __init__(self, weights: Path | None = None) -> None:
        import torch

        weights = weights or cache_dir() / "facexformer" / "model.pt"
        if not weights.is_file():
            raise EstimatorError(
                f"{weights}: no such file; download ckpts/model.pt of kartiknarayan/facexformer from its model hub and "
                "put it there, or pass --weights"
            )
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = _network()
        try:
            state = torch.load(weights, map_location="cpu", weights_only=True)["state_dict_backbone"]
            network.load_state_dict(state)
        except (RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
            first = str(error).strip().split("\n")[0]
            raise EstimatorError(f"{weights}: not FaceXFormer's ckpts/model.pt: {first}; download it again") from error
        self._network = network.to(self._device).eval()

    def estimate(self, images: Sequence[np.ndarray]) -> list[Estimate | None]:
        """One estimate per face crop uint8 [H,W,3] RGB."""
        import torch

        if not images:
            return []
        batch = torch.from_numpy(np.stack([_prepare(image) for image in images])).to(self._device)
        tasks = torch.full((len(images),), _AGE_GENDER_RACE, device=self._device)
        with torch.inference_mode():
            logits = self._network(batch, {}, tasks)[_RACE_OUTPUT]
        rows = logits.float().softmax(1).cpu().tolist()
        return [Estimate(dict(zip(self.categories, row, strict=True))) for row in rows]


def _prepare(image: np.ndarray) -> np.ndarray:
    """uint8 [H,W,3] -> float32 [3,224,224], bicubic and with ImageNet's statistics as in the authors' inference."""
    resized = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).astype(np.float32) / 255
    return ((resized - _MEAN) / _STD).transpose(2, 0, 1)


def _network() -> Any:
    """A FaceXFormer without weights, from the package's ``network`` folder alone."""
    import torchvision

    module = _network_module()
    # Its constructor asks for ImageNet weights, a download of 350 MB that the checkpoint overwrites at once.
    inner = sys.modules.get(f"{module.__name__}.models.facexformer")
    if inner is None or not hasattr(inner, "swin_b"):
        raise EstimatorError(f"this version of {PACKAGE} is not known; {INSTALL}==0.2.8")
    vars(inner)["swin_b"] = lambda weights=None: torchvision.models.swin_b(weights=None)
    return module.FaceXFormer()


def _network_module() -> ModuleType:
    found = importlib.util.find_spec(PACKAGE)  # located, not imported: the package's __init__ needs the detector
    folder = Path(next(iter(found.submodule_search_locations or [""]))) if found else Path()
    init = folder / "network" / "__init__.py"
    if found is None or not init.is_file():
        raise EstimatorError(f"facexformer is not installed: {INSTALL} (without its dependencies, which need old ones)")
    name = "_ray_fer_facexformer_network"
    spec = importlib.util.spec_from_file_location(name, init, submodule_search_locations=[str(init.parent)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
