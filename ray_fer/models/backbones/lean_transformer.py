"""The transformer layer of Former-DFER and of its successors: pre-LN, heads of any width, no biases on the queries."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class Layer(nn.Module):
    """x + attention(LN(x)), then x + MLP(LN(x)), the MLP with the tanh form of GELU: [B,N,D] -> [B,N,D].

    `heads` x `head_dim` may be another width than D; queries, keys and values have no bias, the output projection does.
    """

    def __init__(self, dim: int, heads: int, head_dim: int, mlp_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * heads * head_dim, bias=False)
        self.proj = nn.Linear(heads * head_dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, mlp_dim), nn.GELU(approximate="tanh"), nn.Dropout(dropout), nn.Linear(mlp_dim, dim)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.dropout(self.proj(attended.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.mlp(self.norm2(x)))
