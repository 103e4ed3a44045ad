"""py-feat's Action Units, and nothing else of py-feat: batches of aligned crops in, 20 AUs out.

py-feat's detectors find faces, landmarks, emotions, gaze and identities, and keep a growing table. Here its AU models
run alone on the crops of the clip store:

* ``v2``: the multitask network of `Detectorv2` (ConvNeXt V2). Of its heads only the AU branch is evaluated. Its AUs are
  probabilities of presence.
* ``v1``: `Detectorv1`'s way, a MobileFaceNet that finds 68 landmarks, HOG of the aligned face and one classifier per
  AU: ``xgb`` (probabilities) or ``svm`` (0 or 1).

**Geometry.** Both were trained on RetinaFace's boxes, widened by 1.2. In py-feat's own example of such a box (its
`Feat_Test.csv`) it reaches from 1.33 eye distances above the eyes to the chin, 1.83 below, and is 2.13 wide. Crops of
the clip store have the eyes at a known place (`video.faces`), so that box is known too. v2's square has its longer
side, v1's keeps width and height apart (py-feat squeezes it). Either reaches beyond the crop, by a fifth of its side or
less: there v2 mirrors the picture and v1 paints black, as py-feat does at the edge of a frame. Faces are level here and
not in py-feat. Values therefore agree with py-feat's own closely, not exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ray_fer.action_units.pyfeat_weights import (
    CLASSIFIERS,
    LANDMARKS,
    MULTITASK,
    find_weights,
    load_classifiers,
)
from ray_fer.labels import AU_NAMES, index_of
from ray_fer.video.faces import ALIGNED_SIZE, EYE_DISTANCE, EYE_HEIGHT
from ray_fer.video.images import decode_image

DETECTORS = ("v2", "v1")
_ABOVE_EYES, _BELOW_EYES, _WIDTH = 1.33, 1.83, 2.13  # of RetinaFace's box, in eye distances
_WIDER = 1.2


class _AuHead(Protocol):
    def __call__(self, crops: Tensor) -> np.ndarray:
        """Crops float [N,3,224,224] in 0..1 on the head's device -> AUs [N,20] in 0..1."""


class PyFeatExtractor:
    """See `extractor.ActionUnitExtractor`.

    `detector` is "v2" or "v1", `au_model` v1's classifiers ("xgb" or "svm"). `weights` is a folder with the files of
    `pyfeat_weights` (for v2 the file itself will do); without it py-feat's cache and hub are tried. `device` is torch's
    name, by default a GPU if there is one. At most `batch_size` crops are decoded and on the device at a time, over the
    borders of clips. Raises FileNotFoundError or ValueError with advice.
    """

    columns = ("frames",)
    active = 0.5

    def __init__(
        self,
        detector: str = "v2",
        weights: str | Path | None = None,
        au_model: str = "xgb",
        device: str | None = None,
        batch_size: int = 32,
    ) -> None:
        index_of(detector, DETECTORS, "py-feat detector")
        if batch_size < 1:
            raise ValueError(f"batch size {batch_size} is below 1")
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._batch_size = batch_size
        self._head: _AuHead | None
        if detector == "v2":
            self.name = "pyfeat-v2"
            self._head = _multitask_head(find_weights(MULTITASK, weights), self._device)
        else:
            index_of(au_model, tuple(CLASSIFIERS), "AU model of py-feat's v1")
            if weights is not None and Path(weights).is_file():
                raise ValueError(f"{weights}: py-feat's v1 needs two files of weights; give the folder that holds them")
            self.name = f"pyfeat-v1-{au_model}"
            self._head = _classifier_head(
                find_weights(LANDMARKS, weights), find_weights(CLASSIFIERS[au_model], weights), au_model, self._device
            )

    def extract(self, clips: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
        """AU intensities float32 [T,20] of each clip, NaN in frames without a face; those are not even decoded."""
        results = [np.full((len(clip["face_found"]), len(AU_NAMES)), np.nan, np.float32) for clip in clips]
        places = [
            (number, int(frame))
            for number, clip in enumerate(clips)
            for frame in np.flatnonzero(np.asarray(clip["face_found"], bool))
        ]
        for start in range(0, len(places), self._batch_size):
            batch = places[start : start + self._batch_size]
            aus = self._read([_crop(clips[number], frame) for number, frame in batch])
            for (number, frame), values in zip(batch, aus, strict=True):
                results[number][frame] = values
        return results

    def close(self) -> None:
        """Forget the model, so that its memory is free."""
        self._head = None

    def _read(self, crops: list[np.ndarray]) -> np.ndarray:
        if self._head is None:
            raise ValueError("this PyFeatExtractor is closed")
        pixels = torch.from_numpy(np.stack(crops)).to(self._device)
        with torch.inference_mode():
            return self._head(pixels.permute(0, 3, 1, 2).float() / 255)


def _crop(clip: Mapping[str, Any], frame: int) -> np.ndarray:
    image = decode_image(clip["frames"][frame], f"{clip['clip_id']}, frame {frame}")
    if image.shape != (ALIGNED_SIZE, ALIGNED_SIZE, 3):
        raise ValueError(f"{clip['clip_id']}: frame {frame} is no aligned crop of {ALIGNED_SIZE} px: {image.shape}")
    return image


def face_box() -> tuple[float, float, float, float]:
    """RetinaFace's box (left, top, right, bottom) in pixels of an aligned crop; it may reach beyond it."""
    eyes = EYE_DISTANCE * ALIGNED_SIZE
    middle, level = ALIGNED_SIZE / 2, EYE_HEIGHT * ALIGNED_SIZE
    return (
        middle - _WIDTH / 2 * eyes, level - _ABOVE_EYES * eyes, middle + _WIDTH / 2 * eyes, level + _BELOW_EYES * eyes,
    )  # fmt: skip


def _boxes(crops: Tensor) -> tuple[Tensor, Tensor]:
    """The same box for every crop [N,4], and which crop each belongs to [N]."""
    boxes = torch.tensor(face_box(), device=crops.device).expand(len(crops), 4)
    return boxes, torch.arange(len(crops), device=crops.device)


def _multitask_head(path: Path, device: torch.device) -> _AuHead:
    """The AU branch of py-feat's multitask network. Raises ValueError for weights that are not its."""
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: py-feat's multitask weights are a .safetensors file; a pickle can run any code")
    from feat.multitask.inference import CHIP_SIZE, MultitaskModel
    from feat.utils.image_operations import extract_face_square_pad_torch

    try:
        network = MultitaskModel(device=device, weights_path=path)
    except Exception as error:  # safetensors, json and torch each have their own for a file that is something else
        raise ValueError(f"{path} does not hold py-feat's multitask weights: {error}") from error
    missing = [au for au in AU_NAMES if au not in network.au_names]
    if missing:
        raise ValueError(f"{path}: the network has no {', '.join(missing)}")
    columns = [network.au_names.index(au) for au in AU_NAMES]

    def head(crops: Tensor) -> np.ndarray:
        boxes, owners = _boxes(crops)
        chips, _ = extract_face_square_pad_torch(crops, boxes, CHIP_SIZE, _WIDER, owners)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=network.amp):
            found = _au_probabilities(network.model, network.preprocess(chips))
        return found.float().cpu().numpy()[:, columns]

    return head


def _au_probabilities(model: Any, images: Tensor) -> Tensor:
    """What `MEGraphAUv2.forward` does for AUs, without mesh, pose, blendshapes, emotions and gaze (a test compares)."""
    features = model.proj(model.backbone(images)[-1])
    maps, nodes = model.afg(features)
    graph = model.fgg(nodes)
    if not model.drop_mefl:
        graph, _ = model.mefl(maps, features, graph)
    found: Tensor = model.sc(graph)
    return found


def _classifier_head(landmarks: Path, classifiers: Path, au_model: str, device: torch.device) -> _AuHead:
    """Landmarks, HOG and one classifier per AU, as `Detectorv1.forward`. Raises ValueError for other files."""
    import xgboost  # noqa: F401  (before py-feat's torch code: two OpenMP runtimes crash in the other order, says py-feat)
    from feat.au_detectors.StatLearning.SL_test import SVMClassifier, XGBClassifier
    from feat.landmark_detectors.mobilefacenet_test import MobileFaceNet
    from feat.utils import N_OPENFACE_LANDMARKS_2D_FLAT
    from feat.utils.face_mask import extract_hog_features_batched
    from feat.utils.image_operations import HOGLayer, extract_face_from_bbox_torch

    size = 112
    network = MobileFaceNet([size, size], N_OPENFACE_LANDMARKS_2D_FLAT, device=device)
    try:
        network.load_state_dict(torch.load(landmarks, map_location="cpu", weights_only=True)["state_dict"])
    except Exception as error:
        raise ValueError(f"{landmarks} does not hold py-feat's MobileFaceNet: {error}") from error
    network.to(device).eval()
    detector = {"xgb": XGBClassifier, "svm": SVMClassifier}[au_model]()
    loaded = load_classifiers(classifiers)
    if not isinstance(loaded, type(detector)):
        raise ValueError(f"{classifiers} holds a {type(loaded).__name__}, not the {au_model} classifiers")
    parts = ("scaler_upper", "pca_model_upper", "scaler_lower", "pca_model_lower", "scaler_full", "pca_model_full")
    # Without calibrators, which the file may hold: Detectorv1 leaves them out too, and its numbers are what is known.
    detector.load_weights(**{part: getattr(loaded, part) for part in (*parts, "classifiers")})
    hog = HOGLayer(
        orientations=8, pixels_per_cell=8, cells_per_block=2, block_normalization="L2-Hys", feature_vector=True,
        device=str(device),
    ).to(device)  # fmt: skip

    def head(crops: Tensor) -> np.ndarray:
        boxes, owners = _boxes(crops)
        faces, _ = extract_face_from_bbox_torch(crops, boxes, size, _WIDER, owners)
        points = network(faces)[0]
        features, aligned = extract_hog_features_batched(faces, points, hog_layer=hog)
        return np.clip(np.asarray(detector.detect_au(frame=features, landmarks=[aligned]), np.float32), 0, 1)

    return head
