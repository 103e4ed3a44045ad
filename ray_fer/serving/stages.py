"""The two model stages, as plain classes: Serve replicas hold one each, `predict` calls them in process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ray_fer.bundle import BundleConfig, load_bundle
from ray_fer.models import reads
from ray_fer.models.batch import ClipBatch
from ray_fer.models.transform import TransformConfig, normalise, prepare
from ray_fer.streaming.messages import ModelInfo
from ray_fer.streaming.payload import PictureRequest, decode
from ray_fer.streaming.references import ReferencePolicy
from ray_fer.video.face_clip import FaceFrame, find_face
from ray_fer.video.faces import FaceFinder
from ray_fer.video.limits import MediaError

_LARGEST_BATCH = 8


@dataclass(frozen=True)
class FaceResult:
    """What the face stage says of one frame: a face, none (`face` None), or why it could not be fetched or decoded."""

    face: FaceFrame | None
    error: str | None = None


class FaceStage:
    """Encoded images and video segments -> aligned faces. Holds one FaceFinder; one caller at a time.

    Crops are cut and resized here as the model reads them, uint8 [canvas,canvas,3]: once for a frame and not once for
    each window that chose it, and less has to be sent. Payloads by reference are fetched where `references` allows it;
    by default it allows none.
    """

    def __init__(self, transform: TransformConfig, references: ReferencePolicy | None = None) -> None:
        self._transform = transform
        self._references = references or ReferencePolicy()
        self._finder = FaceFinder()

    def find(self, requests: Sequence[PictureRequest]) -> list[list[FaceResult]]:
        """One list per request, with one result per index; what is broken is an error there, never an exception.

        Raises StoreAwayError when the store of a reference does not answer.
        """
        return [self._results(request) for request in requests]

    def close(self) -> None:
        self._finder.close()

    def _results(self, request: PictureRequest) -> list[FaceResult]:
        results = {index: self._one(picture) for index, picture in decode(request, self._references)}
        return [results[index] for index in request.indices]

    def _one(self, picture: np.ndarray | MediaError) -> FaceResult:
        if isinstance(picture, MediaError):
            return FaceResult(None, picture.reason)
        face = find_face(self._finder, picture)
        if face is None:
            return FaceResult(None)
        (canvas,) = prepare(torch.from_numpy(face.crop[None]), self._transform)
        return FaceResult(replace(face, crop=canvas.permute(1, 2, 0).contiguous().numpy()))


def check_live(config: BundleConfig) -> None:
    """Raise ValueError for a model that reads more than faces, of which the windows of a stream are made."""
    more = [name for name in reads(config.model, config.model_config_) if name != "frames"]
    if more:
        advice = ", or train it with --set model_config_.streams=face" if more == ["scene"] else ""
        raise ValueError(
            f"{config.name} reads {' and '.join(more)} of a clip, and windows of video hold faces alone; test it on a "
            f"clip store with `ray-fer evaluate`{advice}"
        )


class ExpressionStage:
    """Aligned face clips -> class probabilities, with the model of a bundle. ValueError as `check_live`."""

    def __init__(self, bundle: str | Path, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self._bundle = load_bundle(bundle)
        check_live(self._bundle.config)
        self.classes = self._bundle.config.classes
        self.frames = self._bundle.config.preprocessing.frames
        self.info = ModelInfo(name=self._bundle.config.name, version=self._bundle.config.version)
        self.transform = self._bundle.config.preprocessing

    @torch.inference_mode()
    def probabilities(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Crops of the face stage, uint8 [T,canvas,canvas,3] of each clip -> float32 [N,C].

        No culture label: the global prior answers.
        """
        return np.concatenate([self._of_batch(batch) for batch in batches(clips)])

    def _of_batch(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        canvases = torch.from_numpy(np.stack(clips)).permute(0, 1, 4, 2, 3)
        output = self._bundle.model(ClipBatch(frames=normalise(canvases, self.transform)))
        return output.logits.float().softmax(dim=1).numpy()


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
