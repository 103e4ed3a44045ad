"""Our ResNets against torchvision's, under the same weights."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from ray_fer.models.backbones.frame_resnet import (
    BasicBlock,
    Bottleneck,
    FrameResNet,
    check_clip,
    side_after,
)


@pytest.mark.parametrize(
    ("name", "blocks", "block"), [("resnet18", (2, 2, 2, 2), BasicBlock), ("resnet50", (3, 4, 6, 3), Bottleneck)]
)
def test_maps_of_torchvisions_network(name: str, blocks: tuple[int, ...], block: type[BasicBlock]) -> None:
    """Same names, so that a checkpoint fits, and same numbers after every stage."""
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, name)()
    for module in theirs.modules():  # as drawn, normalisation is the same everywhere and would hide a swap
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.weight.data.uniform_(0.5, 1)
    ours = FrameResNet(blocks, block).eval()
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not missing
    assert unexpected == ["fc.weight", "fc.bias"]
    theirs.eval().fc = nn.Identity()
    frames = torch.randn(2, 3, 40, 40)
    torch.testing.assert_close(ours(frames).mean(dim=(2, 3)), theirs(frames), atol=1e-4, rtol=1e-4)


def test_fewer_stages_and_channels() -> None:
    with torch.device("meta"):
        trunk = FrameResNet((2, 2, 2), channels=6)
        maps = trunk(torch.empty(1, 6, 112, 112))
    assert maps.shape == (1, 256, 7, 7)
    assert trunk.dim == 256


@pytest.mark.parametrize("size", [16, 30, 32, 100, 112])
def test_side_of_the_map(size: int) -> None:
    with torch.device("meta"):
        maps = FrameResNet((1, 1, 1), width=4).eval()(torch.empty(1, 3, size, size))
    assert maps.shape[2:] == (side_after(size, 4),) * 2


def test_a_clip_of_another_shape_is_refused_with_what_to_do() -> None:
    check_clip("X", torch.empty(1, 4, 3, 32, 32), 4, 32)
    with pytest.raises(ValueError, match=r"X was built for 4 frames of 32x32 px and was given 8 of 32x32; .* frames="):
        check_clip("X", torch.empty(1, 8, 3, 32, 32), 4, 32)
    with pytest.raises(ValueError, match="32x48"):
        check_clip("X", torch.empty(1, 4, 3, 32, 48), 4, 32)
