"""EthnicMER's four variants: two trunks that share nothing, three losses, public weights."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor
from torch.nn import functional

from ray_fer.models import ClipBatch, create, reads
from ray_fer.models.backbones.tiny_vit import tiny_vit
from ray_fer.models.ethnicmer import EthnicMer

TINY: dict[str, Any] = {"width": 8, "vit_dims": (16, 32, 32, 32), "vit_depths": (1, 1, 1, 1)}
ROWS = [{"ethnicity": "flow"}, {"texture_backbone": "resnet18"}, {"texture_backbone": "tiny_vit_21m"}]
two_trunks = pytest.mark.parametrize("row", ROWS, ids=["flow", "texture-resnet18", "texture-tiny_vit"])


def clips(count: int = 6, size: int = 32) -> ClipBatch:
    chance = torch.Generator().manual_seed(1)
    flow, apex = (torch.randn(count, 3, size, size, generator=chance) for _ in range(2))
    label, culture = torch.arange(count) % 3, torch.arange(count) % 2
    return ClipBatch(torch.empty(count, 0), culture=culture, label=label, flow=flow, apex=apex)


def built(**config: Any) -> EthnicMer:
    torch.manual_seed(0)
    return EthnicMer(**{**TINY, **config}).train()


def reached(model: EthnicMer, loss: Tensor) -> set[str]:
    """Parts of the model that a gradient of `loss` reaches."""
    model.zero_grad()
    loss.backward()
    return {
        name.split(".")[0]
        for name, one in model.named_parameters()
        if one.grad is not None and one.grad.abs().sum() > 0
    }


@two_trunks
def test_each_trunk_learns_from_its_own_loss_and_from_the_merged_one(row: dict[str, Any]) -> None:
    model, batch = built(**row), clips()
    losses = model(batch).losses
    assert set(losses) == {"emotion", "ethnicity"}
    assert reached(model, losses["emotion"]) == {"emotion", "emotion_head"}
    # The released code sends the ethnicity stream through the emotion trunk.
    assert reached(model, model(batch).losses["ethnicity"]) == {"ethnicity", "ethnicity_head"}
    merged = functional.cross_entropy(model(batch).logits, batch.label)
    assert reached(model, merged) == {"emotion", "ethnicity", "fusion_head"}


@two_trunks
def test_the_trunks_share_no_weight_and_look_at_their_own_image(row: dict[str, Any]) -> None:
    model, batch = built(**row).eval(), clips()
    owners = [{one.data_ptr() for one in part.parameters()} for part in (model.emotion, model.ethnicity)]
    assert not owners[0] & owners[1]
    assert batch.apex is not None
    moved = ClipBatch(batch.frames, flow=batch.flow, apex=batch.apex + 1)
    with torch.inference_mode():
        before, after = model(batch).features, model(moved).features
    seen = model.emotion.dim
    torch.testing.assert_close(before[:, :seen], after[:, :seen], atol=0, rtol=0)
    assert torch.equal(before[:, seen:], after[:, seen:]) == (row.get("ethnicity") == "flow")


def test_the_three_losses_are_those_of_the_equations() -> None:
    model, batch = built(), clips()
    assert batch.label is not None
    torch.manual_seed(3)  # TinyViT drops paths by chance
    output = model(batch)
    emotion, ethnicity = output.features.split([model.emotion.dim, 32], dim=1)
    by_hand = {
        "emotion": functional.cross_entropy(model.emotion_head(emotion), batch.label),
        "ethnicity": functional.cross_entropy(model.ethnicity_head(ethnicity), batch.culture),
    }
    for name, loss in by_hand.items():
        torch.testing.assert_close(output.losses[name], loss)
    merged = functional.cross_entropy(output.logits, batch.label)
    torch.testing.assert_close(output.logits, model.fusion_head(output.features))
    total = model.balance({"classification": merged, **output.losses})
    torch.testing.assert_close(total, merged + by_hand["emotion"] + by_hand["ethnicity"])


def test_clips_of_unknown_groups_teach_no_ethnicity() -> None:
    model, batch = built(ethnicity="flow"), clips()
    batch.culture = torch.tensor([0, -1, 1, -1, -1, 0])
    known = torch.tensor([0, 2, 5])
    output = model(batch)
    logits = model.ethnicity_head(output.features[:, model.emotion.dim :])
    expected = functional.cross_entropy(logits[known], batch.culture[known])
    torch.testing.assert_close(output.losses["ethnicity"], expected)
    for nobody in (torch.full((6,), -1), None):
        batch.culture = nobody
        assert model(batch).losses["ethnicity"] == 0


def test_without_ethnicity_it_is_resnet_18_alone() -> None:
    model = EthnicMer(classes=1000, ethnicity="none")
    reference = torchvision.models.resnet18()
    model.load_state_dict({**model.state_dict(), **model.adapted(reference.state_dict())})
    model.emotion_head.load_state_dict(reference.fc.state_dict())
    batch = clips(2, 96)
    with torch.inference_mode():
        output = model.eval()(batch)
        torch.testing.assert_close(output.logits, reference.eval()(batch.flow), atol=1e-4, rtol=1e-4)
    assert sum(one.numel() for one in model.parameters()) == sum(one.numel() for one in reference.parameters())
    assert model.train()(batch).losses == {}
    assert reads("ethnicmer", {"ethnicity": "none"}) == ("flow",)
    assert reads("ethnicmer", {}) == ("flow", "apex")


def test_tiny_vit_is_timms_21m() -> None:
    reference = timm.create_model("tiny_vit_21m_224", num_classes=1000).eval()
    model = create("ethnicmer").eval()
    assert isinstance(model, EthnicMer)
    model.load_state_dict({**model.state_dict(), **model.adapted(reference.state_dict())})
    batch = clips(1, 224)
    with torch.inference_mode():
        expected = reference.forward_head(reference.forward_features(batch.apex), pre_logits=True)
        torch.testing.assert_close(model(batch).features[:, 512:], expected, atol=1e-5, rtol=1e-4)


def test_weights_of_both_backbones_go_where_they_belong() -> None:
    state = {name: torch.full_like(one, 0.5) for name, one in torchvision.models.resnet18().state_dict().items()}
    for row, owners in (
        ({"ethnicity": "flow"}, {"emotion", "ethnicity"}),
        ({}, {"emotion"}),
    ):
        assert {name.split(".")[0] for name in create("ethnicmer", **row).adapted(state)} == owners
    with pytest.raises(ValueError, match="not weights of ResNet-18, which is all"):
        built(ethnicity="flow").adapted(tiny_vit().state_dict())


def test_wrong_words_sizes_and_clips_without_motion() -> None:
    with pytest.raises(ValueError, match="unknown ethnicity 'face'; expected one of none, flow, texture"):
        EthnicMer(ethnicity="face")
    with pytest.raises(ValueError, match="unknown texture_backbone 'vit'; expected one of tiny_vit_21m, resnet18"):
        EthnicMer(texture_backbone="vit")
    with pytest.raises(ValueError, match=r"TinyViT has four stages of a multiple of 32 channels, not \[16, 40"):
        EthnicMer(vit_dims=(16, 40, 32, 32))
    with pytest.raises(ValueError, match=r"reads the apex of a clip, and these have none.*--flow tvl1"):
        built()(ClipBatch(torch.empty(2, 0), flow=torch.zeros(2, 3, 32, 32)))
