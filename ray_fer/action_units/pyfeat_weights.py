"""Where py-feat's AU weights are found: a path of the user's first, then py-feat's cache, then its hub."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Weights:
    """One file of weights and the Hugging Face repository that has it."""

    repository: str
    file: str


MULTITASK = Weights("py-feat/face_multitask_v2", "face_multitask_v28.safetensors")
LANDMARKS = Weights("py-feat/mobilefacenet", "mobilefacenet_model_best.pth.tar")
CLASSIFIERS = {
    "xgb": Weights("py-feat/xgb_au", "xgb_au_classifier_v2.skops"),
    "svm": Weights("py-feat/svm_au", "svm_au_classifier_v2.skops"),
}

# What py-feat's own files hold beside scikit-learn's and numpy's types, which skops trusts. py-feat itself trusts
# whatever a file names (`trusted=get_untrusted_types(file)`), which lets a forged file run code.
_TRUSTED = (
    "feat.au_detectors.StatLearning.SL_test.SVMClassifier",
    "feat.au_detectors.StatLearning.SL_test.XGBClassifier",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
)


def find_weights(weights: Weights, given: str | Path | None = None) -> Path:
    """Path of a file of weights.

    `given` is the file, or a folder that holds it under its own name; then nothing else is tried. Without it, py-feat's
    cache (`feat/resources`, where py-feat itself keeps downloads) and the hub. Raises FileNotFoundError that says what
    to fetch, from where, and where to put it.
    """
    if given is not None:
        path = Path(given)
        path = path / weights.file if path.is_dir() else path
        if path.is_file():
            return path
        raise FileNotFoundError(f"{path}: no such file; {_advice(weights)}")
    import feat
    from huggingface_hub import hf_hub_download

    cache = os.path.join(feat.__path__[0], "resources")
    try:
        return Path(hf_hub_download(repo_id=weights.repository, filename=weights.file, cache_dir=cache))
    except Exception as error:  # the hub's client, its HTTP library and the network fail in a dozen ways: one remedy
        raise FileNotFoundError(
            f"py-feat's weights {weights.file} are not on this machine and the hub cannot be reached "
            f"({type(error).__name__}); {_advice(weights)}"
        ) from error


def _advice(weights: Weights) -> str:
    return (
        f"download {weights.file} from https://huggingface.co/{weights.repository} and pass weights=FOLDER, a folder "
        "that holds it"
    )


def load_classifiers(path: Path) -> Any:
    """py-feat's fitted AU classifiers from a .skops file. Raises ValueError for a file that holds anything else.

    skops files name the types they are made of; only those of py-feat's own files are made.
    """
    from zipfile import BadZipFile

    import skops.io

    if path.suffix != ".skops":
        raise ValueError(f"{path}: AU classifiers are loaded from .skops files only; a pickle can run any code")
    try:
        unknown = set(skops.io.get_untrusted_types(file=path)) - set(_TRUSTED)
        if unknown:
            raise ValueError(f"{path} holds types that py-feat's weights do not: {', '.join(sorted(unknown))}")
        return skops.io.load(path, trusted=list(_TRUSTED))
    except (BadZipFile, KeyError, TypeError) as error:
        raise ValueError(f"{path}: no .skops file of py-feat's: {error}") from error
