"""Training objectives."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def focal_loss(logits: Tensor, target: Tensor, gamma: float = 2.0, smoothing: float = 0.1) -> Tensor:
    """Focal loss with label smoothing (CA-FER section IV), averaged over the batch.

    logits [B,C], target int64 [B]. With smoothed targets q: ``-sum_k q_k (1 - p_k)^gamma log p_k``. With gamma 0
    this is the usual label-smoothing cross-entropy.
    """
    log_p = functional.log_softmax(logits.float(), dim=1)
    classes = logits.shape[1]
    q = torch.full_like(log_p, smoothing / classes)
    q.scatter_add_(1, target[:, None], torch.full_like(log_p[:, :1], 1 - smoothing))
    weight = (1 - log_p.exp()).clamp_min(0) ** gamma
    return -(q * weight * log_p).sum(dim=1).mean()
