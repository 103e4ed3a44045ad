"""R3D-18, MC3-18 and R(2+1)D-18 against torchvision's own, and what CA-FER reads of their backbone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import video

from ray_fer.models.backbones.convolution import Conv3d, widened
from ray_fer.models.backbones.video_resnet import VideoResNet, VideoResNetClassifier
from ray_fer.models.batch import ClipBatch
from ray_fer.models.describe import size_of
from ray_fer.models.mc3_18 import MC3_18
from ray_fer.models.pretrained import load_pretrained
from ray_fer.models.r2plus1d_18 import R2Plus1D18
from ray_fer.models.r3d_18 import R3D18

CLASSES = (R3D18, MC3_18, R2Plus1D18)
KINETICS = {
    R3D18: video.R3D_18_Weights.KINETICS400_V1,
    MC3_18: video.MC3_18_Weights.KINETICS400_V1,
    R2Plus1D18: video.R2Plus1D_18_Weights.KINETICS400_V1,
}


def theirs(ours: type[VideoResNetClassifier], **config: Any) -> nn.Module:
    """torchvision's model with random weights; batch normalisation has seen something, so that it counts."""
    torch.manual_seed(0)
    model: nn.Module = getattr(video, ours.kind)(**config)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


@pytest.mark.parametrize("ours", CLASSES)
def test_same_weights_give_torchvisions_logits(ours: type[VideoResNetClassifier]) -> None:
    reference = theirs(ours, num_classes=11)
    model = ours(classes=11).eval()
    model.load_state_dict(model.adapted(reference.state_dict()))
    frames = torch.randn(1, 5, 3, 24, 20)
    with torch.no_grad():
        expected = reference(frames.transpose(1, 2))
        torch.testing.assert_close(model(ClipBatch(frames)).logits, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("ours", CLASSES)
def test_published_figures(ours: type[VideoResNetClassifier]) -> None:
    """torchvision publishes the parameters and multiply-adds (as GFLOPs) of its 400-class models."""
    meta = KINETICS[ours].meta
    (published,) = ours.card.published
    assert published.parameters == meta["num_params"] / 1e6
    assert published.gmacs == meta["_ops"]
    with torch.device("meta"):
        size = size_of(ours(**published.config), published.input)
    assert size.parameters == meta["num_params"]
    assert size.macs / 1e9 == pytest.approx(meta["_ops"], abs=0.001)


@pytest.mark.parametrize("ours", CLASSES)
def test_kinetics_weights_load_without_their_head(ours: type[VideoResNetClassifier], tmp_path: Any) -> None:
    reference = theirs(ours)
    torch.save(reference.state_dict(), tmp_path / "kinetics.pth")
    model = ours(classes=7, channels=6).eval()
    assert load_pretrained(model, tmp_path / "kinetics.pth").left == ["classifier.bias", "classifier.weight"]
    frames = torch.randn(1, 4, 6, 16, 16)
    reference.fc = nn.Identity()
    with torch.no_grad():
        # The three further channels count for nothing yet.
        expected = reference(frames[:, :, :3].transpose(1, 2))
        torch.testing.assert_close(model(ClipBatch(frames)).features, expected, atol=1e-4, rtol=0)


def test_weights_of_another_network_are_refused(tmp_path: Any) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="not the weights of torchvision's mc3_18"):
        load_pretrained(MC3_18(width=8), tmp_path / "other.pth")
    with torch.device("meta"):
        wide = R3D18().backbone.state_dict()
    torch.save({name: torch.zeros(one.shape) for name, one in wide.items()}, tmp_path / "wide.pth")
    with pytest.raises(ValueError, match="of another size or configuration"):
        load_pretrained(R3D18(width=8), tmp_path / "wide.pth")


def test_tokens_are_cells_of_the_last_map_by_time_row_and_column() -> None:
    torch.manual_seed(0)
    backbone = VideoResNet("mc3_18", width=8).eval()
    maps: list[torch.Tensor] = []
    backbone.layer4.register_forward_hook(lambda module, args, output: maps.append(output))
    cls, tokens = backbone(torch.randn(2, 3, 3, 33, 17))
    assert tokens.shape == (2, 3 * 3 * 2, backbone.dim)
    assert backbone.dim == 64
    torch.testing.assert_close(tokens[1, 1 * 6 + 2 * 2 + 1], maps[0][1, :, 1, 2, 1])
    torch.testing.assert_close(cls, maps[0].mean(dim=(2, 3, 4)))


@pytest.mark.parametrize(("kind", "cells"), [("r3d_18", 2 * 2 * 2), ("mc3_18", 16 * 2 * 2), ("r2plus1d_18", 2 * 2 * 2)])
def test_only_mc3_keeps_the_length_of_a_clip(kind: Any, cells: int) -> None:
    with torch.device("meta"):
        _, tokens = VideoResNet(kind, width=8)(torch.empty(1, 16, 3, 32, 32))
    assert tokens.shape[1] == cells


def test_later_stages_of_mc3_see_one_temporal_index_at_a_time() -> None:
    torch.manual_seed(0)
    backbone = VideoResNet("mc3_18", width=8).eval()
    frames = torch.randn(1, 8, 3, 16, 16)
    changed = frames.clone()
    changed[:, 7] += 1
    before, after = backbone(frames)[1], backbone(changed)[1]
    # The stem and the four convolutions of the first stage each reach one index further: frame 7 reaches index 2.
    torch.testing.assert_close(before[:, :2], after[:, :2])
    assert not torch.allclose(before[:, 2], after[:, 2])


def test_gradients_of_a_short_clip_under_autocast_are_right() -> None:
    """Two temporal indices under a kernel of three: with nn.Conv3d they are garbage on some CPUs."""
    torch.manual_seed(0)
    convolution, frames = Conv3d(16, 16, 3, padding=1), torch.randn(2, 16, 2, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        convolution(frames).sin().sum().backward()
    weight = convolution.weight.detach().double().requires_grad_()
    bias = convolution.bias.detach().double()
    nn.functional.conv3d(frames.double(), weight, bias, padding=1).sin().sum().backward()
    torch.testing.assert_close(convolution.weight.grad, weight.grad.float(), atol=1e-3, rtol=1e-3)


def test_unknown_kinds_and_too_few_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown video ResNet 'r3d_34'; expected r3d_18, mc3_18 or r2plus1d_18"):
        VideoResNet("r3d_34")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="reads 6 channels, more than the model's 3"):
        widened(torch.zeros(8, 6, 3, 7, 7), 3)
