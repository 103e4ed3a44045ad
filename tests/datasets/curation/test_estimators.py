"""Estimators: averaging over a clip, and the two adapters against stand-ins of the packages they call.

The stand-ins have the signatures and return values of deepface 0.0.103 (``deepface/DeepFace.py``,
``deepface/modules/demography.py``) and of the network in facexformer-pipeline 0.2.8
(``facexformer_pipeline/network/models/facexformer.py``).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from ray_fer.datasets.curation.deepface_estimator import DeepFaceEstimator
from ray_fer.datasets.curation.estimators import Estimate, EstimatorError, estimate_clip, load_estimator
from ray_fer.datasets.curation.ethnicity import ClipEstimate
from ray_fer.datasets.curation.facexformer_estimator import FaceXFormerEstimator
from ray_fer.datasets.ethnic_groups import FACEXFORMER_CATEGORIES, GCC_FER

RED = np.full((224, 224, 3), (250, 10, 10), np.uint8)
BLUE = np.full((224, 224, 3), (10, 10, 250), np.uint8)


class ByBrightness:
    """An estimator whose probability of "light" is the brightness of the image; black images are unusable."""

    name = "brightness"
    categories = ("light", "dark")

    def estimate(self, images: Sequence[np.ndarray]) -> list[Estimate | None]:
        shares = [float(image.mean()) / 255 for image in images]
        return [Estimate({"light": share, "dark": 1 - share}) if share else None for share in shares]


def grey(level: int) -> np.ndarray:
    return np.full((8, 8, 3), level, np.uint8)


def test_a_clips_estimate_is_the_mean_over_its_faces() -> None:
    estimate = estimate_clip([grey(255), grey(204), grey(51)], ByBrightness(), {"light": "A", "dark": "B"})
    assert estimate is not None
    assert (estimate.culture, estimate.category) == ("A", "light")
    assert estimate.confidence == pytest.approx((1.0 + 0.8 + 0.2) / 3)


def test_unusable_faces_are_left_out_of_the_mean() -> None:
    estimate = estimate_clip([grey(0), grey(204)], ByBrightness(), {"light": "A", "dark": "B"})
    assert estimate is not None
    assert estimate.confidence == pytest.approx(0.8)
    assert estimate_clip([grey(0)], ByBrightness(), {}) is None
    assert estimate_clip([], ByBrightness(), {}) is None


def test_a_category_without_a_group_names_none() -> None:
    assert estimate_clip([grey(255)], ByBrightness(), {"light": None}) == ClipEstimate(None, 1.0, "light")


@pytest.fixture
def deepface(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """A deepface that calls what is blue in its BGR input "asian" to 90 percent, and everything else "white"."""
    package, module = ModuleType("deepface"), ModuleType("deepface.DeepFace")

    def build_model(model_name: str, task: str = "facial_recognition") -> object:
        assert (model_name, task) == ("Race", "facial_attribute")
        return object()

    def analyze(
        img_path: np.ndarray, actions: Sequence[str] = ("emotion", "age", "gender", "race"),
        enforce_detection: bool = True, detector_backend: str = "opencv", align: bool = True,
        expand_percentage: int = 0, silent: bool = False, anti_spoofing: bool = False,
    ) -> list[dict[str, Any]]:  # fmt: skip
        assert list(actions) == ["race"]
        assert not enforce_detection
        top = "asian" if img_path[0, 0, 0] > 128 else "white"
        names = ("asian", "indian", "black", "white", "middle eastern", "latino hispanic")
        race = {name: np.float32(90.0 if name == top else 2.0) for name in names}
        region = {"x": 0, "y": 0, "w": 224, "h": 224, "left_eye": None, "right_eye": None}
        return [{"race": race, "dominant_race": top, "region": region, "face_confidence": 0}]

    module.build_model, module.analyze = build_model, analyze  # type: ignore[attr-defined]
    package.DeepFace = module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "deepface", package)
    monkeypatch.setitem(sys.modules, "deepface.DeepFace", module)
    monkeypatch.setenv("DEEPFACE_HOME", str(tmp_path))
    monkeypatch.setenv("DEEPFACE_BACKEND_ENGINE", "pytorch")
    return module


def test_deepface_gets_bgr_and_its_percentages_become_probabilities(deepface: ModuleType) -> None:
    red, blue = DeepFaceEstimator().estimate([RED, BLUE])
    assert red is not None
    assert blue is not None
    assert max(red.probabilities, key=lambda name: red.probabilities[name]) == "white"
    assert blue.probabilities["asian"] == pytest.approx(0.9)
    assert sum(blue.probabilities.values()) == pytest.approx(1.0)
    estimate = estimate_clip([BLUE] * 3, DeepFaceEstimator(), GCC_FER.estimators["deepface"])
    assert estimate == ClipEstimate("East Asian", pytest.approx(0.9), "asian")


def test_deepface_without_weights_names_file_and_folder(
    deepface: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def build_model(model_name: str, task: str = "facial_recognition") -> object:
        raise ValueError("An exception occurred while downloading race_model_single_batch.pth\nand more lines")

    monkeypatch.setattr(deepface, "build_model", build_model)
    with pytest.raises(
        EstimatorError, match=r"race_model_single_batch\.pth of its releases into .*\.deepface"
    ) as caught:
        DeepFaceEstimator(tmp_path)
    assert "\n" not in str(caught.value)


def test_deepface_that_returns_nothing_usable(deepface: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    estimator = DeepFaceEstimator()
    monkeypatch.setattr(deepface, "analyze", lambda **_: [])
    assert estimator.estimate([RED]) == [None]
    nan = dict.fromkeys(DeepFaceEstimator.categories, float("nan"))
    monkeypatch.setattr(deepface, "analyze", lambda **_: [{"race": nan}])
    assert estimator.estimate([RED]) == [None]


def test_packages_that_are_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "deepface", None)
    monkeypatch.setenv("DEEPFACE_BACKEND_ENGINE", "pytorch")
    with pytest.raises(EstimatorError, match=r"pip install 'ray-fer\[ethnicity\]'"):
        load_estimator("deepface")
    (tmp_path / "model.pt").touch()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EstimatorError, match="pip install --no-deps facexformer-pipeline"):
        load_estimator("facexformer", tmp_path / "model.pt")
    with pytest.raises(EstimatorError, match="expected one of deepface, facexformer"):
        load_estimator("clairvoyance")


NETWORK = '''
import torch
from torchvision.models import swin_b


class FaceXFormer(torch.nn.Module):
    """Race logits from the mean colour; like the real one it asks for ImageNet weights and filters by task."""

    def __init__(self):
        super().__init__()
        backbone = swin_b(weights="IMAGENET1K_V1")
        self.channels = next(backbone.parameters()).shape[1]
        self.race = torch.nn.Linear(self.channels, 5)

    def forward(self, x, labels, tasks):
        assert x.shape[1:] == (3, 224, 224)
        wanted = tasks == 4
        race = self.race(x.mean((2, 3)))[wanted]
        return (None,) * 6 + (race, None)
'''


@pytest.fixture
def facexformer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A facexformer_pipeline on sys.path whose own __init__ cannot be imported, and a checkpoint; gives its path."""
    network = tmp_path / "facexformer_pipeline" / "network"
    (network / "models").mkdir(parents=True)
    (network.parent / "__init__.py").write_text("import facenet_pytorch_that_is_not_there\n")
    (network / "__init__.py").write_text("from .models import FaceXFormer\n")
    (network / "models" / "__init__.py").write_text("from .facexformer import FaceXFormer\n")
    (network / "models" / "facexformer.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(str(tmp_path))
    weight = torch.zeros(5, 3)
    weight[3, 0] = weight[1, 2] = 4.0  # red is Asian, blue is Black
    torch.save({"state_dict_backbone": {"race.weight": weight, "race.bias": torch.zeros(5)}}, tmp_path / "model.pt")
    return tmp_path / "model.pt"


def test_facexformer_gives_the_softmax_of_its_race_logits(facexformer: Path) -> None:
    red, blue = FaceXFormerEstimator(facexformer).estimate([RED, BLUE])
    assert red is not None
    assert blue is not None
    channel = (250 / 255 - 0.485) / 0.229  # ImageNet's statistics of the red channel
    others = np.exp(4.0 * (10 / 255 - 0.406) / 0.225)
    expected = np.exp(4.0 * channel) / (np.exp(4.0 * channel) + others + 3)
    assert red.probabilities["Asian"] == pytest.approx(expected, rel=1e-4)
    assert max(blue.probabilities, key=lambda name: blue.probabilities[name]) == "Black"
    assert tuple(red.probabilities) == FACEXFORMER_CATEGORIES
    assert FaceXFormerEstimator(facexformer).estimate([]) == []


def test_facexformer_weights_that_are_wrong(facexformer: Path, tmp_path: Path) -> None:
    with pytest.raises(EstimatorError, match=r"no such file; download ckpts/model\.pt"):
        FaceXFormerEstimator(tmp_path / "none.pt")
    for content in ({"race.bias": torch.zeros(5)}, {"state_dict_backbone": {"race.bias": torch.zeros(7)}}):
        torch.save(content, tmp_path / "wrong.pt")
        with pytest.raises(EstimatorError, match=r"not FaceXFormer's ckpts/model\.pt"):
            FaceXFormerEstimator(tmp_path / "wrong.pt")
    (tmp_path / "damaged.pt").write_bytes(b"PK not really")
    with pytest.raises(EstimatorError, match=r"not FaceXFormer's ckpts/model\.pt"):
        FaceXFormerEstimator(tmp_path / "damaged.pt")


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("code ran",)


def test_facexformer_weights_run_no_code(facexformer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict_backbone": Malicious()}, tmp_path / "evil.pt")
    with pytest.raises(EstimatorError, match="not FaceXFormer's"):
        FaceXFormerEstimator(tmp_path / "evil.pt")
    assert "code ran" not in capsys.readouterr().out
