"""Sizes of all models beside the published ones, counted without computing anything."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from ray_fer.cli import app
from ray_fer.models import ClipBatch, create, names
from ray_fer.models.card import Input
from ray_fer.models.describe import Description, describe, placeholders, size_of

TOLERANCE = 0.02


@pytest.mark.parametrize("name", names())
def test_sizes_are_the_published_ones_or_the_reason_is_given(name: str) -> None:
    found = describe(name)
    assert found.size.parameters == sum(one.numel() for one in create(name, **placeholders(name)).parameters())
    assert found.size.macs > 0
    assert found.layers
    for one in found.comparisons:
        theirs, ours = one.published, one.ours
        assert theirs.parameters is not None or theirs.gmacs is not None
        ratios = [
            mine / printed
            for mine, printed in ((ours.parameters / 1e6, theirs.parameters), (ours.macs / 1e9, theirs.gmacs))
            if printed is not None
        ]
        apart = max(abs(ratio - 1) for ratio in ratios)
        assert apart <= TOLERANCE or theirs.reason, f"{theirs.what}: {ratios}"


@pytest.mark.parametrize(
    ("name", "what", "parameters"),
    [
        ("cafer", "ViViT-B/16x2 factorised encoder", 115.1),
        ("cafer", "TimeSformer-B", 121.4),
        ("former_dfer", "Former-DFER", 18),
        ("r3d_18", "R3D-18", 33.4),
    ],
)
def test_published_parameter_counts(name: str, what: str, parameters: float) -> None:
    (one,) = (one for one in describe(name).comparisons if one.published.what.startswith(what))
    assert one.ours.parameters / 1e6 == pytest.approx(parameters, rel=0.005)
    assert one.published.parameters == pytest.approx(parameters, rel=0.005)


class Known(nn.Module):
    """Whose size is plain: 3 x 5 weights, 5 of them frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 5)
        self.linear.bias.requires_grad_(False)

    def forward(self, batch: ClipBatch) -> torch.Tensor:
        return self.linear(batch.frames.mean(dim=(3, 4)))


def test_a_multiply_add_counts_once() -> None:
    size = size_of(Known(), Input(2, 4))
    assert (size.parameters, size.trained, size.macs) == (20, 15, 2 * 3 * 5)


def test_nothing_computed_gives_the_same_count_as_computing() -> None:
    model = create("former_dfer", "tiny")
    shown = model.card.tiny_input
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(ClipBatch(torch.randn(1, shown.frames, 3, shown.size, shown.size)))
    assert describe("former_dfer", "tiny").size.macs == counter.get_total_flops() // 2


def test_layers_add_up() -> None:
    found: Description = describe("r3d_18")
    top = [layer for layer in found.layers if "." not in layer.name]
    assert sum(layer.parameters for layer in top) == found.size.parameters
    assert sum(layer.macs for layer in top) == found.size.macs


def test_the_command_lists_and_describes() -> None:
    listed = json.loads(CliRunner().invoke(app, ["models", "--json"]).stdout)
    assert list(listed) == names()
    assert (listed["dpcnet"]["status"], listed["cafer"]["status"]) == ("reconstructed", "faithful")
    text = CliRunner().invoke(app, ["models"]).stdout
    assert all(name in text for name in names())
    shown = " ".join(CliRunner().invoke(app, ["models", "--describe", "r3d_18"]).stdout.split())  # lines are wrapped
    assert "33.17 M parameters" in shown
    assert "33.37 M parameters, published 33.37 M (+0.0 %)" in shown
    found = json.loads(CliRunner().invoke(app, ["models", "--describe", "r3d_18", "--tiny", "--json"]).stdout)
    assert found["parameters"] < 1e6
    wrong = CliRunner().invoke(app, ["models", "--describe", "vgg"])
    assert wrong.exit_code == 2
