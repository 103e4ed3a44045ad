"""Recalibration (equations 5, 6 and 12), its start, and the answer to an unknown culture."""

from __future__ import annotations

import torch

from ray_fer.models.culture import (
    CultureHeads,
    Recalibration,
    one_hot_vectors,
    random_embeddings,
    seeded_embeddings,
)

PROFILES = torch.rand(4, 20, generator=torch.Generator().manual_seed(0))
WITH_GLOBAL = torch.cat([PROFILES, PROFILES.mean(0, keepdim=True)])


def test_recalibration_is_equation_12() -> None:
    layer = Recalibration(torch.rand(5, 8), dim=16)
    with torch.no_grad():
        layer.shift.weight.normal_()
    latent = torch.randn(3, 16)
    e = layer.embedding.weight[torch.tensor([2, 0, 4])]
    expected = (e @ layer.scale.weight.T) * latent + e @ layer.shift.weight.T
    torch.testing.assert_close(layer(latent, torch.tensor([2, 0, -1])), expected)


def test_it_starts_as_identity_and_small_random_weights_would_wipe_the_latent() -> None:
    """W_a is started so that a = 1 for every seeded embedding; the usual small start gives a near 0, f wiped."""
    layer = Recalibration(seeded_embeddings(WITH_GLOBAL, 128), dim=32)
    latent, every = torch.randn(5, 32), torch.tensor([0, 1, 2, 3, -1])
    torch.testing.assert_close(layer(latent, every), latent, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        layer.scale.weight.normal_(std=0.02)
    assert layer(latent, every).norm() < 0.6 * latent.norm()


def test_the_start_lets_gradients_through_where_a_small_random_one_almost_stops_them() -> None:
    reached = {}
    for start in ("ours", "small"):
        torch.manual_seed(1)
        layer = Recalibration(seeded_embeddings(WITH_GLOBAL, 128), dim=32)
        if start == "small":
            torch.nn.init.normal_(layer.scale.weight, std=0.002)
        latent = torch.randn(5, 32, requires_grad=True)
        layer(latent, torch.tensor([0, 1, 2, 3, -1])).sum().backward()
        reached[start] = latent.grad.abs().mean().item()
        assert all(
            one.grad is not None and one.grad.abs().sum() > 0 for one in (layer.scale.weight, layer.shift.weight)
        )
    assert abs(reached["ours"] - 1) < 1e-3
    assert reached["small"] < 0.1


def test_identical_profiles_still_start_as_identity() -> None:
    layer = Recalibration(seeded_embeddings(torch.ones(5, 20), 8), dim=4)
    latent = torch.randn(2, 4)
    torch.testing.assert_close(layer(latent, torch.tensor([1, -1])), latent, atol=1e-4, rtol=1e-4)


def test_both_readings_of_the_global_prior_are_the_same_before_training() -> None:
    """The projected mean profile (III.E) is the mean of the projected profiles, which others average."""
    seeded = seeded_embeddings(WITH_GLOBAL, 64)
    torch.testing.assert_close(seeded[-1], seeded[:4].mean(0))


def test_an_unknown_culture_gets_the_mean_of_the_known_ones() -> None:
    vectors = one_hot_vectors(4)
    assert vectors.tolist() == [*torch.eye(4).tolist(), [0.25] * 4]
    rows = random_embeddings(3, 16)
    torch.testing.assert_close(rows[-1], rows[:3].mean(0))
    heads = CultureHeads([torch.nn.Linear(4, 2) for _ in range(3)])
    latent = torch.randn(1, 4)
    each = torch.stack([heads(latent, torch.tensor([culture])) for culture in range(3)])
    torch.testing.assert_close(heads(latent, torch.tensor([-1])), each.mean(0))


def test_random_rows_are_as_large_as_seeded_ones() -> None:
    """Else "random" and "au" would differ in more than where they start."""
    torch.manual_seed(0)
    profiles = torch.rand(200, 20)
    sizes = seeded_embeddings(profiles, 128).norm(dim=1).mean(), random_embeddings(200, 128)[:-1].norm(dim=1).mean()
    assert 0.7 < sizes[0] / sizes[1] < 1.4
