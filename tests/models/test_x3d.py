"""X3D against the published table, figures and checkpoint layout, and against the same net written with functions."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from ray_fer.models import create
from ray_fer.models.backbones.x3d import SIZES, X3D, Block, Excitation
from ray_fer.models.pretrained import load_pretrained, read_weights


class Row(NamedTuple):
    """A stage: channels before, in and after its blocks, and what squeeze-and-excitation squeezes them to."""

    inputs: int
    inner: int
    outputs: int
    squeezed: int


TABLE = (Row(24, 54, 24, 8), Row(24, 108, 48, 8), Row(48, 216, 96, 16), Row(96, 432, 192, 32))
DEPTHS = {"xs": (3, 5, 11, 7), "s": (3, 5, 11, 7), "m": (3, 5, 11, 7), "l": (5, 10, 25, 15)}


def layout(depths: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes in pytorchvideo's X3D_*.pyth."""
    stem, last = TABLE[0].inputs, TABLE[-1]
    yield "blocks.0.conv.conv_t.weight", (stem, 3, 1, 3, 3)
    yield "blocks.0.conv.conv_xy.weight", (stem, 1, 5, 1, 1)
    yield from norm("blocks.0.norm", stem)
    for stage, (row, depth) in enumerate(zip(TABLE, depths, strict=True), start=1):
        for index in range(depth):
            block, inputs = f"blocks.{stage}.res_blocks.{index}", row.outputs if index else row.inputs
            if index == 0:
                yield f"{block}.branch1_conv.weight", (row.outputs, inputs, 1, 1, 1)
            if inputs != row.outputs:
                yield from norm(f"{block}.branch1_norm", row.outputs)
            yield f"{block}.branch2.conv_a.weight", (row.inner, inputs, 1, 1, 1)
            yield from norm(f"{block}.branch2.norm_a", row.inner)
            yield f"{block}.branch2.conv_b.weight", (row.inner, 1, 3, 3, 3)
            yield from norm(f"{block}.branch2.norm_b.0", row.inner)
            if index % 2 == 0:
                yield f"{block}.branch2.norm_b.1.block.0.weight", (row.squeezed, row.inner, 1, 1, 1)
                yield f"{block}.branch2.norm_b.1.block.0.bias", (row.squeezed,)
                yield f"{block}.branch2.norm_b.1.block.2.weight", (row.inner, row.squeezed, 1, 1, 1)
                yield f"{block}.branch2.norm_b.1.block.2.bias", (row.inner,)
            yield f"{block}.branch2.conv_c.weight", (row.outputs, row.inner, 1, 1, 1)
            yield from norm(f"{block}.branch2.norm_c", row.outputs)
    yield "blocks.5.pool.pre_conv.weight", (last.inner, last.outputs, 1, 1, 1)
    yield from norm("blocks.5.pool.pre_norm", last.inner)
    yield "blocks.5.pool.post_conv.weight", (2048, last.inner, 1, 1, 1)
    yield "blocks.5.proj.weight", (400, 2048)
    yield "blocks.5.proj.bias", (400,)


def norm(name: str, channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from ((f"{name}.{one}", (channels,)) for one in ("weight", "bias", "running_mean", "running_var"))
    yield f"{name}.num_batches_tracked", ()


def checkpoint() -> dict[str, Tensor]:
    """X3D_S.pyth with random weights."""
    chance = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in layout(DEPTHS["s"]):
        if len(shape) > 1:
            state[name] = torch.randn(shape, generator=chance) * (2 / math.prod(shape[1:])) ** 0.5
        elif shape:
            low = -0.5 if name.endswith(("bias", "running_mean")) else 0.5
            state[name] = torch.rand(shape, generator=chance) + low
        else:
            state[name] = torch.tensor(1234)
    return state


def expected(state: dict[str, Tensor], frames: Tensor) -> Tensor:
    """Features as the released code computes them, up to its classifier, for clips as large as in training."""

    def convolved(x: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        padding = [size // 2 for size in weight.shape[2:]]
        return functional.conv3d(x, weight, state.get(f"{name}.bias"), (1, stride, stride), padding, groups=groups)

    def normed(x: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (
            state[f"{name}.{one}"][:, None, None, None] for one in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    def block(x: Tensor, name: str, stride: int) -> Tensor:
        inner = normed(convolved(x, f"{name}.branch2.conv_a"), f"{name}.branch2.norm_a").relu()
        inner = convolved(inner, f"{name}.branch2.conv_b", stride, groups=inner.shape[1])
        inner = normed(inner, f"{name}.branch2.norm_b.0")
        if f"{name}.branch2.norm_b.1.block.0.weight" in state:
            squeezed = convolved(inner.mean((2, 3, 4), keepdim=True), f"{name}.branch2.norm_b.1.block.0").relu()
            inner = inner * convolved(squeezed, f"{name}.branch2.norm_b.1.block.2").sigmoid()
        inner = inner * inner.sigmoid()
        out = normed(convolved(inner, f"{name}.branch2.conv_c"), f"{name}.branch2.norm_c")
        if f"{name}.branch1_conv.weight" in state:
            x = convolved(x, f"{name}.branch1_conv", stride)
        if f"{name}.branch1_norm.weight" in state:
            x = normed(x, f"{name}.branch1_norm")
        return (x + out).relu()

    x = convolved(frames.transpose(1, 2), "blocks.0.conv.conv_t", stride=2)
    x = convolved(x, "blocks.0.conv.conv_xy", groups=x.shape[1])
    x = normed(x, "blocks.0.norm").relu()
    for stage, depth in enumerate(DEPTHS["s"], start=1):
        for index in range(depth):
            x = block(x, f"blocks.{stage}.res_blocks.{index}", stride=1 if index else 2)
    x = normed(convolved(x, "blocks.5.pool.pre_conv"), "blocks.5.pool.pre_norm").relu()
    return convolved(x.mean((2, 3, 4), keepdim=True), "blocks.5.pool.post_conv").relu().flatten(1)


def narrow(channels: int = 3, depth_factor: float = 1.0) -> X3D:
    torch.manual_seed(0)
    return X3D(channels, depth_factor=depth_factor, width=4, dim=32)


@pytest.mark.parametrize("size", SIZES)
def test_the_rule_gives_the_published_table(size: str) -> None:
    with torch.device("meta"):
        model = X3D(depth_factor=SIZES[size].depth_factor)
    assert model.dim == 2048
    assert model.stage_channels == (24, 48, 96, 192)
    assert model.stem.conv_xy.stride == (1, 2, 2)
    assert model.stem.conv_t.stride == (1, 1, 1)
    for stage, row, depth in zip(model.stages, TABLE, DEPTHS[size], strict=True):
        blocks = list(stage)
        assert len(blocks) == depth
        for index, block in enumerate(blocks):
            assert block.conv_a.in_channels == (row.outputs if index else row.inputs)
            assert block.conv_b.in_channels == block.conv_b.groups == row.inner
            assert block.conv_b.stride == ((1, 1, 1) if index else (1, 2, 2))
            assert block.conv_c.out_channels == row.outputs
            assert isinstance(block.excitation, Excitation) == (index % 2 == 0)
            if index % 2 == 0:
                assert block.excitation.reduce.out_channels == row.squeezed
    shortcuts = [[name for name, _ in block.shortcut.named_children()] for stage in model.stages for block in stage]
    # The first stage strides, and has 24 channels on both sides.
    assert [names for names in shortcuts if names] == [["conv"], *[["conv", "norm"]] * 3]


@pytest.mark.parametrize(
    ("size", "millions", "in_training", "crop", "in_the_zoo"),
    [("xs", 3.79, 0.60, 182, 0.91), ("s", 3.79, 1.96, 182, 2.96), ("m", 3.79, 4.73, 256, 6.72),
     ("l", 6.15, 18.37, 356, 26.64)],
)  # fmt: skip
def test_published_figures(size: str, millions: float, in_training: float, crop: int, in_the_zoo: float) -> None:
    """Parameters; 1e9 multiply-adds of a clip in SlowFast's model zoo (and the paper), and in pytorchvideo's."""
    with torch.device("meta"):
        model = nn.Sequential(X3D(depth_factor=SIZES[size].depth_factor), nn.Linear(2048, 400))
    assert round(sum(one.numel() for one in model.parameters()) / 1e6, 2) == millions

    frames, pixels = SIZES[size].input.frames, SIZES[size].input.size
    macs, _ = counted(model, frames, pixels)
    assert macs / 1e9 == pytest.approx(in_training, abs=0.01)

    # pytorchvideo's are those of a crop in testing, and count 5 operations for each value that is normalised. Its head
    # slides over these larger maps: half a percent of X3D-XS.
    macs, normalised = counted(model, frames, crop)
    assert (macs + 5 * normalised) / 1e9 == pytest.approx(in_the_zoo, rel=0.01)


def counted(model: nn.Module, frames: int, pixels: int) -> tuple[int, int]:
    """Multiply-adds, and how many values batch normalisation writes, for one clip."""
    normalised = []
    hooks = [
        one.register_forward_hook(lambda module, args, output: normalised.append(output.numel()))
        for one in model.modules()
        if isinstance(one, nn.BatchNorm3d)
    ]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.empty(1, frames, 3, pixels, pixels, device="meta"))
    for hook in hooks:
        hook.remove()
    return counter.get_total_flops() // 2, sum(normalised)


@pytest.mark.parametrize("size", ["s", "l"])
def test_a_published_checkpoint_fills_everything_and_only_its_classifier_is_left(size: str) -> None:
    with torch.device("meta"):
        state = {name: torch.empty(shape) for name, shape in layout(DEPTHS[size])}
        model = X3D(depth_factor=SIZES[size].depth_factor)
    adapted = model.adapted(state)
    ours = model.state_dict()
    assert adapted.keys() == ours.keys()
    assert {name: one.shape for name, one in adapted.items()} == {name: one.shape for name, one in ours.items()}
    read = {id(one) for one in adapted.values()}
    assert {name for name, one in state.items() if id(one) not in read} == {
        "blocks.5.proj.weight",
        "blocks.5.proj.bias",
    }


def test_published_weights_give_what_the_released_code_computes() -> None:
    state = {name: one.double() for name, one in checkpoint().items()}
    model = X3D().double().eval()
    model.load_state_dict(model.adapted(state))
    frames = torch.randn(2, 5, 3, 64, 40, dtype=torch.float64)
    with torch.no_grad():
        features = model(frames)
        torch.testing.assert_close(features, expected(state, frames))
    assert 0.1 < (features > 0).double().mean() < 0.9


def test_weights_are_read_from_the_released_file(tmp_path: Path) -> None:
    torch.save({"epoch": 300, "model_state": checkpoint(), "cfg": ""}, tmp_path / "X3D_S.pyth")
    model = X3D(channels=6).eval()
    model.load_state_dict(model.adapted(read_weights(tmp_path / "X3D_S.pyth")))
    plain = X3D().eval()
    plain.load_state_dict(plain.adapted(checkpoint()))
    frames = torch.randn(1, 3, 6, 32, 32)
    with torch.no_grad():
        # The three further channels count for nothing yet.
        torch.testing.assert_close(model(frames), plain(frames[:, :, :3]))


def test_hdf_begins_with_the_released_weights(tmp_path: Path) -> None:
    torch.save({"epoch": 300, "model_state": checkpoint(), "cfg": ""}, tmp_path / "X3D_S.pyth")
    model = create("hdf", x3d_size="s", dam_stage=3, frames=13)
    found = load_pretrained(model, tmp_path / "X3D_S.pyth")
    assert all(name.startswith("backbone.") for name in found.loaded)
    left = {name.split(".")[0] for name in found.left if "num_batches_tracked" not in name}
    assert left == {"dam", "classifier"}
    alone = X3D(depth_factor=SIZES["s"].depth_factor)
    alone.load_state_dict(alone.adapted(checkpoint()), strict=False)
    for name, one in alone.state_dict().items():
        assert torch.equal(model.state_dict()[f"backbone.{name}"], one), name


def test_weights_of_something_else_are_refused() -> None:
    with pytest.raises(ValueError, match="not the weights of pytorchvideo's X3D"):
        narrow().adapted({"s1.pathway0_stem.conv_xy.weight": torch.zeros(1)})
    with torch.device("meta"):
        deep = {name: torch.empty(shape) for name, shape in layout(DEPTHS["l"])}
        small = X3D()
    message = re.escape("weights of X3D-L (5, 10, 25, 15 blocks), and the model is X3D-XS/S/M (3, 5, 11, 7 blocks)")
    with pytest.raises(ValueError, match=message):
        small.adapted(deep)
    with pytest.raises(ValueError, match=re.escape("the model is an X3D (1, 2, 5, 3 blocks)")):
        narrow().adapted(deep)


def test_a_map_has_a_temporal_index_for_each_frame_and_modules_fit_between_stages() -> None:
    model = narrow().eval()
    frames = torch.randn(2, 8, 3, 32, 48)
    maps, shapes = model.stem_maps(frames), []
    for stage in model.stages:
        shapes.append(tuple(maps.shape[1:]))
        maps = stage(maps)
    assert model.stage_channels == (8, 16, 32, 64)
    assert shapes == [(8, 8, 16, 24), (8, 8, 8, 12), (16, 8, 4, 6), (32, 8, 2, 3)]
    assert maps.shape == (2, 64, 8, 1, 2)
    torch.testing.assert_close(maps, model.maps(frames))
    torch.testing.assert_close(model.pooled(maps), model(frames))
    assert model(frames).shape == (2, 32)
    assert model.maps(torch.randn(1, 3, 3, 33, 65)).shape == (1, 64, 3, 2, 3), "rounded up"


def test_a_block_starts_as_its_shortcut() -> None:
    block = next(one for one in narrow().modules() if isinstance(one, Block))
    x = torch.randn(1, 8, 2, 4, 4)
    torch.testing.assert_close(block(x), block.shortcut(x).relu())


def test_initial_deviations_are_those_of_he_over_outputs() -> None:
    torch.manual_seed(0)
    model = X3D()
    assert model.head.post_conv.weight.std().item() == pytest.approx((2 / 2048) ** 0.5, rel=0.01)
    assert model.stages[3][1].conv_b.weight.std().item() == pytest.approx((2 / (432 * 27)) ** 0.5, rel=0.03)
    assert not model.stages[3][0].excitation.expand.bias.any()


def test_a_gradient_reaches_everything() -> None:
    model = narrow(channels=6).train()
    for module in model.modules():
        if isinstance(module, Block):
            nn.init.ones_(module.norm_c.weight)  # 0 at first, which hides what is before it
    model(torch.randn(4, 8, 6, 32, 32)).sin().sum().backward()
    without = [name for name, one in model.named_parameters() if one.grad is None or not one.grad.abs().sum() > 0]
    assert without == []


def test_sizes_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        narrow(depth_factor=0)
