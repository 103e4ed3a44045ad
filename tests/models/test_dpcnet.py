"""DPCNet, as it is reconstructed: which frames it looks at, how its paths meet, and what its losses ask for."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from ray_fer.models.batch import ClipBatch
from ray_fer.models.describe import size_of
from ray_fer.models.dpcnet import (
    ChannelTemporalAggregation,
    Dpcnet,
    SpatialFrameExcitation,
    coherence,
    divergence,
    key_frames,
)

CARD = Dpcnet.card


def tiny(**config: int | float) -> Dpcnet:
    torch.manual_seed(0)
    return Dpcnet(**{**CARD.tiny, **config}).eval()


def numbered(count: int) -> Tensor:
    """A clip whose frame t has the value t everywhere: [1,T,1,2,2]."""
    return torch.arange(count, dtype=torch.float32).view(1, count, 1, 1, 1).expand(1, count, 1, 2, 2)


def test_size_of_the_published_model() -> None:
    published = CARD.published[0]
    with torch.device("meta"):
        size = size_of(Dpcnet(), published.input)
        resnets = 2 * sum(p.numel() for p in torchvision.models.resnet50(num_classes=7).parameters())
    assert size.parameters / 1e6 == pytest.approx(published.parameters, rel=0.02)
    assert size.macs / 1e9 == pytest.approx(published.gmacs, rel=0.03)
    modules = (1024 * 512 + 2 * 512 + 27 * 512 + 1) + (2 * 1024 * 64 + 64 + 1024 + 3 * 1024**2 + 2 * 1024)
    assert size.parameters == resnets + modules


def test_key_frame_of_a_group_is_the_one_farthest_from_the_mean_frame() -> None:
    chosen = key_frames(numbered(8), groups=4, draw=False)  # the mean is 3.5
    assert chosen[0, :, 0, 0, 0].tolist() == [0, 2, 5, 7]


def test_key_frames_are_drawn_by_their_weights() -> None:
    torch.manual_seed(0)
    clip = torch.zeros(1, 4, 1, 2, 2)
    clip[0, 1] = 4.0  # the mean is 1: weights 1 and 3 in the first group, 1 and 1 in the second
    drawn = key_frames(clip.expand(4000, -1, -1, -1, -1), groups=2, draw=True)
    assert drawn.shape == (4000, 2, 1, 2, 2)
    assert (drawn[:, 0, 0, 0, 0] == 4).float().mean() == pytest.approx(3 / 4, abs=0.03)
    second = key_frames(numbered(4).expand(4000, -1, -1, -1, -1), groups=2, draw=True)[:, 1, 0, 0, 0]
    assert set(second.tolist()) == {2.0, 3.0}


def test_a_clip_that_stands_still_can_be_drawn_from() -> None:
    torch.manual_seed(0)
    assert key_frames(torch.ones(3, 8, 1, 2, 2), groups=4, draw=True).shape == (3, 4, 1, 2, 2)


def test_excitation_raises_positions_and_frames_by_up_to_two() -> None:
    torch.manual_seed(0)
    module, maps = SpatialFrameExcitation(8).eval(), torch.rand(2, 8, 4, 3, 3) + 0.1
    gain = module(maps) / maps
    assert gain.min() > 1
    assert gain.max() < 2
    torch.testing.assert_close(gain, gain[:, :1].expand_as(gain))  # the same in all channels
    assert gain.std(dim=2).min() > 0  # and another in each frame


def test_aggregation_looks_one_frame_ahead_and_back_at_the_same_place() -> None:
    torch.manual_seed(0)
    module, maps = ChannelTemporalAggregation(32).eval(), torch.randn(1, 32, 5, 3, 3)
    with torch.no_grad():
        module.expand.weight.zero_()  # gates that do not look
        changed = maps.clone()
        changed[:, :, 1, 0, 0] += 10
        seen = (module(maps) - module(changed)).abs().amax(dim=(0, 1)) > 1e-6
    assert seen[:, 0, 0].tolist() == [True, True, True, False, False]
    assert seen.sum() == 3


def test_second_path_builds_on_the_first() -> None:
    """A change in the first path's network reaches both classifiers, one in the second's only its own."""
    model, batch = tiny(), ClipBatch(torch.randn(1, 4, 3, 32, 32))
    answers: dict[str, list[Tensor]] = {"spatial": [], "temporal": []}
    for name, head in (("spatial", model.spatial_head), ("temporal", model.temporal_head)):
        head.register_forward_hook(lambda module, args, output, name=name: answers[name].append(output.detach()))
    output = model(batch)
    torch.testing.assert_close(output.logits, (answers["spatial"][0] + answers["temporal"][0]) / 2)
    halves = output.features.chunk(2, dim=1)
    torch.testing.assert_close(model.spatial_head(halves[0]), answers["spatial"][0])
    for path in (model.temporal_path, model.spatial_path):
        with torch.no_grad():
            path.cnn.conv1.weight.mul_(-1)
        answers["spatial"].clear()
        answers["temporal"].clear()
        model(batch)
        with torch.no_grad():
            path.cnn.conv1.weight.mul_(-1)
        model(batch)
        changed = {name: not torch.allclose(*seen) for name, seen in answers.items()}
        assert changed == {"spatial": path is model.spatial_path, "temporal": True}


def test_coherence_of_known_vectors() -> None:
    same = torch.tensor([[[3.0, 4.0]]]).expand(2, 8, 2) * torch.arange(1, 9).view(1, 8, 1)
    assert coherence(same).item() == pytest.approx(0, abs=1e-6)  # length does not matter
    assert coherence(torch.eye(2)[None]).item() == pytest.approx(1 - 0.5**0.5)
    opposed = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]], requires_grad=True)  # their mean has no direction
    coherence(opposed).backward()
    assert opposed.grad is not None
    assert opposed.grad.isfinite().all()


def test_divergence_is_the_symmetric_kullback_leibler_divergence() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(5, 7), torch.randn(5, 7)
    one, other = Categorical(logits=first), Categorical(logits=second)
    expected = (kl_divergence(one, other) + kl_divergence(other, one)).mean() / 2
    torch.testing.assert_close(divergence(first, second), expected)
    assert divergence(first, first + 3).item() == pytest.approx(0, abs=1e-6)
    assert divergence(torch.tensor([[200.0, 0.0]]), torch.tensor([[0.0, 200.0]])).item() == pytest.approx(200)


def test_losses_are_given_in_training_only_and_weighted() -> None:
    batch = ClipBatch(torch.randn(2, 4, 3, 32, 32))
    assert tiny()(batch).losses == {}
    single, double = (
        tiny(coherence_weight=weight, divergence_weight=3 * weight).train()(batch).losses for weight in (1.0, 2.0)
    )
    assert sorted(single) == ["dual_path", "multi_frame"]
    for name, value in single.items():
        assert value.item() > 0
        assert double[name].item() == pytest.approx(2 * value.item(), rel=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_losses_of_one_constant_clip_are_finite(value: float) -> None:
    model = tiny().train()
    losses = model(ClipBatch(torch.full((1, 8, 3, 32, 32), value))).losses
    sum(losses.values(), torch.zeros(())).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_imagenet_weights_reach_both_paths() -> None:
    theirs = torchvision.models.resnet50().state_dict()
    with torch.device("meta"):
        model = Dpcnet()
    adapted = model.adapted(theirs)
    left = {name for name in set(model.state_dict()) - set(adapted) if not name.endswith("num_batches_tracked")}
    assert {name.split(".")[0] for name in left} == {"excitation", "aggregation", "spatial_head", "temporal_head"}
    for path in ("spatial_path", "temporal_path"):
        assert adapted[f"{path}.cnn.layer3.5.conv2.weight"] is theirs["layer3.5.conv2.weight"]
        assert adapted[f"{path}.layer4.0.downsample.0.weight"] is theirs["layer4.0.downsample.0.weight"]
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    assert all(shapes[name] == value.shape for name, value in adapted.items())
    with pytest.raises(ValueError, match="not weights of a torchvision ResNet-50"):
        model.adapted({"layer1.0.conv1.weight": torch.zeros(1)})


def test_frames_that_do_not_divide() -> None:
    with pytest.raises(ValueError, match="6 frames do not divide into 4 groups; build DPCNet with groups="):
        tiny()(ClipBatch(torch.randn(1, 6, 3, 32, 32)))
