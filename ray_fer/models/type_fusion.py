"""OUS's Type Fusion Encoder: learnable queries read what is known of faces, scene and polarity (Mai et al. 2024)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class TypeFusionEncoder(nn.Module):
    """Tokens of all types [B,N,dim] -> one vector of each clip [B,dim] (OUS, III.B and Fig. 3).

    One set of queries, drawn from N(0, 1) (6), asks in every block; what a block gives for each query are the tokens
    that the next one reads. The result is the mean over the queries of the last block.

    Parameters
    ----------
    dim: width of the tokens and queries; a multiple of `heads`.
    blocks, queries, heads: their numbers, each at least 1; ValueError otherwise.
    residual: add shortcuts, which equations 5 to 10 do not have: around (5) to (7) from what the block before gave for
        the same query (in the first block from the query itself), and around (8) to (10). Ours; they start and end
        where Swin Transformer V2 has them, behind the LayerNorms. On separable made-up features 12 blocks of dim 256
        learned in 100 to 200 steps of Adam at 1e-4 with them, and without them were at chance after 700.

    The paper is silent on what blocks behind the first read (the queries' outputs here, and the features no more), on
    the queries' number and distribution ("chosen to reflect the expected distribution of the
    features": they meet tokens that LayerNorm made N(0, 1)), on the MLP's width (4 x dim here, as in its ViT), and on
    what becomes of the queries' outputs at the end.
    """

    def __init__(self, dim: int, blocks: int, queries: int, heads: int, residual: bool = False) -> None:
        super().__init__()
        if min(blocks, queries, heads) < 1:
            raise ValueError(f"{blocks} blocks of {queries} queries and {heads} heads: there must be one of each")
        if dim % heads:
            raise ValueError(f"a width of {dim} does not divide into {heads} heads")
        self.residual = residual
        self.queries = nn.Parameter(torch.randn(queries, dim))
        self.blocks = nn.ModuleList(CrossTypeBlock(dim, heads) for _ in range(blocks))

    def forward(self, tokens: Tensor) -> Tensor:
        shortcut = self.queries.expand(len(tokens), -1, -1) if self.residual else None
        for block in self.blocks:
            tokens = block(self.queries, tokens, shortcut)
            shortcut = tokens if self.residual else None
        return tokens.mean(dim=1)


class CrossTypeBlock(nn.Module):
    """Equations 5 and 7 to 10: queries [Q,dim] and tokens [B,N,dim] -> [B,Q,dim].

    LN, multi-head attention of the queries to the tokens (15), LN, MLP with ReLU, LN. Unlike in a transformer nothing
    bypasses them, unless `shortcut` [B,Q,dim] is given, which is added after the second LN.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_tokens = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm_attended = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.ReLU(), nn.Linear(4 * dim, dim))
        self.norm_after = nn.LayerNorm(dim)

    def forward(self, queries: Tensor, tokens: Tensor, shortcut: Tensor | None = None) -> Tensor:
        query = self.query(queries).unflatten(1, (self.heads, -1)).transpose(0, 1)  # [heads,Q,d]
        key, value = self.key_value(self.norm_tokens(tokens)).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query.expand(len(tokens), -1, -1, -1), key, value)
        attended = self.proj(attended.transpose(1, 2).flatten(2))
        attended = self.norm_attended(attended)
        if shortcut is None:
            return self.norm_after(self.mlp(attended))
        attended = attended + shortcut
        return attended + self.norm_after(self.mlp(attended))
