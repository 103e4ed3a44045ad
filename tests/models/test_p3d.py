"""P3D against its paper's formulas and figures and torchvision's 2D ResNets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import resnet152
from torchvision.models.resnet import Bottleneck as Bottleneck2d
from torchvision.models.resnet import ResNet

from ray_fer.models.batch import ClipBatch
from ray_fer.models.describe import size_of
from ray_fer.models.p3d import P3D, Bottleneck
from ray_fer.models.pretrained import load_pretrained


def tiny(**config: Any) -> P3D:
    torch.manual_seed(0)
    return P3D(**(dict(P3D.card.tiny) | config)).eval()


def port(classes: int) -> dict[str, torch.Tensor]:
    """Weights of `tiny` under the names of the released p3d_rgb_199.checkpoint.pth.tar."""
    names = {"reduce": "1", "spatial": "2", "temporal": "3", "restore": "4"}
    state = {}
    for name, one in tiny(classes=classes).state_dict().items():
        theirs = name.replace("stem.0", "conv1_custom").replace("stem.1", "bn1").replace("classifier", "fc")
        theirs = theirs.replace("shortcut", "downsample")
        for ours, number in names.items():
            theirs = theirs.replace(f"{ours}.0", f"conv{number}").replace(f"{ours}.1", f"bn{number}")
        if theirs.startswith("layer4"):
            theirs = theirs.replace("conv2", "conv_normal").replace("bn2", "bn_normal")
        state[theirs] = one[:, :, 0] if one.ndim == 5 and theirs.startswith("layer4") else one
    return state


@pytest.mark.parametrize(("blocks", "depth"), [((3, 4, 6, 3), 63), ((3, 4, 23, 3), 131), ((3, 8, 36, 3), 199)])
def test_depth_is_the_number_in_the_name(blocks: tuple[int, ...], depth: int) -> None:
    with torch.device("meta"):
        model = P3D(blocks=blocks)
    shortcuts = [module for name, module in model.named_modules() if name.endswith("shortcut.0")]
    convolutions = sum(isinstance(module, nn.Conv3d) for module in model.modules()) - len(shortcuts)
    assert convolutions + 1 == depth


def test_the_three_kinds_take_turns_across_stages_and_the_last_stage_is_2d() -> None:
    with torch.device("meta"):
        kinds = [module.kind for module in P3D(blocks=(2, 2, 3, 2)).modules() if isinstance(module, Bottleneck)]
    assert kinds == ["A", "B", "C", "A", "B", "C", "A", "2D", "2D"]


def test_published_figures() -> None:
    (published,) = P3D.card.published
    with torch.device("meta"):
        size = size_of(P3D(**published.config), published.input)
    assert size.parameters / 1e6 == pytest.approx(published.parameters, rel=0.03)
    assert published.reason


def test_parameters_are_those_of_resnet_152_and_the_convolutions_over_time() -> None:
    with torch.device("meta"):
        ours = sum(p.numel() for p in P3D(classes=1000).parameters())
        theirs = sum(p.numel() for p in resnet152(weights=None).parameters())
    over_time = sum(blocks * (3 * width**2 + 2 * width) for blocks, width in ((3, 64), (8, 128), (36, 256)))
    assert ours == theirs + over_time


@pytest.mark.parametrize("kind", ["A", "B", "C", "2D"])
def test_blocks_are_the_papers_formulas(kind: Any) -> None:
    """x + T(S(x)), x + S(x) + T(x) and x + S(x) + T(S(x)), the last with the authors' factor of a half."""
    torch.manual_seed(0)
    block = Bottleneck(kind, inputs=8, width=4, stride=2).eval()
    x = torch.randn(2, 8, 5, 6, 6)

    def convolved(part: nn.Module, x: torch.Tensor, **how: Any) -> torch.Tensor:
        # Fresh batch normalisation divides by sqrt(1 + eps).
        return nn.functional.conv3d(x, part[0].weight, **how) / (1 + 1e-5) ** 0.5

    reduced = convolved(block.reduce, x, stride=(1, 2, 2)).relu()
    space = convolved(block.spatial, reduced, padding=(0, 1, 1)).relu()
    if kind == "A":
        inner = convolved(block.temporal, space, padding=(1, 0, 0)).relu()
    elif kind == "B":
        inner = (space + convolved(block.temporal, reduced, padding=(1, 0, 0))).relu()
    elif kind == "C":
        inner = (0.5 * space + 0.5 * convolved(block.temporal, space, padding=(1, 0, 0))).relu()
    else:
        inner = space
    expected = (convolved(block.restore, inner) + convolved(block.shortcut, x, stride=(1, 2, 2))).relu()
    torch.testing.assert_close(block(x), expected)


def test_a_still_clip_gives_what_a_resnet_makes_of_the_frame() -> None:
    """Where T hands on what S gives (A, C) or nothing (B), P3D is the ResNet that it is made of.

    torchvision strides the 3x3 convolution and pads its pooling; the original ResNet and P3D do as is set here.
    """
    torch.manual_seed(0)
    image_network = ResNet(Bottleneck2d, [2, 2, 1, 1], num_classes=5).eval()
    image_network.maxpool = nn.MaxPool2d(3, 2, ceil_mode=True)
    for stage in (image_network.layer2, image_network.layer3, image_network.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    model = P3D(classes=5, blocks=(2, 2, 1, 1)).eval()
    for block in model.modules():
        if isinstance(block, Bottleneck) and block.kind != "2D":
            weight = block.temporal[0].weight
            centre = torch.eye(len(weight)) * (block.kind != "B")
            weight.data = nn.functional.pad(centre[:, :, None, None, None], [0] * 4 + [1, 1])
            block.temporal[1].running_var.fill_(1 - 1e-5)
    flat = [module for module in image_network.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]
    deep = [
        module for name, module in model.named_modules()
        if isinstance(module, nn.Conv3d | nn.BatchNorm3d | nn.Linear) and ".temporal." not in name
    ]  # fmt: skip
    # torchvision lists the convolutions of a block before its shortcut and each with its normalisation, as we do.
    kinds: tuple[tuple[type[nn.Module], type[nn.Module]], ...]
    kinds = ((nn.Conv2d, nn.Conv3d), (nn.BatchNorm2d, nn.BatchNorm3d), (nn.Linear, nn.Linear))
    for kind2d, kind3d in kinds:
        pairs = zip([m for m in flat if isinstance(m, kind2d)], [m for m in deep if isinstance(m, kind3d)], strict=True)
        for theirs, ours in pairs:
            state = theirs.state_dict()
            if kind3d is nn.Conv3d:
                state["weight"] = state["weight"].unsqueeze(2)
            ours.load_state_dict(state)
    frame = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        logits = model(ClipBatch(frame[:, None].expand(-1, 6, -1, -1, -1))).logits
        torch.testing.assert_close(logits, image_network(frame), atol=1e-4, rtol=1e-4)


def test_sizes_of_the_maps_at_the_papers_input() -> None:
    """16 x 160 x 160 become 1 x 5 x 5 in the last stage, as in the authors' network."""
    shapes: dict[str, tuple[int, ...]] = {}
    with torch.device("meta"):
        model = P3D(blocks=(1, 1, 1, 1)).eval()
        for name in ("pool", "layer1", "layer2", "layer3", "layer4"):
            hook = lambda module, args, output, name=name: shapes.update({name: tuple(output.shape[1:])})  # noqa: E731
            getattr(model, name).register_forward_hook(hook)
        model(ClipBatch(torch.empty(1, 16, 3, 160, 160)))
    assert shapes == {
        "pool": (64, 8, 40, 40), "layer1": (256, 8, 40, 40), "layer2": (512, 4, 20, 20), "layer3": (1024, 2, 10, 10),
        "layer4": (2048, 1, 5, 5),
    }  # fmt: skip


def test_the_order_of_frames_matters() -> None:
    frames = torch.randn(1, 8, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    forward, backward = (tiny()(ClipBatch(clip)).features for clip in (frames, frames.flip(1)))
    assert not torch.allclose(forward, backward, atol=1e-3)


def test_weights_of_the_pytorch_port_load(tmp_path: Any) -> None:
    torch.save({"state_dict": port(classes=400)}, tmp_path / "p3d_rgb_199.checkpoint.pth.tar")
    model = tiny(classes=7, channels=6)
    loaded = load_pretrained(model, tmp_path / "p3d_rgb_199.checkpoint.pth.tar")
    assert loaded.left == ["classifier.bias", "classifier.weight"]
    frames = torch.randn(1, 8, 6, 40, 40)
    expected = tiny(classes=400)(ClipBatch(frames[:, :, :3])).features
    torch.testing.assert_close(model(ClipBatch(frames)).features, expected)


def test_names_of_the_pytorch_port() -> None:
    """What `port` makes of our names is what its code calls them."""
    names = {name for name in port(7) if name.endswith("weight")}
    assert {"conv1_custom.weight", "bn1.weight", "fc.weight", "layer1.0.conv3.weight"} <= names
    assert {"layer1.0.downsample.0.weight", "layer4.0.conv_normal.weight", "layer4.0.bn_normal.weight"} <= names
    assert "layer4.0.conv3.weight" not in names


def test_other_weights_and_stages_are_refused() -> None:
    with pytest.raises(ValueError, match="not the weights of the PyTorch port of P3D"):
        tiny().adapted({"fc.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="four stages of blocks, not 3"):
        P3D(blocks=(3, 4, 6))
