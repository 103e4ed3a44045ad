"""Training objectives."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def focal_loss(
    logits: Tensor, target: Tensor, gamma: float = 2.0, smoothing: float = 0.1, alpha: Tensor | None = None
) -> Tensor:
    """Focal loss with label smoothing (CA-FER section IV), averaged over the batch.

    logits [B,C], target int64 [B], alpha [C] weights of the classes. With smoothed targets q:
    ``-alpha_target sum_k q_k (1 - p_k)^gamma log p_k``. With gamma 0 this is the usual label-smoothing cross-entropy.
    The mean is over clips and not over weights, so that a batch's loss is the mean of its parts' losses.
    """
    log_p = functional.log_softmax(logits.float(), dim=1)
    classes = logits.shape[1]
    q = torch.full_like(log_p, smoothing / classes)
    q.scatter_add_(1, target[:, None], torch.full_like(log_p[:, :1], 1 - smoothing))
    weight = (1 - log_p.exp()).clamp_min(0) ** gamma
    losses = -(q * weight * log_p).sum(dim=1)
    return (losses if alpha is None else losses * alpha[target]).mean()


def inverse_frequencies(labels: np.ndarray, classes: int) -> list[float]:
    """Weights [C] inverse to how often each class occurs in `labels` int64 [N], of mean 1 over the clips.

    A class that does not occur has weight 0.
    """
    counts = np.bincount(labels, minlength=classes)
    present = counts > 0
    weights = np.zeros(classes)
    weights[present] = len(labels) / (present.sum() * counts[present])
    return weights.tolist()
