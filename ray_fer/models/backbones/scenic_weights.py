"""Scenic's checkpoints of the ViViT factorised encoder (`SpaceTimeViViT` in its projects/vivit/model.py) into ours.

The parameter tree as "a/b/c" names, D wide with H heads of d = D/H, MLPs of M, tubelets of t x h x w pixels of C
channels, S temporal indices and N patches:

    embedding/kernel                                     [t,h,w,C,D]   bias [D]
    cls_SpatialTransformer, cls_TemporalTransformer      [1,1,D]
    {Spatial,Temporal}Transformer/
        posembed_input/pos_embedding                     [1,1+N,D] and [1,1+S,D]
        encoderblock_i/LayerNorm_0, LayerNorm_1          scale [D]     bias [D]
        encoderblock_i/MultiHeadDotProductAttention_0/
            query, key, value                            kernel [D,H,d]  bias [H,d]
            out                                          kernel [H,d,D]  bias [D]
        encoderblock_i/MlpBlock_0/Dense_0, Dense_1       kernel [D,M], [M,D]  bias [M], [D]
        encoder_norm                                     scale [D]     bias [D]
    output_projection                                    kernel [D,classes]  bias [classes]
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ray_fer.models.backbones.convolution import widened
from ray_fer.models.backbones.vit_weights import plain_tubelets, resized_grid
from ray_fer.models.backbones.vivit import Encoder, ViViT

_TREES = ("optimizer/target/", "params/")
"""Where a training state keeps its parameters, with Flax's old optimisers and with Optax."""
_HEADS = ("output_projection/", "pre_logits/")


def vivit_from_scenic(state: dict[str, Tensor], vivit: ViViT) -> dict[str, Tensor]:
    """Scenic's factorised encoder under our names and in our shapes, without its head.

    `state` is the parameter tree, or a whole training state, with flat names as in the module's docstring. For another
    number of frames the temporal positions are interpolated linearly with both ends in place, as Scenic does when it
    fine-tunes; for another image size the spatial ones are resized as `resized_grid` does. More than three input
    channels start at zero.

    Scenic's GELU is the tanh approximation and ours the exact one, so that the outputs differ by as much as these do.
    Raises ValueError for other weights, depths and numbers of heads; the public `vivit_base_16x2_fe` is reported to
    have 12 temporal blocks (google-research/scenic issue 432), not the 4 of the paper and of its own configuration.
    """
    plain_tubelets(vivit)
    tree = _Tree(state)
    kernel = tree.take("embedding/kernel", 5).permute(4, 3, 0, 1, 2)
    found = {
        "tubelet.weight": widened(kernel, vivit.tubelet.in_channels),
        "tubelet.bias": tree.take("embedding/bias", 1),
    }
    for theirs, ours, encoder in (
        ("SpatialTransformer", "spatial", vivit.spatial),
        ("TemporalTransformer", "temporal", vivit.temporal),
    ):
        tree.same_depth(theirs, len(encoder.blocks), f"{ours}_depth")
        found |= {f"{ours}.{name}": tensor for name, tensor in _encoder(tree, theirs, encoder).items()}
    tree.finish()
    found["spatial.position"] = resized_grid(found["spatial.position"], vivit.spatial.position.shape[1] - 1)
    found["temporal.position"] = resized_time(found["temporal.position"], vivit.temporal.position.shape[1] - 1)
    return found


def resized_time(position: Tensor, steps: int) -> Tensor:
    """Positions [1,1+S,D] of a CLS token and S temporal indices for `steps` of them: linear, both ends in place."""
    cls, line = position[:, :1], position[:, 1:]
    if line.shape[1] == steps:
        return position
    line = functional.interpolate(line.float().transpose(1, 2), size=steps, mode="linear", align_corners=True)
    return torch.cat([cls.float(), line.transpose(1, 2)], dim=1)


class _Tree:
    """Arrays taken by name; what nobody took is foreign."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        prefix = next((tree for tree in _TREES if any(name.startswith(tree) for name in state)), "")
        self.left = {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}

    def take(self, name: str, dimensions: int) -> Tensor:
        if name not in self.left:
            raise ValueError(f"these are not the weights of Scenic's factorised encoder: {name} is missing")
        array = self.left.pop(name)
        if array.dim() != dimensions:
            raise ValueError(f"{name} has shape {tuple(array.shape)}; expected {dimensions} dimensions")
        return array

    def same_depth(self, encoder: str, depth: int, argument: str) -> None:
        start = f"{encoder}/encoderblock_"
        blocks = len({name.removeprefix(start).split("/")[0] for name in self.left if name.startswith(start)})
        if blocks and blocks != depth:
            raise ValueError(f"{encoder} has {blocks} blocks, the model {depth}; build it with {argument}={blocks}")

    def finish(self) -> None:
        foreign = [name for name in self.left if not name.startswith(_HEADS)]
        if foreign:
            raise ValueError(f"these are not the weights of Scenic's factorised encoder: what is {foreign[0]}?")


def _encoder(tree: _Tree, name: str, encoder: Encoder) -> dict[str, Tensor]:
    found = {"cls": tree.take(f"cls_{name}", 3), "position": tree.take(f"{name}/posembed_input/pos_embedding", 3)}
    found |= _norm(tree, f"{name}/encoder_norm", "norm")
    for i in range(len(encoder.blocks)):
        theirs, ours = f"{name}/encoderblock_{i}", f"blocks.{i}"
        found |= _norm(tree, f"{theirs}/LayerNorm_0", f"{ours}.norm1")
        found |= _norm(tree, f"{theirs}/LayerNorm_1", f"{ours}.norm2")
        found |= _attention(tree, f"{theirs}/MultiHeadDotProductAttention_0", ours, encoder.blocks[i].heads)
        for dense, linear in (("Dense_0", "mlp.0"), ("Dense_1", "mlp.3")):
            found[f"{ours}.{linear}.weight"] = tree.take(f"{theirs}/MlpBlock_0/{dense}/kernel", 2).T
            found[f"{ours}.{linear}.bias"] = tree.take(f"{theirs}/MlpBlock_0/{dense}/bias", 1)
    return found


def _norm(tree: _Tree, theirs: str, ours: str) -> dict[str, Tensor]:
    return {f"{ours}.weight": tree.take(f"{theirs}/scale", 1), f"{ours}.bias": tree.take(f"{theirs}/bias", 1)}


def _attention(tree: _Tree, theirs: str, ours: str, heads: int) -> dict[str, Tensor]:
    parts = ("query", "key", "value")
    kernels = [tree.take(f"{theirs}/{part}/kernel", 3) for part in parts]
    if kernels[0].shape[1] != heads:
        raise ValueError(f"{theirs} has {kernels[0].shape[1]} heads, the model {heads}")
    biases = [tree.take(f"{theirs}/{part}/bias", 2) for part in parts]
    return {
        f"{ours}.qkv.weight": torch.cat([kernel.flatten(1).T for kernel in kernels]),
        f"{ours}.qkv.bias": torch.cat([bias.flatten() for bias in biases]),
        f"{ours}.proj.weight": tree.take(f"{theirs}/out/kernel", 3).flatten(0, 1).T,
        f"{ours}.proj.bias": tree.take(f"{theirs}/out/bias", 1),
    }
