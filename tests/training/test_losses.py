"""The focal loss against torch's cross-entropy and a closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from ray_fer.training.losses import focal_loss, inverse_frequencies

LOGITS = torch.randn(32, 7, generator=torch.Generator().manual_seed(0))
TARGET = torch.randint(7, (32,), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
def test_gamma_zero_is_label_smoothing_cross_entropy(smoothing: float) -> None:
    ours = focal_loss(LOGITS, TARGET, gamma=0.0, smoothing=smoothing)
    torch.testing.assert_close(ours, functional.cross_entropy(LOGITS, TARGET, label_smoothing=smoothing))


def test_without_smoothing_it_is_lin_et_al_s_focal_loss() -> None:
    p = LOGITS.softmax(1).gather(1, TARGET[:, None])[:, 0]
    expected = (-((1 - p) ** 2) * p.log()).mean()
    torch.testing.assert_close(focal_loss(LOGITS, TARGET, gamma=2.0, smoothing=0.0), expected)


def test_binary_case_agrees_with_torchvision() -> None:
    from torchvision.ops import sigmoid_focal_loss

    margin = torch.randn(16, generator=torch.Generator().manual_seed(2))
    target = torch.randint(2, (16,), generator=torch.Generator().manual_seed(3))
    ours = focal_loss(torch.stack([torch.zeros(16), margin], 1), target, gamma=2.0, smoothing=0.0)
    theirs = sigmoid_focal_loss(margin, target.float(), alpha=-1, gamma=2.0, reduction="mean")
    torch.testing.assert_close(ours, theirs)


def test_confident_and_right_costs_less_than_cross_entropy() -> None:
    confident = torch.zeros(1, 7)
    confident[0, 2] = 5.0
    target = torch.tensor([2])
    assert focal_loss(confident, target, smoothing=0.0) < 0.01 * functional.cross_entropy(confident, target)


def test_gradient_is_finite_at_extremes() -> None:
    logits = torch.tensor([[1e4, 0.0, 0.0], [0.0, 1e4, 0.0]], requires_grad=True)
    focal_loss(logits, torch.tensor([0, 0])).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_class_weights_are_a_weighted_mean_over_clips() -> None:
    alpha = torch.tensor([0.5, 2.0, 1.0, 0.0, 3.0, 1.0, 1.0])
    ours = focal_loss(LOGITS, TARGET, gamma=0.0, smoothing=0.0, alpha=alpha)
    each = functional.cross_entropy(LOGITS, TARGET, weight=alpha, reduction="none")
    torch.testing.assert_close(ours, each.mean())


def test_inverse_frequencies_give_every_class_the_same_say() -> None:
    labels = np.repeat([0, 1, 3], [6, 3, 1])
    weights = inverse_frequencies(labels, 4)
    assert weights[2] == 0
    said = np.bincount(labels, np.array(weights)[labels], minlength=4)
    np.testing.assert_allclose(said[[0, 1, 3]], 10 / 3)
