"""How a model is told a clip's culture: CA-FER's recalibration (equations 3-6, 12), and what it is compared with.

Everywhere a culture of -1 is unknown, and gets the mean of what the known groups would get. For embeddings that mean is
a row of its own, the global prior: the paper derives it "from the mean facial Action Unit activation profile
aggregated across all cultural groups" (III.E) and calls it an initialisation (V.C.4), so it is seeded from the mean
profile and then trained like the others. Re-implementations average the learned table instead. As equation 5 is linear,
both are the same before training: the mean of the seeded rows is the projected mean profile.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ray_fer.labels import AU_NAMES

_RANDOM_SIZE = 0.5
"""Standard deviation of random embeddings: about that of rows which equation 5 makes of profiles between 0 and 1."""


class Recalibration(nn.Module):
    """f' = a_c * f + b_c with a_c = W_a e_c and b_c = W_b e_c (equations 6 and 12).

    `seeded` float [R,d_e] are the embeddings to start from, the last row being that of an unknown culture; with R = 1
    all clips share it. Small random matrices without bias would make a_c start near 0 and wipe the latent, so W_a
    starts as the least-norm matrix for which every seeded embedding gives a_c = 1, and W_b at 0: f' = f at the start,
    the equations are unchanged, and every parameter gets a gradient.
    """

    def __init__(self, seeded: Tensor, dim: int) -> None:
        super().__init__()
        rows, embedding_dim = seeded.shape
        self.embedding = nn.Embedding.from_pretrained(seeded, freeze=False)
        self.scale = nn.Linear(embedding_dim, dim, bias=False)
        self.shift = nn.Linear(embedding_dim, dim, bias=False)
        with torch.no_grad():
            towards_one = torch.linalg.pinv(seeded.double(), rtol=1e-4) @ torch.ones(rows, 1).double()
            self.scale.weight.copy_(towards_one.float().T.expand(dim, -1))
            nn.init.zeros_(self.shift.weight)

    def forward(self, latent: Tensor, culture: Tensor) -> Tensor:
        """latent [B,D], culture int64 [B] with -1 for unknown -> [B,D]."""
        embedded = self.embedding(culture % self.embedding.num_embeddings)  # -1 wraps to the last row, the global prior
        return self.scale(embedded) * latent + self.shift(embedded)


class Concatenation(nn.Module):
    """[f ; v_c] with a fixed vector v_c of each culture: latent [B,D], culture int64 [B] -> [B,D+V].

    `vectors` float [K+1,V], the last row being that of an unknown culture.
    """

    vectors: Tensor

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors)

    def forward(self, latent: Tensor, culture: Tensor) -> Tensor:
        """See the class."""
        return torch.cat([latent, self.vectors[culture].to(latent.dtype)], dim=1)


class CultureHeads(nn.Module):
    """One classifier per culture: latent [B,D], culture int64 [B] -> logits [B,C].

    A clip of unknown culture gets the mean of all classifiers' logits.
    """

    def __init__(self, heads: list[nn.Module]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, latent: Tensor, culture: Tensor) -> Tensor:
        """See the class."""
        answers = torch.stack([head(latent) for head in self.heads], dim=1)  # [B,K,C]
        choice = torch.cat([torch.eye(len(self.heads)), torch.full((1, len(self.heads)), 1 / len(self.heads))])
        weights = choice.to(answers)[culture]  # -1 takes the last row
        return (weights[:, :, None] * answers).sum(dim=1)


def seeded_embeddings(profiles: Tensor, embedding_dim: int) -> Tensor:
    """e_c = W_proj mu_c (equation 5) for min-max normalised AU profiles [R,20] -> [R,d_e], with a random W_proj."""
    projection = torch.empty(embedding_dim, profiles.shape[1]).normal_(std=profiles.shape[1] ** -0.5)
    return profiles @ projection.T


def random_embeddings(cultures: int, embedding_dim: int) -> Tensor:
    """Random rows for the cultures, and their mean for an unknown one: [K+1,d_e]."""
    rows = torch.randn(cultures, embedding_dim) * _RANDOM_SIZE
    return torch.cat([rows, rows.mean(dim=0, keepdim=True)])


def one_hot_vectors(cultures: int) -> Tensor:
    """Rows [K+1,K]: the cultures' unit vectors, and their mean."""
    return torch.cat([torch.eye(cultures), torch.full((1, cultures), 1 / cultures)])


def profile_matrix(profiles: list[list[float]] | None, global_profile: list[float] | None, cultures: int) -> Tensor:
    """AU profiles of the cultures and the global one: [K+1,20]. ValueError if they are missing or of another shape."""
    if profiles is None or global_profile is None:
        raise ValueError("this conditioning needs AU profiles: run `ray-fer priors` and pass its priors.json")
    matrix = torch.tensor([*profiles, global_profile], dtype=torch.float32)
    if matrix.shape != (cultures + 1, len(AU_NAMES)):
        raise ValueError(
            f"AU profiles have shape {tuple(matrix.shape)}; expected {cultures} cultures and 1 global x {len(AU_NAMES)}"
        )
    return matrix
