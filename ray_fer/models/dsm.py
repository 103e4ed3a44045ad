"""HDF's Distribution-aware Scaling Module (Cui et al. 2025, section 4.2): its contrastive loss and its loss weights."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Gaussian = Literal["similarity", "cosine"]


def robust_contrastive_loss(
    features: Tensor,
    labels: Tensor,
    temperature: float = 0.07,
    eta: float = 0.2,
    bottleneck: float = 0.1,
    gaussian: Gaussian = "similarity",
) -> Tensor:
    """IB-D-SC, equations 13 to 15: features [N,D] (normalised here), labels int64 [N] -> scalar.

    Supervised contrastive learning, in which the share of a negative pair in the denominator is weighted by a Gaussian
    of its similarity s = z_i z_j / `temperature` around `eta`, so that pairs that are far too similar, or far apart,
    say little; plus `bottleneck` (beta) times the trace of the features' covariance.

    Where the paper leaves a choice:

    - It defines weights "for each negative sample pair", while equation 13 sums w_ia over all a other than i. Positives
      have weight 1 here. With a Gaussian on them the loss has no lower bound: it would go on falling as positive pairs
      leave eta, since their weight falls faster than exp(s) rises.
    - The weights are constants to the gradient. Through them, it would pull hard negatives closer, to make them count
      less.
    - A sample that is alone in its class has no term (equation 13 divides by |P(i)| = 0), and counts in N.
    - beta has no value there; 0.1 is the default of the released code.

    With the paper's numbers the Gaussian covers cosines from about -0.03 to 0.06 alone: similarities run from -14 to
    14, eta and the width are 0.2. Negatives that are any closer have no weight, and where none is left, positives do
    not attract each other either. `gaussian` "cosine" takes it of the cosine, s times `temperature`, which is what eta
    is said to be: "the expected similarity between well-aligned features".

    The released code (QIcita/HDF_DFER, models/DSM.py) does otherwise in six points: `positive_mask` is never defined
    and the labels are not used; pairs of a sample with itself stay in numerator and denominator; the Gaussian is taken
    of similarities from which the row's largest was subtracted, and its weights are divided by their row's sum; and the
    trace is subtracted, which rewards what an information bottleneck is to punish.
    """
    with torch.autocast(features.device.type, enabled=False):  # exp(1 / 0.07) needs more digits than bfloat16 has
        vectors = functional.normalize(features.float(), dim=1)
        similarity = vectors @ vectors.T / temperature
        itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        positive = (labels[:, None] == labels) & ~itself
        seen = similarity.detach() * (temperature if gaussian == "cosine" else 1.0)
        log_weight = -((seen - eta) ** 2) / (2 * eta**2)
        weighted = similarity + log_weight.masked_fill(positive, 0.0)
        denominator = weighted.masked_fill(itself, -torch.inf).logsumexp(dim=1, keepdim=True)
        log_ratio = (similarity - denominator).masked_fill(~positive, 0.0)
        contrast = -log_ratio.sum(dim=1) / positive.sum(dim=1).clamp_min(1)
        return contrast.mean() + bottleneck * vectors.var(dim=0, correction=0).sum()


class GradientBalance(nn.Module):
    """Weights of two losses by how large the batch's gradient is (equations 16 and 17).

    With g the L2 norm of the total loss's gradient, the classification loss counts g / (g + 1) times `alpha` and the
    contrastive loss 1 / (g + 1) times `beta`: where training is hard, classification leads.

    The total loss of equation 17 has the weights that g is to give. Here g is that of the total with the base
    coefficients alone, alpha and beta, which is what `forward` gives until training has told it g with `measured`; so
    the gradient of a batch is computed twice, as sharpness-aware minimisation does, which the paper says inspired it.
    Measured on the weighted loss instead, g feeds on itself: once features have collapsed the contrastive gradient is
    0, g becomes g / (g + 1) times that of the classification loss, and both go to 0. One small HDF in two ended so.
    What training reports as its loss is that first total.

    The paper gives alpha and beta no values; they are 1 here. The released trainer multiplies by the constants 10 and
    0.1 and measures no gradient.
    """

    norm: Tensor

    def __init__(self, alpha: float = 1.0, beta: float = 1.0) -> None:
        super().__init__()
        self.alpha, self.beta = alpha, beta
        self.register_buffer("norm", torch.tensor(torch.nan), persistent=False)

    def forward(self, classification: Tensor, contrastive: Tensor) -> Tensor:
        unknown, share = self.norm.isnan(), self.norm / (self.norm + 1)
        share_of_classification, share_of_contrast = share.where(~unknown, 1.0), (1 - share).where(~unknown, 1.0)
        return share_of_classification * self.alpha * classification + share_of_contrast * self.beta * contrastive

    def measured(self, gradient_norm: Tensor | None) -> None:
        """Take note of g, or with None forget it. One that is not finite tells nothing."""
        known = self.norm.new_tensor(torch.nan) if gradient_norm is None else gradient_norm
        self.norm.copy_(known.where(known.isfinite(), torch.nan))
