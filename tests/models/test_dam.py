"""HDF's attention module: filters against scipy, every equation against loops, weights and gates in their ranges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import fft
from torch import Tensor, nn

from ray_fer.models import create
from ray_fer.models.backbones.video_resnet import VideoResNet
from ray_fer.models.batch import ClipBatch
from ray_fer.models.dam import DAM, Branches, FrequencyBranch, Fusion, TemporalBranch
from ray_fer.models.dam_released import ReleasedFrequencyBranch, ReleasedTemporalBranch
from ray_fer.models.dct import dct_filters

SHAPE = (3, 6, 4, 5, 5)
"""[B,C,T,H,W]"""


def maps(seed: int = 0) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def drawn(module: nn.Module) -> nn.Module:
    """With parameters that are not where they start, so that every term counts."""
    chance = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for one in module.parameters():
            one.copy_(torch.randn(one.shape, generator=chance) * 0.5)
    return module


@pytest.mark.parametrize("size", [2, 7, 8])
def test_filters_are_scipys_dct_and_orthonormal(size: int) -> None:
    filters = dct_filters(size).numpy().reshape(size**2, size**2)
    np.testing.assert_allclose(filters @ filters.T, np.eye(size**2), atol=1e-6)
    patch = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
    np.testing.assert_allclose(filters @ patch.ravel(), fft.dctn(patch, norm="ortho").ravel(), atol=1e-5)


@pytest.mark.parametrize("branches", ["both", "frequency", "temporal"])
def test_maps_keep_their_shape_and_every_parameter_is_used(branches: Branches) -> None:
    module = drawn(DAM(SHAPE[1], SHAPE[2], branches)).train()
    attended = module(maps())
    assert attended.shape == SHAPE
    attended.square().sum().backward()
    assert [name for name, one in module.named_parameters() if one.grad is None or not one.grad.abs().sum() > 0] == []


def test_equation_9_and_10() -> None:
    x, branch = maps(), drawn(TemporalBranch(SHAPE[2]))
    clips, _, frames, _, _ = SHAPE
    expected = torch.zeros(clips, frames, frames)
    for clip in range(clips):
        mean = [float(x[clip, :, t].mean()) for t in range(frames)]
        largest = [float(x[clip, :, t].max()) for t in range(frames)]
        for t in range(frames):
            drift = abs(mean[t] - sum(mean) / frames)
            change = abs(mean[t] - mean[t - 1]) if t else 0.0
            for other in range(frames):
                level = branch.alpha.item() * mean[t] + branch.beta.item() * largest[t]
                inner = branch.gamma[t, other] * level + branch.delta[t, other] * drift - change
                expected[clip, t, other] = 1 / (1 + torch.exp(-inner))
    gate = branch.gate(x)
    torch.testing.assert_close(gate, expected)
    assert ((gate > 0) & (gate < 1)).all()
    query, key, value = (gate @ part.T for part in branch.qkv.weight.chunk(3))
    attention = (query @ key.transpose(1, 2) / frames**0.5).softmax(dim=-1) @ value
    weight = attention.mean(dim=2).sigmoid()
    torch.testing.assert_close(branch(x), x * (1 + weight[:, None, :, None, None]))


def test_differences_are_between_frames_and_not_between_channels() -> None:
    branch = TemporalBranch(4)
    still = maps()[:, :, :1].expand(-1, -1, 4, -1, -1)
    gate = branch.gate(still)
    torch.testing.assert_close(gate[:, 1:], gate[:, :1].expand(-1, 3, -1))
    moving = still.clone()
    moving[:, :, 2] += 3.0
    changed = branch.gate(moving)
    assert not torch.allclose(changed[:, 3], gate[:, 3]), "frame 3 differs from frame 2 now"
    torch.testing.assert_close(changed[:, 1], gate[:, 1])


def test_equations_6_to_8() -> None:
    x, branch = maps(), drawn(FrequencyBranch()).train()
    clips, _, frames, height, width = SHAPE
    filters = dct_filters(7)
    found = torch.zeros(clips, frames, height, width, 49)
    padded = nn.functional.pad(x.mean(dim=1), (3, 3, 3, 3))
    for row in range(height):
        for column in range(width):
            patch = padded[:, :, row : row + 7, column : column + 7]
            found[:, :, row, column] = torch.einsum("btij,kij->btk", patch, filters)
    mean = found.reshape(-1, 49).mean(dim=0)
    fitted = torch.zeros_like(found)
    for clip in range(clips):
        distance = (found[clip] - mean).square().sum().sqrt()
        moved = found[clip] + found[clip].sign() * (branch.sign_weight * 0.05 + branch.distance_weight * distance)
        for number in range(49):
            deviation = np.sqrt(float(moved[..., number].var(correction=0)) + 1e-5)
            squashed = torch.tanh(branch.steepness * moved[..., number] / deviation)
            fitted[clip, ..., number] = squashed * branch.scale[number] + branch.shift[number]
    tokens = fitted.view(clips * frames, height * width, 49)
    query, key, value = branch.qkv(tokens).chunk(3, dim=-1)
    attended = (query @ key.transpose(1, 2) / 7).softmax(dim=-1) @ value
    gate = branch.proj(attended).view(clips, 1, frames, height, width).sigmoid()
    assert ((gate > 0) & (gate < 1)).all()
    torch.testing.assert_close(branch(x), x * gate + x, atol=1e-5, rtol=1e-4)


def test_in_evaluation_an_answer_depends_on_no_other_clip() -> None:
    branch = drawn(FrequencyBranch()).train()
    for seed in range(30):
        branch(maps(seed))
    branch.eval()
    torch.testing.assert_close(branch(maps())[1:2], branch(maps()[1:2]))
    x = maps(3)
    found = nn.functional.conv2d(x.mean(dim=1).flatten(0, 1)[:, None], dct_filters(7)[:, None], padding=3)
    expected = found.mean(dim=(0, 2, 3))
    start = branch.centre.clone()
    branch.train()(x)
    torch.testing.assert_close(branch.centre, 0.9 * start + 0.1 * expected)


def test_fusion_weights_are_of_each_clip_and_add_up_to_1() -> None:
    fusion = drawn(Fusion(SHAPE[1]))
    time, space = maps(1), maps(2)
    weights = fusion.weights(time, space)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(SHAPE[0]))
    assert ((weights > 0) & (weights < 1)).all()
    assert not torch.allclose(weights[0], weights[1])
    raw = [fusion.time(time.mean((2, 3, 4))).sigmoid(), fusion.space(space.mean((2, 3, 4))).sigmoid()]
    share = (raw[0] / (raw[0] + raw[1]))[:, :, None, None, None]
    torch.testing.assert_close(fusion(time, space), share * time + (1 - share) * space)


def test_a_single_branch_is_not_weighted() -> None:
    module = DAM(SHAPE[1], SHAPE[2], "temporal")
    torch.testing.assert_close(module(maps()), module.temporal(maps()))


def test_what_it_is_not_built_for_is_refused() -> None:
    with pytest.raises(ValueError, match="built for 8 frames and was given maps of 4"):
        DAM(6, 8)(maps())
    with pytest.raises(ValueError, match="expected both, frequency or temporal"):
        DAM(6, 4, "space")  # type: ignore[arg-type]


def test_the_released_temporal_branch_pools_channels() -> None:
    branch = drawn(ReleasedTemporalBranch(4))
    x, rows = maps(), []
    bins = [(0, 2), (1, 3), (3, 5), (4, 6)]  # of 6 channels into 4, as adaptive pooling cuts them
    for t in range(4):
        mean = torch.stack([x[0, low:high, t].mean() for low, high in bins])
        largest = torch.stack([x[0, low:high, t].max() for low, high in bins])
        distance = (mean - mean.mean()).square().sum().sqrt()
        difference = torch.cat([torch.zeros(1), (mean[1:] - mean[:-1]).abs()])
        level = branch.alpha * mean + branch.beta * largest
        row = (branch.gamma[t] * level + branch.delta[t] * distance - difference).sigmoid()
        rows.append(row)
    tokens = torch.stack(rows) @ branch.embed.weight.T
    attended = ((tokens @ tokens.T / 2).softmax(dim=-1) @ tokens).mean(dim=1)
    torch.testing.assert_close(branch(x)[0], x[0] * (1 + attended.sigmoid()[None, :, None, None]))


def test_the_released_frequency_branch_has_one_map_for_all_frames() -> None:
    branch, x = drawn(ReleasedFrequencyBranch()), maps()
    gate = branch(x) / x - 1
    torch.testing.assert_close(gate, gate[:, :1, :1].expand_as(gate), atol=1e-3, rtol=1e-3)
    assert ((gate > 0) & (gate < 1)).all()


def test_the_released_module_is_another_function_that_can_be_trained() -> None:
    released = DAM(SHAPE[1], SHAPE[2], variant="released")
    x = maps()
    expected = (0.8 * released.temporal(x) + 0.3 * released.frequency(x)) / 2
    torch.testing.assert_close(released(x), expected)
    released(x).square().sum().backward()
    silent = [name for name, one in released.named_parameters() if one.grad is None]
    assert silent == []


def test_it_plugs_into_r3d_18() -> None:
    torch.manual_seed(0)
    backbone = VideoResNet("r3d_18", width=8)
    backbone.layer3 = nn.Sequential(backbone.layer3, DAM(channels=32, frames=2))  # 8 frames, halved twice
    clips = torch.randn(2, 8, 3, 32, 32)
    vector, _ = backbone(clips)
    assert vector.shape == (2, 64)
    vector.sum().backward()
    assert all(one.grad is not None for one in backbone.parameters())


def test_hdf_takes_it_out_or_halves_it() -> None:
    clips = ClipBatch(torch.randn(2, 4, 3, 32, 32), label=torch.tensor([0, 0]))
    parts = {
        "none": None,
        "frequency": (True, False),
        "temporal": (False, True),
        "both": (True, True),
    }
    for name, expected in parts.items():
        model = create("hdf", "tiny", dam=name)
        assert model(clips).logits.shape == (2, 7)
        if expected is None:
            assert model.dam is None
        else:
            assert (model.dam.frequency is not None, model.dam.temporal is not None) == expected
            assert (model.dam.fusion is not None) == all(expected)
    assert isinstance(create("hdf", "tiny", variant="released").dam.temporal, ReleasedTemporalBranch)
