"""HDF's contrastive loss against a slow loop written from its equations, and its loss weights against autograd."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from ray_fer.models import create
from ray_fer.models.batch import ClipBatch
from ray_fer.models.dsm import Gaussian, GradientBalance, robust_contrastive_loss

LABELS = [0, 1, 0, 2, 1, 0]


def written_out(features: Tensor, labels: list[int], tau: float, eta: float, beta: float, gaussian: str) -> float:
    """Equations 13 to 15, term by term."""
    z = [row / row.norm() for row in features.double()]
    count, total = len(z), 0.0
    for i in range(count):
        positives = [p for p in range(count) if p != i and labels[p] == labels[i]]
        if not positives:
            continue
        denominator = 0.0
        for a in range(count):
            if a == i:
                continue
            s = float(z[i] @ z[a]) / tau
            seen = s * tau if gaussian == "cosine" else s
            weight = 1.0 if a in positives else math.exp(-((seen - eta) ** 2) / (2 * eta**2))
            denominator += weight * math.exp(s)
        terms = [math.log(math.exp(float(z[i] @ z[p]) / tau) / denominator) for p in positives]
        total += -sum(terms) / len(positives)
    mean = sum(z) / count
    covariance = sum(torch.outer(one - mean, one - mean) for one in z) / count
    return total / count + beta * float(covariance.trace())


@settings(max_examples=40, deadline=None)
@given(
    labels=st.lists(st.integers(0, 3), min_size=2, max_size=9),
    tau=st.sampled_from([0.07, 0.5, 1.0]),
    eta=st.sampled_from([0.2, 1.0]),
    beta=st.sampled_from([0.0, 0.1, 2.0]),
    gaussian=st.sampled_from(["similarity", "cosine"]),
    seed=st.integers(0, 99),
)
def test_it_is_the_paper_s_sum(
    labels: list[int], tau: float, eta: float, beta: float, gaussian: Gaussian, seed: int
) -> None:
    features = torch.randn(len(labels), 5, generator=torch.Generator().manual_seed(seed))
    found = robust_contrastive_loss(features, torch.tensor(labels), tau, eta, beta, gaussian)
    assert float(found) == pytest.approx(written_out(features, labels, tau, eta, beta, gaussian), rel=1e-4, abs=1e-5)


def test_a_flat_gaussian_leaves_the_supervised_contrastive_loss_with_all_negatives_alike() -> None:
    """Equation 5, in which every negative counts exp(-1/2) times: eta is far larger than any similarity."""
    features = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    z = functional.normalize(features, dim=1)
    s = (z @ z.T / 0.5).fill_diagonal_(-torch.inf)
    same = torch.tensor(LABELS)[:, None] == torch.tensor(LABELS)
    same.fill_diagonal_(False)
    log_p = (s - s.logsumexp(dim=1, keepdim=True)).masked_fill(~same, 0.0)
    expected = (-log_p.sum(1) / same.sum(1).clamp_min(1)).mean()
    eta = 1e6  # (s - eta)^2 / (2 eta^2) is 1/2 for all: a constant factor on negatives
    found = robust_contrastive_loss(features, torch.tensor(LABELS), 0.5, eta, 0.0)
    negatives = s.masked_fill(same, -torch.inf) - 0.5
    denominator = torch.logaddexp(negatives.logsumexp(1), s.masked_fill(~same, -torch.inf).logsumexp(1))
    halved = (-(s - denominator[:, None]).masked_fill(~same, 0.0).sum(1) / same.sum(1).clamp_min(1)).mean()
    torch.testing.assert_close(found, halved, atol=1e-4, rtol=1e-4)
    assert found < expected, "negatives count less than in the plain loss"


def test_it_never_falls_below_what_positives_alone_leave() -> None:
    """A batch whose classes are as far apart as can be: the loss is that of perfect classes, and finite."""
    features = torch.tensor([[1.0, 0.0]] * 3 + [[-1.0, 0.0]] * 3)
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    found = robust_contrastive_loss(features, labels, bottleneck=0.0)
    assert float(found) == pytest.approx(math.log(2), abs=1e-5), "two positives share the denominator"


def test_the_bottleneck_is_added_and_clips_alone_in_their_class_are_harmless() -> None:
    features = torch.randn(4, 8, requires_grad=True)
    alone = robust_contrastive_loss(features, torch.arange(4), bottleneck=0.5)
    z = functional.normalize(features, dim=1)
    torch.testing.assert_close(alone, 0.5 * (1 - z.mean(dim=0).square().sum()))
    alone.backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_gradients_do_not_pull_negatives_closer() -> None:
    """Two classes, one negative pair of which is closer than eta: only away is downhill."""
    angle = torch.tensor(1.4, requires_grad=True)
    negative = torch.stack([angle.cos(), angle.sin()])
    features = torch.stack([torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0]), negative, negative])
    robust_contrastive_loss(features, torch.tensor([0, 0, 1, 1]), temperature=0.5, bottleneck=0.0).backward()
    assert angle.grad is not None
    assert angle.grad < -0.1, "a larger angle has less loss"


def test_weights_are_those_of_equation_16() -> None:
    balance = GradientBalance(alpha=3.0, beta=2.0)
    classification, contrastive = torch.tensor(5.0), torch.tensor(7.0)
    base = torch.tensor(3.0 * 5 + 2 * 7)
    torch.testing.assert_close(balance(classification, contrastive), base)
    balance.measured(torch.tensor(4.0))
    torch.testing.assert_close(balance(classification, contrastive), torch.tensor(0.8 * 3 * 5 + 0.2 * 2 * 7))
    for nothing in (torch.tensor(float("inf")), torch.tensor(float("nan")), None):
        balance.measured(torch.tensor(4.0))
        balance.measured(nothing)
        torch.testing.assert_close(balance(classification, contrastive), base)


def test_hdf_s_total_before_and_after_its_gradient_is_known() -> None:
    torch.manual_seed(0)
    model = create("hdf", "tiny").train()
    assert model.measures
    labels = torch.tensor([0, 1, 0, 1])
    batch = ClipBatch(torch.randn(4, 4, 3, 32, 32), label=labels)
    output = model(batch)
    classification = functional.cross_entropy(output.logits, labels)
    contrastive = robust_contrastive_loss(output.features, labels)
    torch.testing.assert_close(output.losses["contrastive"], contrastive)
    total = model.balance({"classification": classification, **output.losses})
    torch.testing.assert_close(total, classification + contrastive)
    weights = [one for one in model.parameters() if one.requires_grad]
    gradients = torch.autograd.grad(total, weights, retain_graph=True)
    norm = torch.cat([one.flatten() for one in gradients]).norm()
    model.measured(norm)
    again = model.balance({"classification": classification, **output.losses})
    torch.testing.assert_close(again, norm / (norm + 1) * classification + 1 / (norm + 1) * contrastive)
    assert not [name for name in model.state_dict() if "balancer" in name], "a batch's own, and nothing to keep"


def test_without_dsm_hdf_has_the_classification_loss_alone() -> None:
    model = create("hdf", "tiny", dsm=False).train()
    labels = torch.tensor([0, 1])
    output = model(ClipBatch(torch.randn(2, 4, 3, 32, 32), label=labels))
    assert output.losses == {}
    assert not model.measures
    torch.testing.assert_close(model.balance({"classification": torch.tensor(2.0)}), torch.tensor(2.0))
    model.measured(torch.tensor(3.0))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"gaussian": "flat"}, "unknown gaussian 'flat'; expected similarity or cosine"),
        ({"x3d_size": "xl"}, "unknown size 'xl' of X3D; expected one of xs, s, m, l"),
        ({"dam_stage": 6}, "X3D has no stage 6 to put DAM behind; give 2 to 5"),
        ({"dam": "none", "variant": "new"}, "unknown variant 'new' of DAM; expected paper or released"),
        ({"dam": "spatial"}, "unknown branches 'spatial' of DAM"),
    ],
)
def test_hdf_says_what_it_does_not_know(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        create("hdf", "tiny", **wrong)
