"""The two model stages, as plain classes: Serve replicas hold one each, `predict` calls them in process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ray_fer.bundle import load_bundle
from ray_fer.models.batch import ClipBatch
from ray_fer.models.transform import TransformConfig, normalise, prepare
from ray_fer.streaming.payload import PictureRequest, decode
from ray_fer.streaming.references import ReferencePolicy
from ray_fer.video.face_clip import FaceFrame, find_face
from ray_fer.video.faces import FaceFinder
from ray_fer.video.limits import MediaError

_LARGEST_BATCH = 8


@dataclass(frozen=True)
class FaceResult:
    """What the face stage says of one frame: a face, none (`face` None), or why it could not be fetched or decoded.

    `crop` is `TransformConfig.crop` of the model that the face was cut for.
    """

    face: FaceFrame | None
    error: str | None = None
    crop: tuple[float, float, float, int] | None = None

    def serves(self, transform: TransformConfig) -> bool:
        """Whether the result is also that for another model."""
        return self.face is None or self.crop == transform.crop


class FaceStage:
    """Encoded images and video segments -> aligned faces. Holds one FaceFinder; one caller at a time.

    Crops are cut and resized here as the model reads them, uint8 [canvas,canvas,3]: once for a frame and not once for
    each window that chose it, and less has to be sent. Payloads by reference are fetched where `references` allows it;
    by default it allows none.
    """

    def __init__(self, references: ReferencePolicy | None = None) -> None:
        self._references = references or ReferencePolicy()
        self._finder = FaceFinder()

    def find(self, requests: Sequence[PictureRequest], transform: TransformConfig) -> list[list[FaceResult]]:
        """One list per request, with one result per index; what is broken is an error there, never an exception.

        Raises StoreAwayError when the store of a reference does not answer.
        """
        return [self._results(request, transform) for request in requests]

    def close(self) -> None:
        self._finder.close()

    def _results(self, request: PictureRequest, transform: TransformConfig) -> list[FaceResult]:
        results = {index: self._one(picture, transform) for index, picture in decode(request, self._references)}
        return [results[index] for index in request.indices]

    def _one(self, picture: np.ndarray | MediaError, transform: TransformConfig) -> FaceResult:
        if isinstance(picture, MediaError):
            return FaceResult(None, picture.reason)
        face = find_face(self._finder, picture)
        if face is None:
            return FaceResult(None)
        (canvas,) = prepare(torch.from_numpy(face.crop[None]), transform)
        crop = canvas.permute(1, 2, 0).contiguous().numpy()
        return FaceResult(replace(face, crop=crop), crop=transform.crop)


class ExpressionStage:
    """Aligned face clips -> class probabilities, with the model of a bundle, on a GPU where this process has one.

    Raises BundleError.
    """

    def __init__(self, bundle: str | Path, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        loaded = load_bundle(bundle)
        self.transform = loaded.config.preprocessing
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = loaded.model.to(self._device)

    @torch.inference_mode()
    def probabilities(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Crops of the face stage, uint8 [T,canvas,canvas,3] of each clip -> float32 [N,C].

        No culture label: the global prior answers.
        """
        return np.concatenate([self._of_batch(batch) for batch in batches(clips)])

    def _of_batch(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        canvases = torch.from_numpy(np.stack(clips)).to(self._device).permute(0, 1, 4, 2, 3)
        output = self._model(ClipBatch(frames=normalise(canvases, self.transform)))
        return output.logits.float().softmax(dim=1).cpu().numpy()


def batches(clips: Sequence[np.ndarray]) -> Iterator[Sequence[np.ndarray]]:
    """The clips in their order, in batches of `_LARGEST_BATCH` and of the powers of two below it.

    For every size of a batch that it has seen torch keeps what it has prepared: with any number from 1 to 16 the
    packaged model held 380 MB more than it needs to begin with, with these four sizes 90. Larger ones are no faster.
    """
    size, start = _LARGEST_BATCH, 0
    while start < len(clips):
        while size > len(clips) - start:
            size //= 2
        yield clips[start : start + size]
        start += size
