"""What models read of a stored clip: the store's columns, and how each becomes a field of `ClipBatch`.

Two steps, as in `ray_fer.models.transform`: `prepared` decodes, cuts and resizes one clip's column once, into what is
cheap to keep; `standardised` makes a batch of it what the network reads, augmented in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ray_fer.models.batch import InputName
from ray_fer.models.transform import Drawn, TransformConfig, moved, normalise, prepare
from ray_fer.preprocessing.store import open_dataset
from ray_fer.storage import Location
from ray_fer.video.flow import stretched
from ray_fer.video.images import decode_image

COLUMNS: dict[InputName, str] = {"frames": "frames", "scene": "scene", "flow": "flow", "apex": "apex_frame"}
"""Where a clip store keeps each input."""
_CROP = 224
_ADVICE = {
    "scene": "keeps no whole frames, which the model reads beside the faces; preprocess again with --scene whole, or "
    "train on faces alone with --set model_config_.streams=face",
    "flow": "keeps no optical flow, which the model reads; preprocess again with --flow tvl1",
    "apex": "keeps no apex frames, which the model reads; preprocess again with --flow tvl1",
}


def check_inputs(store: Location, inputs: Sequence[InputName]) -> None:
    """Raise ValueError, with the option that helps, when a clip store lacks what a model reads."""
    there = open_dataset(store, "clips", "ray-fer preprocess").schema.names
    for name in inputs:
        if COLUMNS[name] not in there:
            raise ValueError(f"{store} {_ADVICE[name]}")


def prepared(name: InputName, stored: Any, transform: TransformConfig) -> Tensor:
    """One clip's value of a column -> the tensor of `kept_as`.

    `stored` is a list of T images, one image for the apex, and float16 [3,224,224] as bytes for the flow. A flow image
    is stretched to 0..1, each channel by itself, and resized bicubically, as EthnicMER's released code does.
    """
    if name == "flow":
        image = stretched(np.frombuffer(stored, np.float16).reshape(3, _CROP, _CROP).astype(np.float32))
        flow = torch.from_numpy(image)
        if transform.size != _CROP:
            side = (transform.size, transform.size)
            flow = functional.interpolate(flow[None], side, mode="bicubic", antialias=True, align_corners=False)[0]
        return flow.half()
    images = [stored] if name == "apex" else stored
    pixels = torch.from_numpy(np.stack([decode_image(data) for data in images]))
    return prepare(pixels, transform if name == "frames" else transform.whole)


def kept_as(name: InputName, transform: TransformConfig) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of what `prepared` gives: uint8 [T,3,canvas,canvas] of faces, [T,3,size,size] of whole frames,
    [1,3,size,size] of the apex, float16 [3,size,size] of the flow.
    """
    if name == "flow":
        return (3, transform.size, transform.size), np.dtype(np.float16)
    side = transform.canvas if name == "frames" else transform.size
    return (1 if name == "apex" else transform.frames, 3, side, side), np.dtype(np.uint8)


def standardised(name: InputName, kept: Tensor, transform: TransformConfig, drawn: Drawn | None = None) -> Tensor:
    """What `prepared` gave for B clips -> float32 field `name` of a `ClipBatch`, augmented as `drawn`.

    A flow image is not turned, and has no colours: what is drawn of both does not change it.
    """
    if name == "flow":
        flow = kept.float()
        if drawn is not None:
            flow = moved(flow, drawn, transform.size)
            mirrored = (drawn.matrix[:, 0, 0] < 0).to(flow.device)
            # To the left is now to the right; of values that were stretched to 0..1 the opposite is 1 - u.
            flow[mirrored, 0] = 1 - flow[mirrored, 0]
        mean, std = (torch.tensor(each, device=kept.device).view(3, 1, 1) for each in (transform.mean, transform.std))
        return (flow - mean) / std
    if name == "apex":
        # One frame has no difference to a first one.
        return normalise(kept, transform.whole.model_copy(update={"difference": False}), drawn)[:, 0]
    return normalise(kept, transform if name == "frames" else transform.whole, drawn)
