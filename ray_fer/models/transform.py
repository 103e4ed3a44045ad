"""The model's own transform: from aligned 224 px face crops to what the network reads.

Two steps, so that training can augment between them: `prepare` cuts and resizes once (uint8, cheap to keep),
`normalise` zooms, crops and standardises. Serving, `predict` and validation run both without augmentation.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_LUMA = (0.2989, 0.587, 0.114)


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
    difference: bool = Field(
        False, description="append each frame's difference to the first frame, as three more channels"
    )
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @property
    def channels(self) -> int:
        """Of the network's input."""
        return 6 if self.difference else 3

    @property
    def crop(self) -> tuple[float, float, float, int]:
        """All that `prepare` reads of it: configurations with equal ones cut the same canvas from a face."""
        return self.left, self.top, self.side, self.canvas

    @property
    def whole(self) -> TransformConfig:
        """That of images of which nothing is cut off: whole frames, and the apex."""
        return self.model_copy(update={"left": 0.0, "top": 0.0, "side": 1.0, "canvas": self.size, "zoom": 1.0})


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
    crop: bool = Field(False, description="see any part of the canvas of the size of `zoom`, instead of the middle")
    jitter: float = Field(0.0, ge=0, lt=1, description="brightness, contrast and saturation, times 1 - jitter at least")


def prepare(frames: Tensor, config: TransformConfig) -> Tensor:
    """Aligned crops uint8 [T,H,W,3] -> uint8 [T,3,canvas,canvas]."""
    height = frames.shape[1]
    left, top, side = (round(value * height) for value in (config.left, config.top, config.side))
    cut = frames[:, top : top + side, left : left + side].permute(0, 3, 1, 2)
    if cut.shape[-1] == config.canvas:
        return cut.contiguous()
    resized = functional.interpolate(cut.float(), (config.canvas, config.canvas), mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class Drawn:
    """What chance decided for each of N clips; made by `draw`. All tensors have N rows, on the CPU."""

    matrix: Tensor
    """float32 [N,2,3], output to input coordinates in the -1..1 convention of `affine_grid`."""
    gamma: Tensor
    gain: Tensor
    """float32 [N,3]"""
    offset: Tensor
    """float32 [N,3]"""
    grey: Tensor
    """bool [N]"""
    jitter: Tensor
    """float32 [N,3], factors of brightness, contrast and saturation"""

    def rows(self, rows: Tensor) -> Drawn:
        """The clips at these places: each worker takes its share of one draw for the whole batch."""
        return Drawn(*(getattr(self, field.name)[rows] for field in fields(self)))


def draw(count: int, config: TransformConfig, augment: Augment, generator: torch.Generator | None = None) -> Drawn:
    """One random geometry and colour change for each of `count` clips."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator)

    angle = normal() * augment.rotate
    scale_y = config.zoom * (1 + normal() * augment.scale)
    scale_x = scale_y * (1 + normal() * augment.aspect)
    if augment.flip:
        scale_x = torch.where(torch.rand(count, generator=generator) < 0.5, -scale_x, scale_x)
    shift = normal(2) * augment.shift
    gamma, gain = torch.exp(normal() * augment.gamma), 1 + normal(3) * augment.colour
    offset = normal(3) * augment.colour / 2
    grey = torch.rand(count, generator=generator) < augment.grey
    if augment.crop:
        shift = shift + (2 * torch.rand(count, 2, generator=generator) - 1) * (1 - config.zoom)
    jitter = 1 + augment.jitter * (2 * torch.rand(count, 3, generator=generator) - 1)
    first = torch.stack([scale_x * angle.cos(), -scale_y * angle.sin(), shift[:, 0]], dim=1)
    second = torch.stack([scale_x * angle.sin(), scale_y * angle.cos(), shift[:, 1]], dim=1)
    return Drawn(torch.stack([first, second], dim=1), gamma, gain, offset, grey, jitter)


def normalise(frames: Tensor, config: TransformConfig, drawn: Drawn | None = None) -> Tensor:
    """Canvases uint8 [B,T,3,canvas,canvas] -> float32 [B,T,3,size,size], standardised; 6 channels with `difference`.

    With `drawn`, each clip is augmented as drawn, all its frames in the same way.
    """
    pixels = frames.float() / 255
    if drawn is not None:
        pixels = _warp(pixels, drawn.matrix.to(frames.device), config.size)
        pixels = _coloured(pixels, drawn)
    elif config.zoom != 1.0 or config.size != config.canvas:
        matrix = torch.tensor([[config.zoom, 0.0, 0.0], [0.0, config.zoom, 0.0]], device=frames.device)
        pixels = _warp(pixels, matrix.expand(len(frames), 2, 3), config.size)
    mean = torch.tensor(config.mean, device=frames.device).view(3, 1, 1)
    std = torch.tensor(config.std, device=frames.device).view(3, 1, 1)
    standard = (pixels - mean) / std
    # Not in the papers: a small model that is trained from nothing on hundreds of clips needs to be shown what moves.
    return torch.cat([standard, standard - standard[:, :1]], dim=2) if config.difference else standard


def moved(images: Tensor, drawn: Drawn, size: int) -> Tensor:
    """float [B,C,H,W] -> [B,C,size,size]: each image zoomed, shifted and mirrored as drawn, its values unchanged."""
    return _warp(images[:, None], drawn.matrix.to(images.device), size)[:, 0]


def _warp(pixels: Tensor, matrix: Tensor, size: int) -> Tensor:
    batch, steps = pixels.shape[:2]
    grid = functional.affine_grid(matrix, [batch, 3, size, size], align_corners=False)
    # The frames of a clip share one grid: fold them into channels instead of repeating the grid per frame.
    folded = functional.grid_sample(pixels.flatten(1, 2), grid, padding_mode="border", align_corners=False)
    return folded.unflatten(1, (steps, 3))


def _coloured(pixels: Tensor, drawn: Drawn) -> Tensor:
    gamma = drawn.gamma.to(pixels.device).view(-1, 1, 1, 1, 1)
    gain, offset = (each.to(pixels.device).view(-1, 1, 3, 1, 1) for each in (drawn.gain, drawn.offset))
    grey = drawn.grey.to(pixels.device).view(-1, 1, 1, 1, 1)
    pixels = pixels.clamp(1e-4, 1) ** gamma * gain + offset
    if (drawn.jitter != 1).any():
        pixels = _jittered(pixels, drawn.jitter.to(pixels.device))
    return torch.where(grey, pixels.mean(dim=2, keepdim=True).expand_as(pixels), pixels)


def _jittered(pixels: Tensor, factors: Tensor) -> Tensor:
    """Brightness, contrast and saturation of each clip, one after the other, as torchvision defines them."""
    brightness, contrast, saturation = factors[:, :, None, None, None, None].unbind(1)
    luma = torch.tensor(_LUMA, device=pixels.device).view(3, 1, 1)
    pixels = (pixels * brightness).clamp(0, 1)
    level = (pixels * luma).sum(dim=2, keepdim=True).mean(dim=(1, 3, 4), keepdim=True)
    pixels = torch.lerp(level, pixels, contrast).clamp(0, 1)
    return torch.lerp((pixels * luma).sum(dim=2, keepdim=True), pixels, saturation).clamp(0, 1)
