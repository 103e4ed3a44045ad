"""Where a model looked: attention rollout of its transformer, or Grad-CAM of its convolutions.

Rollout (Abnar and Zuidema, Quantifying Attention Flow in Transformers, 2020) follows attention through the layers and
the residual connections around them; it is the same whatever the model answered. Grad-CAM (Selvaraju et al. 2017) asks
which activations speak for the answer. Neither proves why a model answered as it did.

Weights are recomputed from what `qkv` puts out, because `scaled_dot_product_attention` does not give them: the model
runs unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ray_fer.evaluation.inputs import prepared, standardised
from ray_fer.models.backbones.vivit import Block, Encoder, ViViT
from ray_fer.models.batch import ClipBatch, InputName, ModelOutput
from ray_fer.models.card import Model
from ray_fer.models.transform import TransformConfig, normalise, prepare

ROLLOUT, GRAD_CAM = "attention rollout", "Grad-CAM"


def looked_into(model: nn.Module) -> tuple[str, nn.Module]:
    """Name and network of the part of a model that is looked into: the first of its `trunks`."""
    return next(iter(model.trunks().items())) if isinstance(model, Model) else ("whole", model)


def method(model: nn.Module) -> str | None:
    """What `saliency` does for this model, by name; None when it can do nothing."""
    _, trunk = looked_into(model)
    if _first(trunk, ViViT) is not None:
        return ROLLOUT
    return GRAD_CAM if _first(trunk, (nn.Conv2d, nn.Conv3d)) is not None else None


def saliency(model: nn.Module, batch: ClipBatch) -> Tensor:
    """Maps float [B,T',h,w], for each clip from 0 (least) to 1 (most): T' temporal indices of a grid of h x w patches.

    A clip of which no place stands out is 0 everywhere. Raises ValueError for a model without attention or convolutions
    that are known here. The model should be in eval mode.
    """
    name = method(model)
    if name is None:
        raise ValueError(f"{type(model).__name__} has neither a ViViT nor convolutions to look into")
    maps = vivit_rollout(model, batch) if name == ROLLOUT else grad_cam(model, batch)
    return stretched(maps)


def clip_saliency(
    model: nn.Module,
    config: TransformConfig,
    stored: Mapping[InputName, Any],
    faces: np.ndarray,
    culture: int | None = None,
    shown: int = 8,
    side: int = 224,
) -> tuple[np.ndarray, np.ndarray]:
    """What the network sees of one clip, and `saliency` of it: `shown` moments, evenly spaced.

    `stored` is what a clip store keeps of each input that the model reads, which `config` makes the network's input of,
    `culture` an index that the model is told. `faces` uint8 [T,H,W,3] are the aligned crops to show: the frames, and
    the apex alone for a model that reads no frames. Returns uint8 [K,side,side,3], K the lesser of T and `shown`, cut
    as the network's input is but with more pixels, and float [K,h,w]. Raises ValueError as `saliency` does.
    """
    inputs = {name: standardised(name, prepared(name, one, config)[None], config) for name, one in stored.items()}
    told = None if culture is None else torch.tensor([culture])
    maps = saliency(model, ClipBatch.of(inputs, 1, culture=told))[0]
    cut = config if "frames" in stored else config.whole
    finer = cut.model_copy(update={"canvas": round(side * cut.canvas / cut.size), "size": side, "difference": False})
    seen = normalise(prepare(torch.from_numpy(faces), finer)[None], finer)[0].permute(0, 2, 3, 1)
    seen = (255 * (seen * torch.tensor(config.std) + torch.tensor(config.mean))).round().clamp(0, 255)
    count = min(shown, len(faces))
    moments = (np.arange(count) + 0.5) / count
    return (
        seen.to(torch.uint8).numpy()[(moments * len(seen)).astype(int)],
        maps.detach().numpy()[(moments * len(maps)).astype(int)],
    )


def vivit_rollout(model: nn.Module, batch: ClipBatch) -> Tensor:
    """What the class token of the spatial encoder draws from each patch [B,T',h,w], at each temporal index.

    Raises ValueError when the model has no `ViViT`.
    """
    vivit = _first(model, ViViT)
    if not isinstance(vivit, ViViT):
        raise ValueError(f"{type(model).__name__} has no ViViT")
    with torch.inference_mode(), _recorded_attention(vivit.spatial) as layers:
        model(batch)
    drawn = attention_rollout(layers)[:, 0, 1:]  # [B*T',N]
    side = round(drawn.shape[1] ** 0.5)
    return drawn.unflatten(1, (side, side)).unflatten(0, (len(batch), -1)).clone()


def attention_rollout(layers: list[Tensor]) -> Tensor:
    """Product over the layers of (A + I) / 2, later ones on the left: what each output token draws from each input.

    `layers` are attention weights [R,heads,N,N], rows adding up to 1, first layer first; A is their mean over the
    heads. Returns [R,N,N] whose rows add up to 1. Raises ValueError without layers.
    """
    if not layers:
        raise ValueError("no attention was recorded")
    rollout = torch.eye(layers[0].shape[-1], device=layers[0].device)
    for weights in layers:
        mixed = (weights.mean(dim=1) + torch.eye(weights.shape[-1], device=weights.device)) / 2
        rollout = mixed @ rollout
    return rollout


def grad_cam(model: nn.Module, batch: ClipBatch, target: Tensor | None = None) -> Tensor:
    """Grad-CAM at the last convolution that still sees places: sum of its channels, each weighted by the mean gradient
    of the logit of class `target` [B] (default: the predicted one), negative sums 0.

    The convolution is the last one of the part of the model that `looked_into` names. Of a 3-D one [B,C,T',h,w] a
    channel has one weight; a 2-D one that saw B*T' images has one for each image, a 3-D one that saw several pieces of
    each clip one for each piece. Returns [B,T',h,w]. Raises ValueError when there is no such layer, or the answer does
    not depend on it.
    """
    name, trunk = looked_into(model)
    where = type(model).__name__ if name == "whole" else f"the trunk {name!r} of {type(model).__name__}"
    # cuDNN's LSTM gives gradients in training mode only.
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    cudnn = torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled and not recurrent)
    with torch.enable_grad(), cudnn, _frozen(model), _last_activation(trunk) as seen:
        output: ModelOutput = model(batch)
        chosen = output.logits.argmax(dim=1) if target is None else target
        score = output.logits.gather(1, chosen[:, None]).sum()
        if not seen:
            raise ValueError(f"{where} has no convolution whose output has places")
        activation = seen[0]
        gradient = torch.autograd.grad(score, activation, allow_unused=True)[0] if score.requires_grad else None
    if gradient is None:
        raise ValueError(f"the answer of {type(model).__name__} does not depend on the last convolution by a gradient")
    places = tuple(range(2, activation.ndim))
    maps = (gradient.mean(dim=places, keepdim=True) * activation).sum(dim=1).relu().detach()
    if len(maps) % len(batch):
        raise ValueError(f"{len(maps)} images in the last convolution do not belong to {len(batch)} clips")
    # A convolution saw whole clips, or each clip's frames or pieces, one after the other.
    return maps.unflatten(0, (len(batch), -1)).reshape(len(batch), -1, *maps.shape[-2:])


def stretched(maps: Tensor) -> Tensor:
    """Maps [B,...], each from its minimum and maximum to 0..1; a constant one gives zeros."""
    flat = maps.float().flatten(1)
    low, high = flat.amin(dim=1), flat.amax(dim=1)
    # Rounding makes some values of a constant map differ by a millionth; stretched, they would look like a finding.
    spread = high - low
    flat = (flat - low[:, None]) / torch.where(spread > 1e-5 * high.abs(), spread, torch.inf)[:, None]
    return flat.view_as(maps)


@contextmanager
def _recorded_attention(encoder: Encoder) -> Iterator[list[Tensor]]:
    """The attention weights [R,heads,N,N] of each block of `encoder` in the order in which they ran."""
    layers: list[Tensor] = []

    def record(block: Block, qkv: Tensor) -> None:
        query, key, _ = qkv.unflatten(-1, (3, block.heads, -1)).permute(2, 0, 3, 1, 4)
        layers.append((query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(dim=-1))

    def hook_of(block: Block) -> Any:
        return block.qkv.register_forward_hook(lambda _module, _inputs, output: record(block, output))

    handles = [hook_of(block) for block in encoder.blocks if isinstance(block, Block)]
    try:
        yield layers
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Within it no parameter asks for a gradient: what does not depend on the convolution keeps nothing in memory."""
    learned = [one for one in model.parameters() if one.requires_grad]
    for one in learned:
        one.requires_grad_(False)
    try:
        yield
    finally:
        for one in learned:
            one.requires_grad_()


@contextmanager
def _last_activation(trunk: nn.Module) -> Iterator[list[Tensor]]:
    """The output of the convolution that ran last, among those with more than one place; empty when there is none.

    Gradients go back to it and no further, so that it does not matter what the model reads or what of it is frozen.
    """
    seen: list[Tensor] = []

    def cut(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor | None:
        if output.shape[-1] * output.shape[-2] == 1:
            return None
        seen[:] = [output.detach().requires_grad_()]
        return seen[0].clone()  # layers that work in place may follow, and a leaf is not theirs to change

    layers = [module for module in trunk.modules() if isinstance(module, nn.Conv2d | nn.Conv3d)]
    handles = [layer.register_forward_hook(cut) for layer in layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _first(model: nn.Module, kind: type[nn.Module] | tuple[type[nn.Module], ...]) -> nn.Module | None:
    return next((module for module in model.modules() if isinstance(module, kind)), None)
