"""CA-FER (Singh et al., papers' equations 1-15): a ViViT factorised encoder recalibrated by culture priors.

The latent f of a clip is scaled and shifted by parameters that come from a culture embedding (equations 6 and 12).
The embedding table is seeded from each culture's Action Unit profile (equations 3-5) and then trained; one more row,
the global prior, is seeded from the mean profile and answers clips whose culture is unknown (section III.E).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from ray_fer.labels import AU_NAMES
from ray_fer.models.backbones.vivit import ViViT
from ray_fer.models.batch import ClipBatch, ModelOutput

Conditioning = Literal["none", "global", "au"]


class CaFer(nn.Module):
    """CA-FER with its culture-agnostic baseline.

    Parameters
    ----------
    classes, cultures: number of expression classes C and of culture groups K.
    profiles: K min-max normalised AU profiles of 20 numbers (equation 4); required unless `conditioning` is "none".
    global_profile: the mean AU profile over all clips on the same scale; required likewise.
    conditioning: "au" (the proposed system), "global" (only the global prior, no culture label read), or "none"
        (the culture-agnostic baseline of section III.C).
    embedding_dim: d_e (128 in the paper).
    culture_dropout: share of training clips whose culture label is hidden, so that the global prior is trained too.
    difference: also show the model each frame's difference to the first frame, as three more channels. Not in the
        paper; a small model trained from nothing on hundreds of clips needs it.
    vivit: keyword arguments of `ViViT`; the default is the paper's ViT-B at 224 px.

    Raises ValueError for an unknown conditioning or profiles of the wrong shape.
    """

    def __init__(
        self,
        classes: int = 7,
        cultures: int = 4,
        profiles: list[list[float]] | None = None,
        global_profile: list[float] | None = None,
        conditioning: Conditioning = "au",
        embedding_dim: int = 128,
        culture_dropout: float = 0.0,
        dropout: float = 0.3,
        difference: bool = False,
        vivit: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if conditioning not in ("none", "global", "au"):
            raise ValueError(f"unknown conditioning {conditioning!r}; expected none, global or au")
        self.conditioning = conditioning
        self.difference = difference
        self.culture_dropout = culture_dropout
        self.backbone = ViViT(channels=6 if difference else 3, **(vivit or {}))
        dim = self.backbone.dim
        self.fuse = nn.Linear(2 * dim, dim)  # equation 10
        self.recalibration: Recalibration | None = None
        if conditioning != "none":
            self.recalibration = Recalibration(
                _profile_matrix(profiles, global_profile, cultures), embedding_dim=embedding_dim, dim=dim
            )
        # Equations 13 and 14; the hidden width is not given in the paper, half of f is used.
        self.classifier = nn.Sequential(
            nn.Linear(dim, dim // 2), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim // 2, classes)
        )

    def forward(self, batch: ClipBatch) -> ModelOutput:
        frames = batch.frames
        if self.difference:
            frames = torch.cat([frames, frames - frames[:, :1]], dim=2)
        cls, patches = self.backbone(frames)
        latent = self.fuse(torch.cat([cls, patches.mean(dim=1)], dim=1))  # equations 9 and 10
        if self.recalibration is not None:
            latent = self.recalibration(latent, self._cultures(batch))
        return ModelOutput(logits=self.classifier(latent), features=latent)

    def _cultures(self, batch: ClipBatch) -> Tensor:
        unknown = torch.full((len(batch),), -1, dtype=torch.long, device=batch.frames.device)
        if self.conditioning == "global" or batch.culture is None:
            return unknown
        if self.training and self.culture_dropout > 0:
            hidden = torch.rand(len(batch), device=batch.frames.device) < self.culture_dropout
            return torch.where(hidden, unknown, batch.culture)
        return batch.culture


class Recalibration(nn.Module):
    """f' = a_c * f + b_c with a_c = W_a e_c and b_c = W_b e_c (equations 5, 6 and 12).

    `profiles` float [K+1,20], the last row being the global prior. Small random matrices without bias would make
    a_c start near 0 and wipe the latent, so W_a starts as the least-norm matrix for which every seeded embedding
    gives a_c = 1, and W_b at 0: f' = f at the start, the equations are unchanged, and every parameter gets a gradient.
    """

    def __init__(self, profiles: Tensor, embedding_dim: int, dim: int) -> None:
        super().__init__()
        projection = torch.empty(embedding_dim, profiles.shape[1]).normal_(std=profiles.shape[1] ** -0.5)
        seeded = profiles @ projection.T  # equation 5
        self.embedding = nn.Embedding.from_pretrained(seeded, freeze=False)
        self.scale = nn.Linear(embedding_dim, dim, bias=False)
        self.shift = nn.Linear(embedding_dim, dim, bias=False)
        with torch.no_grad():
            towards_one = torch.linalg.pinv(seeded.double(), rtol=1e-4) @ torch.ones(len(seeded), 1).double()
            self.scale.weight.copy_(towards_one.float().T.expand(dim, -1))
            nn.init.zeros_(self.shift.weight)

    def forward(self, latent: Tensor, culture: Tensor) -> Tensor:
        """latent [B,D], culture int64 [B] with -1 for unknown -> [B,D]."""
        embedded = self.embedding(culture % self.embedding.num_embeddings)  # -1 wraps to the last row, the global prior
        return self.scale(embedded) * latent + self.shift(embedded)


def _profile_matrix(profiles: list[list[float]] | None, global_profile: list[float] | None, cultures: int) -> Tensor:
    if profiles is None or global_profile is None:
        raise ValueError("this conditioning needs AU profiles: run `ray-fer priors` and pass its priors.json")
    matrix = torch.tensor([*profiles, global_profile], dtype=torch.float32)
    if matrix.shape != (cultures + 1, len(AU_NAMES)):
        raise ValueError(
            f"AU profiles have shape {tuple(matrix.shape)}; expected {cultures} cultures and 1 global x {len(AU_NAMES)}"
        )
    return matrix
