"""Can the groups be told apart? ResNet-18 features and a linear classifier in five folds.

CA-FER section II.B.1 reports 88.0% accuracy in 5-fold cross-validation for a ResNet-18 classifier "trained on the
filtered features". Whether the network itself was trained is not said; here an ImageNet ResNet-18 gives 512 features of
one face per clip and a logistic regression classifies them. A high accuracy shows consistent groups only if no person
is in two folds, for otherwise persons are recognised: folds are split by `subject_id` wherever all clips have one.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

FEATURES = 512
SIDE = 224
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)


class WeightsError(ValueError):
    """ResNet-18 weights that cannot be had; the message says where to put which file."""


@dataclass(frozen=True)
class Separability:
    """Accuracy (0 to 1) of each fold, their mean and standard deviation (over folds, n - 1).

    `confusion[i][j]` counts clips of group i taken for group j. `chance` is the share of the largest group. All are
    None or empty where `reason` says why; `note` warns when persons could not be kept apart.
    """

    groups: tuple[str, ...]
    clips: int
    by_subject: bool
    accuracy: tuple[float, ...] = ()
    mean: float | None = None
    std: float | None = None
    chance: float | None = None
    confusion: tuple[tuple[int, ...], ...] = ()
    reason: str | None = None
    note: str | None = None


class FaceFeatures:
    """ResNet-18 without its last layer: face crops in, 512 features out.

    `weights` is torchvision's ``resnet18`` state dict (default: where torchvision keeps its downloads). With
    `random_weights` the network is untrained, for tests. Raises WeightsError.
    """

    def __init__(self, weights: Path | None = None, random_weights: bool = False) -> None:
        import torch
        import torchvision

        network = torchvision.models.resnet18(weights=None)
        if not random_weights:
            file = weights or _default_weights()
            try:
                network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
            except (RuntimeError, TypeError, AttributeError, EOFError, pickle.UnpicklingError) as error:
                raise WeightsError(f"{file}: not torchvision's resnet18 weights: {_first_line(error)}") from error
        network.fc = torch.nn.Identity()
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network: Any = network.to(self._device).eval()

    def __call__(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """Features float32 [N,512] of N crops uint8 [H,W,3] RGB."""
        import torch

        resized = [cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for crop in crops]
        batch = ((np.stack(resized).astype(np.float32) / 255 - _MEAN) / _STD).transpose(0, 3, 1, 2)
        with torch.inference_mode():
            return self._network(torch.from_numpy(np.ascontiguousarray(batch)).to(self._device)).cpu().numpy()


def separability(
    features: np.ndarray,
    groups: Sequence[str],
    subjects: Sequence[str | None] | None = None,
    folds: int = 5,
    seed: int = 42,
) -> Separability:
    """Cross-validated accuracy of telling `groups` [N] apart from `features` [N,D].

    Folds are stratified by group; no subject is in two folds when every clip has a subject. Not defined with fewer than
    two groups, or when a group has fewer clips (or subjects) than there are folds: then `reason` says so.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import confusion_matrix
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    labels = np.array(groups)
    names = tuple(np.unique(labels).tolist())
    people = None if subjects is None or any(subject is None for subject in subjects) else np.array(subjects)
    note = None
    if people is None:
        note = "not all clips have a subject_id: a person may be in two folds, and be recognised instead of the group"
    reason = _too_few(labels, people, folds)
    if reason is not None:
        return Separability(names, len(labels), people is not None, reason=reason, note=note)
    splitter = (StratifiedKFold if people is None else StratifiedGroupKFold)(folds, shuffle=True, random_state=seed)
    accuracy = []
    confusion = np.zeros((len(names), len(names)), int)
    for train, test in splitter.split(features, labels, people):
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        guess = classifier.fit(features[train], labels[train]).predict(features[test])
        accuracy.append(float((guess == labels[test]).mean()))
        confusion += confusion_matrix(labels[test], guess, labels=list(names))
    return Separability(
        names,
        len(labels),
        people is not None,
        tuple(accuracy),
        float(np.mean(accuracy)),
        float(np.std(accuracy, ddof=1)),
        float(max(np.mean(labels == name) for name in names)),
        tuple(tuple(row) for row in confusion.tolist()),
        note=note,
    )


def _too_few(labels: np.ndarray, people: np.ndarray | None, folds: int) -> str | None:
    names = np.unique(labels)
    if len(names) < 2:
        return "there are fewer than two groups"
    what = "clips" if people is None else "subjects"
    for name in names:
        members = labels == name
        count = int(members.sum()) if people is None else len(np.unique(people[members]))
        if count < folds:
            return f"{name} has {count} {what}, fewer than the {folds} folds"
    return None


def _default_weights() -> Path:
    import torch
    from torchvision.models import ResNet18_Weights

    url = ResNet18_Weights.IMAGENET1K_V1.url
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not file.is_file():
        raise WeightsError(f"ResNet-18's ImageNet weights: download {url} to {file}, or pass --resnet-weights")
    # torchvision's files carry the start of their SHA-256 in their name.
    if not hashlib.sha256(file.read_bytes()).hexdigest().startswith(file.stem.rsplit("-", 1)[-1]):
        raise WeightsError(f"{file}: its SHA-256 does not match its name; download {url} again")
    return file


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
