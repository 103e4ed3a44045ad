"""The model's own transform: from aligned 224 px face crops to what the network reads.

Two steps, so that training can augment between them: `prepare` cuts and resizes once (uint8, cheap to keep),
`normalise` zooms, crops and standardises. Serving, `predict` and validation run both without augmentation.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class TransformConfig(BaseModel):
    """Geometry of the transform; part of the bundle. The default is the paper's: the whole crop at 224 px."""

    model_config = ConfigDict(extra="forbid")

    frames: int = Field(16, description="frames per clip or window")
    left: float = Field(0.0, description="left edge of the kept square, as a fraction of the crop's side")
    top: float = Field(0.0, description="top edge of the kept square")
    side: float = Field(1.0, gt=0, le=1, description="side of the kept square")
    canvas: int = Field(224, description="pixels that the kept square is resized to")
    zoom: float = Field(1.0, gt=0, le=1, description="share of the canvas that the network sees")
    size: int = Field(224, description="pixels of the network's input")
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


class Augment(BaseModel):
    """Strength of the training augmentation (standard deviations, unless said otherwise); 0 turns a part off."""

    model_config = ConfigDict(extra="forbid")

    flip: bool = True
    rotate: float = Field(0.08, description="radians")
    scale: float = 0.06
    aspect: float = 0.06
    shift: float = Field(0.04, description="fraction of the canvas")
    colour: float = Field(0.12, description="per-channel gain")
    gamma: float = 0.2
    grey: float = Field(0.15, description="probability of a grey clip")


def prepare(frames: Tensor, config: TransformConfig) -> Tensor:
    """Aligned crops uint8 [T,H,W,3] -> uint8 [T,3,canvas,canvas]."""
    height = frames.shape[1]
    left, top, side = (round(value * height) for value in (config.left, config.top, config.side))
    cut = frames[:, top : top + side, left : left + side].permute(0, 3, 1, 2)
    if cut.shape[-1] == config.canvas:
        return cut.contiguous()
    resized = functional.interpolate(cut.float(), (config.canvas, config.canvas), mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)


def normalise(frames: Tensor, config: TransformConfig, augment: Augment | None = None) -> Tensor:
    """Canvases uint8 [B,T,3,canvas,canvas] -> float32 [B,T,3,size,size], standardised.

    With `augment`, one random geometry and colour change per clip (the same for all its frames).
    """
    batch = frames.shape[0]
    pixels = frames.float() / 255
    if augment is not None or config.zoom != 1.0 or config.size != config.canvas:
        matrix = _geometry(batch, config.zoom, augment).to(frames.device)
        pixels = _warp(pixels, matrix, config.size)
    if augment is not None:
        pixels = _colours(pixels, augment)
    mean = torch.tensor(config.mean, device=frames.device).view(3, 1, 1)
    std = torch.tensor(config.std, device=frames.device).view(3, 1, 1)
    return (pixels - mean) / std


def _geometry(batch: int, zoom: float, augment: Augment | None) -> Tensor:
    """Affine matrices [B,2,3] from output to input coordinates, in the -1..1 convention of `affine_grid`."""
    if augment is None:
        return torch.tensor([[zoom, 0.0, 0.0], [0.0, zoom, 0.0]]).expand(batch, 2, 3)
    angle = torch.randn(batch) * augment.rotate
    scale_y = zoom * (1 + torch.randn(batch) * augment.scale)
    scale_x = scale_y * (1 + torch.randn(batch) * augment.aspect)
    if augment.flip:
        scale_x = torch.where(torch.rand(batch) < 0.5, -scale_x, scale_x)
    shift = torch.randn(batch, 2) * augment.shift
    first = torch.stack([scale_x * angle.cos(), -scale_y * angle.sin(), shift[:, 0]], dim=1)
    second = torch.stack([scale_x * angle.sin(), scale_y * angle.cos(), shift[:, 1]], dim=1)
    return torch.stack([first, second], dim=1)


def _warp(pixels: Tensor, matrix: Tensor, size: int) -> Tensor:
    batch, steps = pixels.shape[:2]
    grid = functional.affine_grid(matrix, [batch, 3, size, size], align_corners=False)
    # The frames of a clip share one grid: fold them into channels instead of repeating the grid per frame.
    folded = functional.grid_sample(pixels.flatten(1, 2), grid, padding_mode="border", align_corners=False)
    return folded.unflatten(1, (steps, 3))


def _colours(pixels: Tensor, augment: Augment) -> Tensor:
    batch, device = len(pixels), pixels.device
    gamma = torch.exp(torch.randn(batch, 1, 1, 1, 1, device=device) * augment.gamma)
    gain = 1 + torch.randn(batch, 1, 3, 1, 1, device=device) * augment.colour
    offset = torch.randn(batch, 1, 3, 1, 1, device=device) * augment.colour / 2
    pixels = pixels.clamp(1e-4, 1) ** gamma * gain + offset
    grey = torch.rand(batch, 1, 1, 1, 1, device=device) < augment.grey
    return torch.where(grey, pixels.mean(dim=2, keepdim=True).expand_as(pixels), pixels)
