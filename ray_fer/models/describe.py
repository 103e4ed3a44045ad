"""What a model consists of: layers, parameters and multiply-adds, beside the published figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ray_fer.labels import AU_NAMES
from ray_fer.models import card, create, takes
from ray_fer.models.batch import ClipBatch
from ray_fer.models.card import Card, Input, Published

_CULTURES = 4
_DEPTH = 2


@dataclass(frozen=True)
class Size:
    """Of a model and one clip: all parameters, those that are trained, and multiply-adds."""

    parameters: int
    trained: int
    macs: int


@dataclass(frozen=True)
class Layer:
    """A module at most two levels below the model."""

    name: str
    kind: str
    output: str
    """Shape of what it returns, for one clip."""
    parameters: int
    macs: int


@dataclass(frozen=True)
class Comparison:
    """Published figures, and ours of the same thing."""

    published: Published
    ours: Size


@dataclass(frozen=True)
class Description:
    """Everything that `ray-fer models --describe` shows."""

    name: str
    card: Card
    input: Input
    size: Size
    layers: list[Layer]
    comparisons: list[Comparison]


def placeholders(name: str) -> dict[str, Any]:
    """Stand-ins for the arguments of a model that cultures and priors decide, where there are none yet."""
    profiles = torch.rand(_CULTURES, len(AU_NAMES), generator=torch.Generator().manual_seed(0))
    decided: dict[str, Any] = {
        "cultures": _CULTURES, "profiles": profiles.tolist(), "global_profile": profiles.mean(0).tolist(),
    }  # fmt: skip
    return {argument: value for argument, value in decided.items() if takes(name, argument)}


def describe(name: str, preset: str | None = None, config: Mapping[str, Any] | None = None) -> Description:
    """Build a model and count; raises what `create` raises, or ValueError when it does not take its own input."""
    known = card(name)
    shown = known.tiny_input if preset else known.input
    model = create(name, preset, **placeholders(name), **(config or {}))
    size, layers = _counted(model, shown)
    return Description(name, known, shown, size, layers, [_compared(name, one) for one in known.published])


def size_of(model: nn.Module, shown: Input) -> Size:
    """Parameters and multiply-adds of one clip, without computing anything; the model is left without its weights."""
    return _counted(model, shown)[0]


def _compared(name: str, published: Published) -> Comparison:
    model = published.build() if published.build else create(name, **placeholders(name), **published.config)
    return Comparison(published, size_of(model, published.input))


def _counted(model: nn.Module, shown: Input) -> tuple[Size, list[Layer]]:
    # On the meta device nothing is computed, so that a model of any size is counted in a second.
    every = list(model.parameters())
    trained = sum(one.numel() for one in every if one.requires_grad)
    # The counter follows gradients of what modules are given, and cannot where a parameter is given without any.
    model = model.eval().to("meta").requires_grad_(False)
    outputs: dict[str, str] = {}
    modules = {name: one for name, one in model.named_modules() if name and name.count(".") < _DEPTH}
    hooks = [one.register_forward_hook(_note_shape(outputs, name)) for name, one in modules.items()]
    frames = torch.empty(1, shown.frames, 3, shown.size, shown.size, device="meta")
    culture = torch.zeros(1, dtype=torch.long, device="meta")
    image = frames[:, 0]
    batch = ClipBatch(frames, culture=culture, scene=frames, flow=image, apex=image)  # a model takes what it reads
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(batch)
    for hook in hooks:
        hook.remove()
    root = type(model).__name__
    by_module = {
        name.removeprefix(f"{root}."): sum(flops.values()) // 2 for name, flops in counter.get_flop_counts().items()
    }
    layers = [
        Layer(
            name, type(one).__name__, outputs.get(name, ""), sum(p.numel() for p in one.parameters()),
            _macs(name, one, by_module),
        )
        for name, one in modules.items()
    ]  # fmt: skip
    layers = [layer for layer in layers if layer.parameters or layer.macs]
    return Size(sum(one.numel() for one in every), trained, counter.get_total_flops() // 2), layers


def _macs(name: str, module: nn.Module, by_module: Mapping[str, int]) -> int:
    """What was counted in a module; of one whose parts are called one by one, the sum of these."""
    if name in by_module:
        return by_module[name]
    return sum(_macs(f"{name}.{child}", one, by_module) for child, one in module.named_children())


def _note_shape(outputs: dict[str, str], name: str) -> Any:
    def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, torch.Tensor):
            outputs[name] = " x ".join(map(str, first.shape))

    return note
