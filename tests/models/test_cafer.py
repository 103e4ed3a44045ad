"""CA-FER's equations, conditioning and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ray_fer.models import ClipBatch, create, names
from ray_fer.models.cafer import CaFer, Recalibration

TINY: dict[str, Any] = {
    "vivit": {
        "frames": 4, "size": 16, "patch": 8, "dim": 16, "spatial_depth": 1, "temporal_depth": 1, "heads": 2,
        "mlp_dim": 32,
    },
    "embedding_dim": 8,
}  # fmt: skip
PROFILES = torch.rand(4, 20, generator=torch.Generator().manual_seed(0))
PRIORS = {"profiles": PROFILES.tolist(), "global_profile": PROFILES.mean(0).tolist()}


def batch(culture: list[int] | None) -> ClipBatch:
    frames = torch.randn(4, 4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    return ClipBatch(frames=frames, culture=None if culture is None else torch.tensor(culture))


def model(**config: Any) -> CaFer:
    torch.manual_seed(2)
    built = create("cafer", **(TINY | PRIORS | config))
    assert isinstance(built, CaFer)
    return built.eval()


def test_names_and_unknown_models() -> None:
    assert "cafer" in names()
    with pytest.raises(ValueError, match="unknown model 'vgg'; expected one of cafer"):
        create("vgg")


def test_output_shapes() -> None:
    output = model()(batch([0, 1, 2, 3]))
    assert output.logits.shape == (4, 7)
    assert output.features.shape == (4, 16)
    assert output.losses == {}


def test_recalibration_is_equation_12() -> None:
    layer = Recalibration(torch.rand(5, 20), embedding_dim=8, dim=16)
    with torch.no_grad():
        layer.shift.weight.normal_()
    latent = torch.randn(3, 16)
    culture = torch.tensor([2, 0, -1])
    e = layer.embedding.weight[torch.tensor([2, 0, 4])]
    expected = (e @ layer.scale.weight.T) * latent + e @ layer.shift.weight.T
    torch.testing.assert_close(layer(latent, culture), expected)


def test_recalibration_starts_as_identity_and_small_random_weights_would_not() -> None:
    """W_a is started so that a = 1 for every seeded embedding; the usual small start gives a near 0, f wiped."""
    profiles = torch.cat([PROFILES, PROFILES.mean(0, keepdim=True)])
    layer = Recalibration(profiles, embedding_dim=128, dim=32)
    latent = torch.randn(5, 32)
    torch.testing.assert_close(layer(latent, torch.tensor([0, 1, 2, 3, -1])), latent, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        layer.scale.weight.normal_(std=0.02)
    assert layer(latent, torch.tensor([0, 1, 2, 3, -1])).norm() < 0.6 * latent.norm()


def test_identical_profiles_still_start_as_identity() -> None:
    layer = Recalibration(torch.ones(5, 20), embedding_dim=8, dim=4)
    latent = torch.randn(2, 4)
    torch.testing.assert_close(layer(latent, torch.tensor([1, -1])), latent, atol=1e-4, rtol=1e-4)


def test_every_parameter_gets_a_gradient() -> None:
    trained = model().train()
    trained(batch([0, 1, 2, -1])).logits.square().sum().backward()
    without = [name for name, p in trained.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # Embedding rows of cultures in the batch, W_a and W_b included; only biases behind dead ReLUs may stay at zero.
    assert without == []
    embedding = trained.recalibration.embedding.weight.grad
    assert embedding is not None
    assert (embedding.abs().sum(1) > 0).tolist() == [True, True, True, False, True]


def test_culture_matters_and_unknown_is_the_global_prior() -> None:
    conditioned = model()
    with torch.no_grad():
        conditioned.recalibration.shift.weight.normal_()
    outputs = [conditioned(batch([c] * 4)).logits for c in (0, 1, -1)]
    assert not torch.allclose(outputs[0], outputs[1])
    torch.testing.assert_close(outputs[2], conditioned(batch(None)).logits)


def test_global_and_none_read_no_culture_label() -> None:
    for conditioning in ("global", "none"):
        blind = model(conditioning=conditioning)
        torch.testing.assert_close(blind(batch([0, 1, 2, 3])).logits, blind(batch(None)).logits)
    assert model(conditioning="none").recalibration is None


def test_culture_dropout_hides_labels_in_training_only() -> None:
    hidden = model(culture_dropout=1.0)
    assert hidden._cultures(batch([0, 1, 2, 3])).tolist() == [0, 1, 2, 3]
    hidden.train()
    assert hidden._cultures(batch([0, 1, 2, 3])).tolist() == [-1] * 4


def test_difference_channels_are_relative_to_the_first_frame() -> None:
    seen: list[torch.Tensor] = []
    differing = model(difference=True)
    differing.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    clips = batch(None)
    differing(clips)
    assert seen[0].shape == (4, 4, 6, 16, 16)
    torch.testing.assert_close(seen[0][:, :, 3:], clips.frames - clips.frames[:, :1])


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"conditioning": "film"}, "unknown conditioning"),
        ({"profiles": None}, "needs AU profiles"),
        ({"cultures": 5}, "expected 5 cultures"),
    ],
)
def test_wrong_configurations_are_told(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        model(**config)
