"""TinyViT (Wu et al., ECCV 2022) as a vector for each image: timm's, of any width and depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ray_fer.models.batch import ClipBatch, ModelOutput

if TYPE_CHECKING:
    from timm.models.tiny_vit import TinyVit

DIMS_21M, DEPTHS_21M = (96, 192, 384, 576), (2, 2, 6, 2)
_HEAD, _WINDOWS = 32, (7, 7, 14, 7)
_DROP_PATH = 0.2


def tiny_vit(dims: Sequence[int] = DIMS_21M, depths: Sequence[int] = DEPTHS_21M) -> TinyVit:
    """Images [N,3,S,S] -> vectors [N,dims[-1]]; heads are 32 wide, windows 7, 7, 14 and 7 cells.

    The default is TinyViT-21M at 224 px. Raises ValueError for other than four stages, or widths that 32 does not
    divide (the first may have any: its stage has no attention).
    """
    from timm.models.tiny_vit import TinyVit

    if not len(dims) == len(depths) == len(_WINDOWS) or any(dim % _HEAD for dim in dims[1:]):
        raise ValueError(f"TinyViT has four stages of a multiple of {_HEAD} channels, not {list(dims)}, {list(depths)}")
    heads = [max(dim // _HEAD, 1) for dim in dims]
    return TinyVit(
        num_classes=0, embed_dims=tuple(dims), depths=tuple(depths), num_heads=tuple(heads), window_sizes=_WINDOWS,
        drop_path_rate=_DROP_PATH,
    )  # fmt: skip


def tiny_vit_weights(network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights in timm's or in the authors' names, without the last layer. KeyError for those of another network."""
    from timm.models.tiny_vit import checkpoint_filter_fn

    renamed = checkpoint_filter_fn(dict(state), network)
    return {name: renamed[name] for name in network.state_dict()}


class TinyVitClassifier(nn.Module):
    """TinyViT-21M with one linear layer of 1000 classes on the apex, as its paper counts it."""

    def __init__(self) -> None:
        super().__init__()
        self.network = tiny_vit()
        self.head = nn.Linear(DIMS_21M[-1], 1000)

    def forward(self, batch: ClipBatch) -> ModelOutput:
        """See the class."""
        assert isinstance(batch.apex, torch.Tensor)
        features = self.network(batch.apex)
        return ModelOutput(self.head(features), features)
