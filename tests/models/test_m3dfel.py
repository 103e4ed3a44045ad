"""M3DFEL: its normalisation against closed forms, its bag, and Kinetics weights from torchvision."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from ray_fer.models.batch import ClipBatch
from ray_fer.models.describe import size_of
from ray_fer.models.m3dfel import Dmin, M3dfel

CARD = M3dfel.card


def tiny(**config: int) -> M3dfel:
    torch.manual_seed(0)
    return M3dfel(**{**CARD.tiny, **config}).eval()


def test_size_of_the_real_model() -> None:
    """R3D-18 has the count and the multiply-adds of torchvision's own table; the rest by hand."""
    theirs = torchvision.models.video.R3D_18_Weights.KINETICS400_V1.meta
    with torch.device("meta"):
        model = M3dfel()
        size = size_of(model, CARD.input)
    backbone = theirs["num_params"] - 401 * 400 - 112 * 400  # its head: 512 x 400 and 400 biases
    assert sum(p.numel() for p in model.backbone.parameters()) == backbone
    lstm = 2 * (2048 * (512 + 512) + 2 * 2048) + 2 * (2048 * (1024 + 512) + 2 * 2048)
    rest = 1024 * 3072 + 2 * 1024 + 4 + (4 * 3 + 1) + (1024 * 7 + 7)
    assert size.parameters == backbone + lstm + rest
    assert size.macs / 1e9 > theirs["_ops"]  # 40.7 for the 16 frames in one piece: the published 1.66 cannot be


def test_a_bag_of_four_instances_of_four_frames() -> None:
    model = tiny(instances=4)
    seen: list[torch.Tensor] = []
    model.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    frames = torch.randn(2, 16, 3, 16, 16)
    model(ClipBatch(frames))
    assert seen[0].shape == (8, 4, 3, 16, 16)
    torch.testing.assert_close(seen[0][1], frames[0, 4:8])
    torch.testing.assert_close(seen[0][6], frames[1, 8:12])


def test_statistics_of_each_feature() -> None:
    """All weight on the first statistics: instance normalisation, but for its biased variance."""
    torch.manual_seed(0)
    norm = Dmin(6)
    with torch.no_grad():
        norm.mean_weight.copy_(torch.tensor([100.0, 0.0]))
        norm.var_weight.copy_(torch.tensor([100.0, 0.0]))
    bag = torch.randn(3, 4, 6) * 5 + 2
    biased = functional.instance_norm(bag.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(norm(bag), biased * (3 / 4) ** 0.5, atol=1e-4, rtol=1e-4)


def test_statistics_of_the_bag() -> None:
    """All weight on the second: each bag is centred as a whole, and its variance is that of its features' mixture."""
    torch.manual_seed(0)
    norm = Dmin(6)
    with torch.no_grad():
        norm.mean_weight.copy_(torch.tensor([0.0, 100.0]))
        norm.var_weight.copy_(torch.tensor([0.0, 100.0]))
    bag = torch.randn(3, 4, 6) * 5 + 2
    for normed, one in zip(norm(bag), bag, strict=True):
        second_moment = (one.var(dim=0) + one.mean(dim=0) ** 2).mean()
        expected = (one - one.mean()) / (second_moment - one.mean() ** 2).sqrt()
        torch.testing.assert_close(normed, expected, atol=1e-4, rtol=1e-4)


def test_normalisation_starts_half_way_and_scales_each_feature() -> None:
    norm = Dmin(2)
    with torch.no_grad():
        norm.scale.copy_(torch.tensor([1.0, 10.0]))
        norm.shift.copy_(torch.tensor([0.0, -3.0]))
    bag = torch.tensor([[[0.0, 4.0], [2.0, 6.0]]])  # means 1 and 5, variances 2 and 2; of the bag 3, and 2 + 4
    expected = torch.tensor([[[0 - 2.0, 4 - 4.0], [2 - 2.0, 6 - 4.0]]]) / 4**0.5
    expected[..., 1] = expected[..., 1] * 10 - 3
    torch.testing.assert_close(norm(bag), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("value", [0.0, 1e4])
def test_normalising_a_constant_bag_is_finite(value: float) -> None:
    bag = torch.full((1, 4, 6), value, requires_grad=True)
    normed = Dmin(6)(bag)
    normed.square().sum().backward()
    assert normed.abs().max() < 1
    assert bag.grad is not None
    assert bag.grad.isfinite().all()


def test_attention_agrees_with_torchs_own() -> None:
    """nn.MultiheadAttention with an identity as its output projection."""
    model = tiny()
    theirs = nn.MultiheadAttention(64, 2, bias=False, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(model.qkv.weight)
        theirs.out_proj.weight.copy_(torch.eye(64))
    bag = torch.randn(2, 4, 64)
    torch.testing.assert_close(model._attended(bag), theirs(bag, bag, bag)[0], atol=1e-5, rtol=1e-5)


def test_answer_is_the_gated_lstm_merged_over_instances() -> None:
    model = tiny()
    bags: list[torch.Tensor] = []
    model.lstm.register_forward_hook(lambda module, args, output: bags.append(output[0].detach()))
    with torch.no_grad():
        model.norm.scale.zero_()
        model.norm.shift.fill_(100.0)  # an open gate
        model.merge.weight.zero_()
        model.merge.weight[0, 2, 1] = 1.0  # the third instance, feature by feature
        model.merge.bias.zero_()
    output = model(ClipBatch(torch.randn(2, 8, 3, 16, 16)))
    torch.testing.assert_close(output.features, bags[0][:, 2])
    torch.testing.assert_close(output.logits, model.head(output.features))


def test_one_clip_alone() -> None:
    """The released code loses the batch axis of one clip."""
    model = tiny()
    frames = torch.randn(3, 8, 3, 16, 16)
    together, alone = model(ClipBatch(frames)).logits, model(ClipBatch(frames[1:2])).logits
    assert alone.shape == (1, 7)
    torch.testing.assert_close(alone[0], together[1], atol=1e-5, rtol=1e-4)
    assert model.train()(ClipBatch(frames[:1])).logits.shape == (1, 7)


def test_kinetics_weights_reach_the_backbone() -> None:
    theirs = torchvision.models.video.r3d_18().eval()
    with torch.device("meta"):
        model = M3dfel()
    state = model.state_dict() | model.adapted(theirs.state_dict())
    model.backbone.load_state_dict(
        {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")},
        assign=True,
    )
    theirs.fc = nn.Identity()
    instance = torch.randn(1, 4, 3, 16, 16)
    expected = theirs(instance.transpose(1, 2))
    torch.testing.assert_close(model.backbone.eval()(instance)[0], expected, atol=1e-4, rtol=1e-4)


def test_other_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="not the weights of torchvision's r3d_18"):
        tiny().adapted({"conv1.weight": torch.zeros(1)})


def test_frames_that_make_no_bag() -> None:
    with pytest.raises(ValueError, match="10 frames do not divide into 4 instances; build M3DFEL with instances="):
        tiny()(ClipBatch(torch.randn(1, 10, 3, 16, 16)))
    with pytest.raises(ValueError, match="at least 2 instances"):
        tiny(instances=1)
