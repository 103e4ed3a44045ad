"""CA-FER: the ways to tell culture, and what each of them must and must not depend on."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ray_fer.models import ClipBatch, create
from ray_fer.models.cafer import CONDITIONINGS, CaFer

PROFILES = torch.rand(4, 20, generator=torch.Generator().manual_seed(0))
PRIORS = {"profiles": PROFILES.tolist(), "global_profile": PROFILES.mean(0).tolist()}


def batch(culture: list[int] | None) -> ClipBatch:
    frames = torch.randn(4, 4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    return ClipBatch(frames=frames, culture=None if culture is None else torch.tensor(culture))


def model(**config: Any) -> CaFer:
    torch.manual_seed(2)
    built = create("cafer", "tiny", **(PRIORS | config))
    assert isinstance(built, CaFer)
    return built.eval()


def test_output_shapes() -> None:
    output = model()(batch([0, 1, 2, 3]))
    assert output.logits.shape == (4, 7)
    assert output.features.shape == (4, 32)
    assert output.losses == {}


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_every_parameter_gets_a_gradient(conditioning: str) -> None:
    trained = model(conditioning=conditioning).train()
    trained(batch([0, 1, 2, -1])).logits.square().sum().backward()
    without = [name for name, p in trained.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # Of "heads", that of the culture which is not in the batch learns from the clip of unknown culture.
    assert without == []


def test_only_embeddings_of_cultures_in_the_batch_are_trained() -> None:
    trained = model().train()
    trained(batch([0, 1, 2, -1])).logits.square().sum().backward()
    embedding = trained.recalibration.embedding.weight.grad
    assert (embedding.abs().sum(1) > 0).tolist() == [True, True, True, False, True]


def test_what_the_paper_freezes_is_no_parameter() -> None:
    fixed = model(conditioning="au_fixed")
    torch.testing.assert_close(fixed.concatenation.vectors[:4], PROFILES)
    assert not [name for name, _ in fixed.named_parameters() if name.startswith("concatenation")]
    assert "concatenation.vectors" in fixed.state_dict()


@pytest.mark.parametrize("conditioning", ["none", "global"])
def test_a_model_that_reads_no_label_does_not_depend_on_one(conditioning: str) -> None:
    blind = model(conditioning=conditioning)
    torch.testing.assert_close(blind(batch([0, 1, 2, 3])).logits, blind(batch(None)).logits, atol=0, rtol=0)


@pytest.mark.parametrize("conditioning", [name for name in CONDITIONINGS if name not in ("none", "global")])
def test_the_others_depend_on_it_clip_by_clip(conditioning: str) -> None:
    told = model(conditioning=conditioning)
    if told.recalibration is not None:  # it starts as the identity
        with torch.no_grad():
            told.recalibration.shift.weight.normal_()
    mixed = told(batch([0, 1, 2, -1])).logits
    alike = [told(batch([culture] * 4)).logits for culture in (0, 1, 2, -1)]
    for clip, answers in enumerate(alike):
        torch.testing.assert_close(mixed[clip], answers[clip])
        assert not any(torch.allclose(mixed[clip], other[clip]) for other in alike if other is not answers)
    torch.testing.assert_close(alike[3], told(batch(None)).logits)


def test_heads_route_by_culture() -> None:
    routed = model(conditioning="heads")
    latent = routed(batch([0, 1, 2, 3])).features
    expected = torch.stack([routed.classifier.heads[culture](latent[culture]) for culture in range(4)])
    torch.testing.assert_close(routed(batch([0, 1, 2, 3])).logits, expected)
    with torch.no_grad():
        before = routed(batch([0, 1, 0, 1])).logits
        routed.classifier.heads[1][0].weight.add_(1.0)
        after = routed(batch([0, 1, 0, 1])).logits
    torch.testing.assert_close(before[[0, 2]], after[[0, 2]])
    assert not torch.allclose(before[[1, 3]], after[[1, 3]])


def test_global_equals_au_when_all_profiles_are_equal() -> None:
    alike = {"profiles": [PROFILES[0].tolist()] * 4, "global_profile": PROFILES[0].tolist()}
    one, four = (model(conditioning=name, **alike) for name in ("global", "au"))
    with torch.no_grad():
        for each in (one, four):
            torch.manual_seed(3)
            each.recalibration.shift.weight.normal_()
    torch.testing.assert_close(one(batch(None)).logits, four(batch([0, 1, 2, 3])).logits)


def test_only_the_proposed_systems_need_profiles() -> None:
    needing = []
    for conditioning in CONDITIONINGS:
        try:
            model(conditioning=conditioning, profiles=None, global_profile=None)
        except ValueError:
            needing.append(conditioning)
    assert needing == ["au_fixed", "global", "au"]
    model(conditioning="global", profiles=None)


def test_the_hidden_layer_of_the_classifier_is_half_as_wide_as_f_or_as_said() -> None:
    assert model().classifier[0].out_features == 16
    routed = model(conditioning="heads", hidden=40)
    assert {head[0].out_features for head in routed.classifier.heads} == {40}


@pytest.mark.parametrize("size", [64, 128, 256])
def test_embedding_sizes_of_figure_5(size: int) -> None:
    layer = model(embedding_dim=size).recalibration
    assert layer.embedding.weight.shape == (5, size)
    assert layer.scale.weight.shape == layer.shift.weight.shape == (32, size)


def test_backbones_of_section_5_c_2_give_the_same_kind_of_latent() -> None:
    for backbone, kind in (("vivit", "ViViT"), ("timesformer", "TimeSformer"), ("r3d_18", "VideoResNet")):
        built = model(backbone=backbone)
        assert type(built.backbone).__name__ == kind
        output = built(batch([0, 1, 2, 3]))
        assert output.features.shape == (4, built.backbone.dim)
        assert output.logits.shape == (4, 7)


def test_culture_dropout_hides_labels_in_training_only() -> None:
    hidden = model(culture_dropout=1.0)
    assert hidden._cultures(batch([0, 1, 2, 3])).tolist() == [0, 1, 2, 3]
    hidden.train()
    assert hidden._cultures(batch([0, 1, 2, 3])).tolist() == [-1] * 4


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"conditioning": "film"}, "unknown conditioning"),
        ({"backbone": "resnet"}, "unknown backbone"),
        ({"profiles": None}, "needs AU profiles"),
        ({"cultures": 5}, "expected 5 cultures"),
    ],
)
def test_wrong_configurations_are_told(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        model(**config)
