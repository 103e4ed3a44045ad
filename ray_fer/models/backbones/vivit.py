"""ViViT factorised encoder (Arnab et al. 2021, Model 2 of that paper; the CA-FER paper calls it Model 3).

A spatial transformer reads the tokens of each temporal index alone; a temporal transformer reads the resulting
frame vectors. At the paper's size (ViT-B, 16 frames of 224 px, tubelet 2x16x16) that is 8 x 197 and then 9 tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ray_fer.models.backbones.convolution import early_convolutions


class Block(nn.Module):
    """Pre-LN transformer block with GELU MLP and `scaled_dot_product_attention`."""

    def __init__(self, dim: int, heads: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} is not a multiple of {heads} heads")
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp_dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(mlp_dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, tokens, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.dropout(self.proj(attended.transpose(1, 2).reshape(batch, tokens, dim)))
        return x + self.dropout(self.mlp(self.norm2(x)))


class Encoder(nn.Module):
    """CLS token, learned positions, `depth` blocks, final LayerNorm: [B,N,D] -> [B,1+N,D]."""

    def __init__(self, tokens: int, dim: int, depth: int, heads: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        self.cls = nn.Parameter(torch.zeros(1, 1, dim))
        self.position = nn.Parameter(torch.empty(1, tokens + 1, dim).normal_(std=0.02))
        self.blocks = nn.ModuleList(Block(dim, heads, mlp_dim, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], dim=1) + self.position
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class ViViT(nn.Module):
    """Factorised encoder: frames [B,T,C,H,W] -> (CLS [B,D], patch tokens [B,N,D]).

    `stem_dim` > 0 puts `early_convolutions` before the tubelet embedding; 0 is the paper's plain tubelet embedding. The
    tubelet keeps its size in pixels either way.

    Patch tokens are the spatial encoder's outputs averaged over the temporal indices, so that N = (H/p)(W/p): the
    paper's equation 9 averages "spatial patch token embeddings", and in a factorised encoder only the spatial
    encoder has them.
    """

    def __init__(
        self,
        frames: int = 16,
        size: int = 224,
        channels: int = 3,
        tubelet: int = 2,
        patch: int = 16,
        dim: int = 768,
        spatial_depth: int = 12,
        temporal_depth: int = 4,
        heads: int = 12,
        mlp_dim: int = 3072,
        dropout: float = 0.0,
        stem_dim: int = 0,
    ) -> None:
        super().__init__()
        if frames % tubelet or size % patch:
            raise ValueError(f"{frames} frames of {size} px do not divide into tubelets of {tubelet}x{patch}x{patch}")
        self.dim = dim
        self.stem: nn.Module = nn.Identity()
        kernel, inputs = patch, channels
        if stem_dim:
            self.stem = early_convolutions(channels, stem_dim, patch)
            kernel, inputs = patch // 4, stem_dim
        self.tubelet = nn.Conv3d(inputs, dim, (tubelet, kernel, kernel), stride=(tubelet, kernel, kernel))
        self.spatial = Encoder((size // patch) ** 2, dim, spatial_depth, heads, mlp_dim, dropout)
        self.temporal = Encoder(frames // tubelet, dim, temporal_depth, heads, mlp_dim, dropout)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        batch, steps = frames.shape[:2]
        maps = self.stem(frames.flatten(0, 1)).unflatten(0, (batch, steps))
        tokens = self.tubelet(maps.transpose(1, 2))  # [B,D,T',H',W']
        steps = tokens.shape[2]
        tokens = tokens.permute(0, 2, 3, 4, 1).flatten(2, 3).flatten(0, 1)  # [B*T',N,D]
        spatial = self.spatial(tokens).unflatten(0, (batch, steps))  # [B,T',1+N,D]
        temporal = self.temporal(spatial[:, :, 0])
        return temporal[:, 0], spatial[:, :, 1:].mean(dim=1)
