"""TimeSformer with divided space-time attention (Bertasius, Wang, Torresani, ICML 2021).

Every block attends first along time, each patch position by itself, and then within each frame. One CLS token stands
beside all T x N patches: time passes it by, every frame reads a copy of it, and the copies' updates are averaged.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ray_fer.models.backbones.convolution import widened
from ray_fer.models.backbones.vit_weights import block_names, renamed, resized_grid, same_depth, timm_names
from ray_fer.models.backbones.vivit import Block


class DividedBlock(Block):
    """Temporal attention, spatial attention and MLP, each with a residual: [B,1+T*N,D] -> [B,1+T*N,D], time-major.

    The temporal residual passes one more linear layer. `drop_path` is the share of residuals that are left out in
    training: of patch positions in time, of frames in space, of clips in the MLP, as the released code does.
    """

    def __init__(self, frames: int, dim: int, heads: int, mlp_dim: int, dropout: float, drop_path: float) -> None:
        super().__init__(dim, heads, mlp_dim, dropout)
        self.frames = frames
        self.drop_path = drop_path
        self.temporal_norm = nn.LayerNorm(dim, eps=1e-6)
        self.temporal_qkv = nn.Linear(dim, 3 * dim)
        self.temporal_proj = nn.Linear(dim, dim)
        self.temporal_fc = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch = len(x)
        cls, patches = x[:, :1], x[:, 1:].unflatten(1, (self.frames, -1))  # [B,1,D] and [B,T,N,D]

        tracks = patches.transpose(1, 2).flatten(0, 1)  # [B*N,T,D]
        update = self._attend(self.temporal_norm(tracks), self.temporal_qkv, self.temporal_proj)
        update = self.temporal_fc(self._dropped(update))
        patches = patches + update.unflatten(0, (batch, -1)).transpose(1, 2)

        copies = cls.unsqueeze(1).expand(-1, self.frames, -1, -1)
        frames = torch.cat([copies, patches], dim=2).flatten(0, 1)  # [B*T,1+N,D]
        update = self._dropped(self._attend(self.norm1(frames), self.qkv, self.proj)).unflatten(0, (batch, -1))
        cls = cls + update[:, :, 0].mean(dim=1, keepdim=True)
        patches = patches + update[:, :, 1:]

        x = torch.cat([cls, patches.flatten(1, 2)], dim=1)
        return x + self._dropped(self.dropout(self.mlp(self.norm2(x))))

    def _attend(self, x: Tensor, qkv: nn.Linear, proj: nn.Linear) -> Tensor:
        query, key, value = qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value)
        return self.dropout(proj(attended.transpose(1, 2).flatten(2)))

    def _dropped(self, x: Tensor) -> Tensor:
        return drop_path(x, self.drop_path) if self.training and self.drop_path else x


def drop_path(x: Tensor, share: float) -> Tensor:
    """Stochastic depth (Huang et al. 2016): rows of x [B,N,D] are 0 with probability `share`, the others grow."""
    kept = torch.empty(len(x), 1, 1, dtype=x.dtype, device=x.device).bernoulli_(1 - share)
    return x * (kept / (1 - share))


class TimeSformer(nn.Module):
    """Divided space-time attention: frames [B,T,C,H,W] -> (CLS [B,D], patch tokens [B,T*N,D]), N = (H/p)(W/p).

    The tokens are those of all frames, frame after frame. Both outputs have passed the final LayerNorm.

    `drop_path` grows linearly from 0 in the first block to its value in the last (0.1 in the released code). Linear
    layers, positions and CLS start from a truncated normal of 0.02. The layers behind the temporal attention and
    the time embedding start at 0, so that a fresh model treats its frames as single images. (The loop of the released
    code seems to spare the first block's; the one module that it does spare is the list of blocks.)

    Raises ValueError for sizes that do not divide, and for clips of another length or size than it was built for.
    """

    def __init__(
        self,
        frames: int = 16,
        size: int = 224,
        channels: int = 3,
        patch: int = 16,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        mlp_dim: int = 3072,
        dropout: float = 0.0,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        if size % patch:
            raise ValueError(f"{size} px do not divide into patches of {patch}")
        self.dim = dim
        self.input = (frames, channels, size, size)
        self.patches = nn.Conv2d(channels, dim, patch, stride=patch)
        self.cls = nn.Parameter(torch.empty(1, 1, dim))
        self.position = nn.Parameter(torch.empty(1, (size // patch) ** 2 + 1, dim))
        self.time = nn.Parameter(torch.zeros(1, frames, dim))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            DividedBlock(frames, dim, heads, mlp_dim, dropout, drop_path * i / max(depth - 1, 1)) for i in range(depth)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self._initialise()

    def _initialise(self) -> None:
        nn.init.trunc_normal_(self.cls, std=0.02)
        nn.init.trunc_normal_(self.position, std=0.02)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
                if name.endswith("temporal_fc"):
                    nn.init.zeros_(module.weight)
                else:
                    nn.init.trunc_normal_(module.weight, std=0.02)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        if frames.shape[1:] != self.input:
            raise ValueError(
                f"this TimeSformer reads clips of shape {self.input}, not {tuple(frames.shape[1:])} (frames, channels, "
                "height, width); build it with the frames, channels and size of the clips"
            )
        batch, steps = frames.shape[:2]
        patches = self.patches(frames.flatten(0, 1)).flatten(2).transpose(1, 2)  # [B*T,N,D]
        patches = self.dropout(patches + self.position[:, 1:]).unflatten(0, (batch, steps))
        patches = self.dropout(patches + self.time.unsqueeze(2))
        cls = self.dropout(self.cls + self.position[:, :1]).expand(batch, -1, -1)
        x = torch.cat([cls, patches.flatten(1, 2)], dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return x[:, 0], x[:, 1:]


_MODULES = {
    "temporal_norm1": "temporal_norm",
    "temporal_attn.qkv": "temporal_qkv",
    "temporal_attn.proj": "temporal_proj",
    "temporal_fc": "temporal_fc",
}


def timesformer_from_hub(state: dict[str, Tensor], timesformer: TimeSformer) -> dict[str, Tensor]:
    """Weights of `facebook/timesformer-base-finetuned-k400` and its like under our names, without their head.

    The authors' own files (`TimeSformer_divST_8x32_224_K400.pyth`) are read too. For another number of frames the time
    embedding is resized by nearest neighbour, as the released code does; for another image size the positions are
    resized as `resized_grid` does, where the released code takes the nearest. More than three input channels start at
    zero. The number of heads is not to be seen in such weights and must agree. Raises ValueError for other weights.
    """
    state = timm_names(state)
    same_depth(state, len(timesformer.blocks), "depth")
    names = {"time_embed": "time", **block_names("", len(timesformer.blocks), _MODULES)}
    names |= {"patch_embed.proj.weight": "patches.weight", "patch_embed.proj.bias": "patches.bias"}
    found = renamed(state, names, "a TimeSformer with divided attention")
    found["patches.weight"] = widened(found["patches.weight"], timesformer.input[1])
    found["position"] = resized_grid(found["position"], timesformer.position.shape[1] - 1)
    steps = timesformer.input[0]
    if found["time"].shape[1] != steps:
        found["time"] = functional.interpolate(found["time"].float().transpose(1, 2), size=steps).transpose(1, 2)
    return found
