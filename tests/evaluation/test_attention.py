"""Attention rollout against hand-computed cases, and Grad-CAM on networks that can only look at one place."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ray_fer.bundle import load_bundle
from ray_fer.evaluation.attention import (
    GRAD_CAM,
    ROLLOUT,
    attention_rollout,
    grad_cam,
    looked_into,
    method,
    saliency,
    vivit_rollout,
)
from ray_fer.models import create
from ray_fer.models.backbones.vivit import ViViT
from ray_fer.models.batch import ClipBatch, ModelOutput


def test_rollout_by_hand() -> None:
    identity, uniform = torch.eye(4).expand(1, 2, 4, 4), torch.full((1, 2, 4, 4), 0.25)
    # A token that attends to itself alone draws from itself alone, through any number of layers.
    torch.testing.assert_close(attention_rollout([identity, identity])[0], torch.eye(4))
    # With uniform attention, half goes through the residual connection and half is spread evenly.
    once = 0.5 * torch.eye(4) + 0.125
    torch.testing.assert_close(attention_rollout([uniform])[0], once)
    torch.testing.assert_close(attention_rollout([uniform, uniform])[0], once @ once)


def test_rollout_takes_the_mean_over_heads_and_multiplies_later_layers_from_the_left() -> None:
    first = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]]])  # mean: [[.5, .5], [1, 0]]
    second = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]]).expand(1, 2, 2, 2)
    mixed = [torch.tensor([[0.75, 0.25], [0.5, 0.5]]), torch.tensor([[0.5, 0.5], [0.0, 1.0]])]
    torch.testing.assert_close(attention_rollout([first, second])[0], mixed[1] @ mixed[0])
    with pytest.raises(ValueError, match="no attention"):
        attention_rollout([])


def test_recomputed_weights_are_those_that_the_model_used() -> None:
    """With q = 0 every token attends evenly: each of N patches gets the same, known share at every index."""
    vivit = ViViT(frames=4, size=16, patch=8, dim=8, spatial_depth=1, temporal_depth=1, heads=2, mlp_dim=8).eval()
    for block in vivit.spatial.blocks:
        nn.init.zeros_(block.qkv.weight)
    model = Answering(vivit)
    batch = ClipBatch(torch.rand(3, 4, 3, 16, 16))
    maps = vivit_rollout(model, batch)
    assert maps.shape == (3, 2, 2, 2)
    torch.testing.assert_close(maps, torch.full((3, 2, 2, 2), 0.5 / 5))  # 4 patches and the class token
    assert not saliency(model, batch).any(), "nothing stands out"

    nn.init.normal_(vivit.spatial.blocks[0].qkv.weight)
    block = vivit.spatial.blocks[0]
    tokens = torch.randn(2, 5, 8)
    query, key, value = block.qkv(block.norm1(tokens)).view(2, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
    weights = (query @ key.transpose(-2, -1) / 2).softmax(-1)
    used = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(weights @ value, used)


def test_a_patch_that_draws_attention_shows_at_its_place() -> None:
    vivit = ViViT(frames=2, size=32, patch=8, dim=4, spatial_depth=1, temporal_depth=1, heads=1, mlp_dim=4).eval()
    with torch.no_grad():
        vivit.tubelet.weight.zero_()
        vivit.tubelet.bias.zero_()
        vivit.spatial.position.zero_()
        vivit.spatial.position[0, 0] = torch.tensor([0.0, 0.0, 5.0, -5.0])  # the class token
        vivit.spatial.position[0, 1 + 4 * 1 + 2] = torch.tensor([5.0, -5.0, 0.0, 0.0])  # the patch of row 1, column 2
        weight = torch.zeros(12, 4)
        weight[:4] = 2 * torch.eye(4)[[2, 3, 0, 1]]  # its query asks for what that patch's key has
        weight[4:8] = 2 * torch.eye(4)
        vivit.spatial.blocks[0].qkv.weight.copy_(weight)
        vivit.spatial.blocks[0].qkv.bias.zero_()
    map_ = saliency(Answering(vivit), ClipBatch(torch.rand(1, 2, 3, 32, 32)))[0, 0]
    assert map_[1, 2] == 1
    assert (map_ > 0.5).sum() == 1


def test_a_bundle_is_looked_into_unchanged(tiny_bundle: Path) -> None:
    model = load_bundle(tiny_bundle).model
    batch = ClipBatch(torch.randn(2, 16, 3, 32, 32))
    before = model(batch).logits
    assert method(model) == ROLLOUT
    maps = saliency(model, batch)
    assert maps.shape == (2, 8, 4, 4)
    assert maps.flatten(1).amin(1).tolist() == [0, 0]
    assert maps.flatten(1).amax(1).tolist() == [1, 1]
    torch.testing.assert_close(model(batch).logits, before)
    assert not any(module._forward_hooks for module in model.modules())


class Answering(nn.Module):
    """A model around a ViViT."""

    def __init__(self, vivit: ViViT) -> None:
        super().__init__()
        self.vivit = vivit

    def forward(self, batch: ClipBatch) -> ModelOutput:
        cls, _ = self.vivit(batch.frames)
        return ModelOutput(logits=cls, features=cls)


class LooksAtOneCorner(nn.Module):
    """Class 0 is spoken for by what is bright in the lower right quarter of the third frame."""

    def __init__(self, volume: bool) -> None:
        super().__init__()
        self.volume = volume
        self.layer = (nn.Conv3d if volume else nn.Conv2d)(3, 2, 1)
        with torch.no_grad():
            self.layer.weight.fill_(1.0)
            self.layer.bias.zero_()  # type: ignore[union-attr]
        for parameter in self.parameters():
            parameter.requires_grad_(False)  # frozen, as the backbones of some models are

    def forward(self, batch: ClipBatch) -> ModelOutput:
        frames = batch.frames
        if self.volume:
            maps = self.layer(frames.transpose(1, 2)).transpose(1, 2)
        else:
            maps = self.layer(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        corner: Tensor = maps[:, 2, :, 4:, 4:].relu().mean(dim=(1, 2, 3))
        return ModelOutput(logits=torch.stack([corner, -corner], dim=1), features=corner[:, None])


@pytest.mark.parametrize("volume", [False, True])
def test_grad_cam_finds_what_matters(volume: bool) -> None:
    frames = torch.zeros(2, 4, 3, 8, 8)
    frames[:, 2, :, 5:7, 5:7] = 1.0
    model = LooksAtOneCorner(volume)
    assert method(model) == GRAD_CAM
    maps = saliency(model, ClipBatch(frames))
    assert maps.shape == (2, 4, 8, 8)
    expected = torch.zeros(2, 4, 8, 8)
    expected[:, 2, 5:7, 5:7] = 1.0
    torch.testing.assert_close(maps, expected)
    against = grad_cam(model, ClipBatch(frames), target=torch.tensor([1, 1]))
    assert not against.any(), "what speaks against a class is not shown"


def test_a_frame_that_does_not_count_does_not_show() -> None:
    frames = torch.ones(1, 4, 3, 8, 8)
    maps = saliency(LooksAtOneCorner(volume=False), ClipBatch(frames))
    assert maps[0, 2].amax() == 1
    assert not maps[0, [0, 1, 3]].any()


class Pooled(nn.Module):
    """Convolutions, the mean over all places, a linear layer: what class activation mapping was made for."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.last = nn.Conv2d(4, 5, 3, padding=1)
        self.active = nn.ReLU(inplace=in_place)
        self.head = nn.Linear(5, 7)

    def forward(self, batch: ClipBatch) -> ModelOutput:
        seen = self.last(self.active(self.first(batch.frames[:, 0])))
        pooled = seen.mean(dim=(2, 3))
        return ModelOutput(self.head(pooled), pooled)


@pytest.mark.parametrize("in_place", [False, True])
def test_with_mean_pooling_it_is_class_activation_mapping(in_place: bool) -> None:
    """Zhou et al. 2016, equation 2, over the number of places, and what is negative left out."""
    torch.manual_seed(0)
    model, frames, target = Pooled(in_place).eval(), torch.randn(3, 1, 3, 16, 16), torch.tensor([2, 0, 6])
    activation = model.last(model.first(frames[:, 0]).relu())
    expected = torch.einsum("bk,bkhw->bhw", model.head.weight[target], activation).relu() / 64
    torch.testing.assert_close(grad_cam(model, ClipBatch(frames), target)[:, 0], expected.detach())


def test_the_model_stays_as_it_was() -> None:
    model, batch = Pooled(in_place=True).eval(), ClipBatch(torch.randn(2, 1, 3, 16, 16))
    model.first.requires_grad_(False)
    before = model(batch).logits
    grad_cam(model, batch)
    torch.testing.assert_close(model(batch).logits, before)
    assert [one.requires_grad for one in model.parameters()] == [False, False, True, True, True, True]
    assert all(one.grad is None for one in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_every_piece_of_a_clip_has_its_own_maps() -> None:
    """M3DFEL sees a clip as several bags of frames."""
    torch.manual_seed(0)
    model = create("m3dfel", "tiny", classes=7).eval()
    size = model.card.tiny_input
    frames = torch.randn(2, size.frames, 3, size.size, size.size)
    both = grad_cam(model, ClipBatch(frames))
    assert both.shape[:2] == (2, 4)
    for place in range(2):
        torch.testing.assert_close(grad_cam(model, ClipBatch(frames[place : place + 1]))[0], both[place])


@pytest.mark.parametrize("ethnicity", ["none", "flow", "texture"])
def test_of_two_trunks_the_first_is_looked_into(ethnicity: str) -> None:
    """EthnicMER's face, which the last convolution that runs would see, has no part in what its motion says."""
    torch.manual_seed(0)
    model = create("ethnicmer", "tiny", ethnicity=ethnicity).eval()
    assert list(model.trunks()) == ["emotion", "ethnicity"][: 1 if ethnicity == "none" else 2]
    assert looked_into(model) == ("emotion", model.emotion)
    flow, apex, target = torch.randn(2, 3, 64, 64), torch.randn(2, 3, 64, 64), torch.tensor([1, 2])
    maps = grad_cam(model, ClipBatch(torch.empty(2, 0), flow=flow, apex=apex), target)
    assert maps.shape == (2, 1, 2, 2)

    seen: list[Tensor] = []
    handle = model.emotion.layer4[-1].conv2.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    logits = model(ClipBatch(torch.empty(2, 0), flow=flow, apex=apex)).logits
    handle.remove()
    (gradient,) = torch.autograd.grad(logits.gather(1, target[:, None]).sum(), seen)
    expected = (gradient.mean(dim=(2, 3), keepdim=True) * seen[0]).sum(dim=1).relu()
    torch.testing.assert_close(maps[:, 0], expected.detach())


def test_an_answer_without_a_gradient_says_so() -> None:
    class Frozen(Pooled):
        def forward(self, batch: ClipBatch) -> ModelOutput:
            with torch.no_grad():
                return super().forward(batch)

    with pytest.raises(ValueError, match="Frozen does not depend on the last convolution by a gradient"):
        grad_cam(Frozen(in_place=False), ClipBatch(torch.zeros(1, 1, 3, 8, 8)))


def test_a_model_without_either_says_so() -> None:
    with pytest.raises(ValueError, match="Linear has neither a ViViT nor convolutions"):
        saliency(nn.Linear(2, 2), ClipBatch(torch.zeros(1, 2, 3, 8, 8)))
