"""Public weights of image transformers (ViT-B/16 and its like) for the spatial encoder of a ViViT.

Checkpoints come under timm's names or under Hugging Face's. Both are read as timm's, which the authors' files of
TimeSformer extend.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ray_fer.models.backbones.convolution import widened
from ray_fer.models.backbones.vivit import ViViT

_HUB = (
    ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.time_embeddings", "time_embed"),
    ("embeddings.cls_token", "cls_token"),
    ("encoder.layer.", "blocks."),
    ("attention.output.dense", "attn.proj"),
    ("attention.attention.", "attn."),
    ("temporal_dense", "temporal_fc"),
    ("temporal_layernorm", "temporal_norm1"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
    ("layernorm_before", "norm1"),
    ("layernorm_after", "norm2"),
    ("layernorm", "norm"),
)
"""Parts of Hugging Face's names and timm's, replaced in this order."""
_PREFIXES = ("vit.", "timesformer.", "model.")
_MODULES = {
    "norm1": "norm1",
    "attn.qkv": "qkv",
    "attn.proj": "proj",
    "norm2": "norm2",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.3",
}
"""Modules of timm's block and of ours."""
_HEADS = ("head.", "pre_logits.", "pooler.", "classifier.")


def weights_kind(state: Mapping[str, Tensor]) -> Literal["vit", "vivit", "timesformer"] | None:
    """Whose weights these are, to judge by their names.

    "vit": an image transformer, for `vivit_from_vit`; "vivit": Scenic's factorised encoder, for `vivit_from_scenic`;
    "timesformer": for `timesformer_from_hub`.
    """
    if any("SpatialTransformer/encoderblock_0/" in name for name in state):
        return "vivit"
    names = {_timm_name(name) for name in state}
    if {"time_embed", "blocks.0.temporal_attn.qkv.weight"} <= names:
        return "timesformer"
    if {"cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.proj.weight"} <= names:
        return "vit"
    return None


def vivit_from_vit(state: dict[str, Tensor], vivit: ViViT) -> dict[str, Tensor]:
    """The tubelet embedding and the spatial encoder of a ViViT from an image transformer of the same width and depth.

    `state` has the names of timm (`vit_base_patch16_224.augreg_in21k`) or of Hugging Face
    (`google/vit-base-patch16-224-in21k`). The patch embedding becomes the tubelet's central temporal slice and the
    others are zero (central frame initialisation, ViViT section 3.4): before training, every temporal index sees one
    frame as the image model does. The temporal encoder is not among the weights returned: in the ViViT paper it is
    drawn at random too. The image model's CLS token is taken along; Scenic's code leaves it at zero.

    Positions for another image size are resized as `resized_grid` does. More than three input channels start at zero.
    The number of heads is not to be seen in such weights and must agree. Raises ValueError for other weights.
    """
    plain_tubelets(vivit)
    state = timm_names(state)
    depth = len(vivit.spatial.blocks)
    same_depth(state, depth, "spatial_depth")
    names = block_names("spatial.", depth)
    names |= {"patch_embed.proj.weight": "tubelet.weight", "patch_embed.proj.bias": "tubelet.bias"}
    found = renamed(state, names, "an image transformer")
    steps, *patch = vivit.tubelet.kernel_size
    image = widened(found["tubelet.weight"], vivit.tubelet.in_channels)
    if list(image.shape[2:]) != patch:
        raise ValueError(f"the patch embedding reads {tuple(image.shape[2:])}, the model patches of {tuple(patch)} px")
    kernel = image.new_zeros(*image.shape[:2], steps, *patch)
    kernel[:, :, steps // 2] = image
    found["tubelet.weight"] = kernel
    found["spatial.position"] = resized_grid(found["spatial.position"], vivit.spatial.position.shape[1] - 1)
    return found


def plain_tubelets(vivit: ViViT) -> None:
    """Raises ValueError where a convolutional stem stands before the tubelets: public weights read pixels there."""
    if not isinstance(vivit.stem, nn.Identity):
        raise ValueError("public weights have no place in a ViViT with a convolutional stem; build it with stem_dim=0")


def timm_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint under timm's names; query, key and value that Hugging Face keeps apart are put together."""
    named = {_timm_name(name): tensor for name, tensor in state.items()}
    for name in [name for name in named if ".attn.query." in name]:
        parts = [name.replace(".attn.query.", f".attn.{part}.") for part in ("query", "key", "value")]
        if all(part in named for part in parts):
            named[name.replace(".attn.query.", ".attn.qkv.")] = torch.cat([named.pop(part) for part in parts])
    return named


def _timm_name(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    for theirs, timms in _HUB:
        name = name.replace(theirs, timms)
    return name


def same_depth(state: Mapping[str, Tensor], depth: int, argument: str) -> None:
    """Raises ValueError where a checkpoint under timm's names has another number of blocks."""
    blocks = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    if blocks and blocks != depth:
        raise ValueError(f"{blocks} blocks, and the model has {depth}; build it with {argument}={blocks}")


def block_names(prefix: str, depth: int, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """timm's names of CLS, positions, blocks and last LayerNorm -> ours; `more` modules of each block likewise."""
    modules = {"norm": f"{prefix}norm"}
    for i in range(depth):
        for timms, ours in {**_MODULES, **(more or {})}.items():
            modules[f"blocks.{i}.{timms}"] = f"{prefix}blocks.{i}.{ours}"
    names = {f"{timms}.{kind}": f"{ours}.{kind}" for timms, ours in modules.items() for kind in ("weight", "bias")}
    return {"cls_token": f"{prefix}cls", "pos_embed": f"{prefix}position", **names}


def renamed(state: Mapping[str, Tensor], names: Mapping[str, str], what: str) -> dict[str, Tensor]:
    """Tensors under our names; heads are left out. ValueError where one is missing or one has no counterpart."""
    missing = [name for name in names if name not in state]
    foreign = [name for name in state if name not in names and not name.startswith(_HEADS)]
    if missing or foreign:
        fault = f"{missing[0]} is missing" if missing else f"{foreign[0]} has no counterpart"
        raise ValueError(f"these are not the weights of {what}: {fault}")
    return {ours: state[theirs] for theirs, ours in names.items()}


def resized_grid(position: Tensor, tokens: int) -> Tensor:
    """Positions [1,1+N,D] of a CLS token and a square grid for a grid of `tokens` patches: bicubic, as timm resizes."""
    cls, grid = position[:, :1], position[:, 1:]
    if grid.shape[1] == tokens:
        return position
    old, new = math.isqrt(grid.shape[1]), math.isqrt(tokens)
    if old**2 != grid.shape[1]:
        raise ValueError(f"the positions of {grid.shape[1]} patches are no square grid")
    image = grid.transpose(1, 2).unflatten(2, (old, old))
    image = functional.interpolate(image.float(), size=(new, new), mode="bicubic", antialias=True)
    return torch.cat([cls.float(), image.flatten(2).transpose(1, 2)], dim=1)
