"""What every model must do, in its tiny preset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from ray_fer.models import ClipBatch, Model, card, create, names, reads, takes
from ray_fer.models.card import Card
from ray_fer.models.describe import placeholders

CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in names()),
    *(("cafer", {"backbone": backbone}) for backbone in ("timesformer", "r3d_18")),
    *(("ethnicmer", {"ethnicity": ethnicity}) for ethnicity in ("none", "flow")),
    ("ethnicmer", {"texture_backbone": "resnet18"}),
]
every_model = pytest.mark.parametrize(
    ("name", "config"), CASES, ids=["-".join([name, *config.values()]) for name, config in CASES]
)
CLASSES, CLIPS, STEPS = 7, 16, 150


def tiny(name: str, config: dict[str, Any], **more: Any) -> Model:
    torch.manual_seed(0)
    return create(name, "tiny", classes=CLASSES, **{**placeholders(name), **config, **more})


def clips(name: str, count: int, channels: int = 3, seed: int = 1) -> ClipBatch:
    """Noise of all kinds that models read, with labels and known cultures."""
    shown, chance = card(name).tiny_input, torch.Generator().manual_seed(seed)
    frames = torch.randn(count, shown.frames, channels, shown.size, shown.size, generator=chance)
    label = torch.randint(CLASSES, (count,), generator=chance)
    scene = torch.randn(frames.shape, generator=chance)
    flow, apex = (torch.randn(count, 3, shown.size, shown.size, generator=chance) for _ in range(2))
    return ClipBatch(frames, culture=torch.arange(count) % 4, label=label, scene=scene, flow=flow, apex=apex)


def part_of(batch: ClipBatch, rows: slice) -> ClipBatch:
    return ClipBatch(**{name: None if one is None else one[rows] for name, one in vars(batch).items()})


def loss_of(model: nn.Module, batch: ClipBatch) -> Tensor:
    output = model(batch)
    assert batch.label is not None
    return functional.cross_entropy(output.logits.float(), batch.label) + sum(output.losses.values())


@every_model
def test_it_can_learn_16_clips_by_heart(name: str, config: dict[str, Any]) -> None:
    model, batch = tiny(name, config), clips(name, CLIPS)
    optimizer = torch.optim.Adam([one for one in model.parameters() if one.requires_grad], lr=2e-3)
    right = 0
    for step in range(STEPS):
        model.train()
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()
        if step % 10 == 9:
            model.eval()
            with torch.inference_mode():
                right = int((model(batch).logits.argmax(1) == batch.label).sum())
            if right == CLIPS:
                break
    assert right == CLIPS


@every_model
def test_one_clip_answers_as_in_a_batch_and_may_be_of_unknown_culture(name: str, config: dict[str, Any]) -> None:
    model, batch = tiny(name, config).eval(), clips(name, 3)
    with torch.inference_mode():
        together = model(batch)
        assert together.logits.shape == (3, CLASSES)
        assert together.features.ndim == 2
        assert together.losses == {}, "auxiliary losses are for training"
        alone = model(part_of(batch, slice(1, 2)))
        torch.testing.assert_close(alone.logits[0], together.logits[1], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(alone.features[0], together.features[1], atol=1e-4, rtol=1e-4)
        unknown = [model(replace(batch, label=None, culture=told)).logits for told in (None, torch.full((3,), -1))]
    torch.testing.assert_close(*unknown)
    assert unknown[0].isfinite().all()


@every_model
def test_a_gradient_reaches_what_is_trained_and_nothing_that_is_frozen(name: str, config: dict[str, Any]) -> None:
    model, batch = tiny(name, config).train(), clips(name, 4)
    optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.05)
    seen = {key: torch.zeros(()) for key, one in model.named_parameters() if one.requires_grad}
    for _ in range(3):  # layers behind a weight that starts at 0 get theirs once it has moved
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        for key in seen:
            gradient = model.get_parameter(key).grad
            assert gradient is not None, f"{key} is not used, which DDP does not allow"
            seen[key] = seen[key] + gradient.abs().sum()
        optimizer.step()
    assert [key for key, total in seen.items() if not total > 0] == []
    assert all(one.grad is None for one in model.parameters() if not one.requires_grad)


@every_model
def test_bf16_autocast(name: str, config: dict[str, Any]) -> None:
    model, batch = tiny(name, config).train(), clips(name, 4)
    # Where a kernel is larger than its map, as in tiny models, oneDNN's bf16 weight gradients on AVX-512 read memory
    # that nobody has written (torch 2.15): NaN now and then.
    with torch.backends.mkldnn.flags(enabled=False):
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model, batch)
        loss.backward()
    assert loss.isfinite()
    assert all(one.grad is None or one.grad.isfinite().all() for one in model.parameters())


@every_model
def test_torch_compile(name: str, config: dict[str, Any]) -> None:
    """Traced and differentiated ahead of time; code is generated for one model alone, which takes its time."""
    model, batch = tiny(name, config).eval(), clips(name, 2)
    compiled = torch.compile(model, backend="inductor" if (name, config) == ("cafer", {}) else "aot_eager")
    try:
        torch.testing.assert_close(compiled(batch).logits, model(batch).logits, atol=1e-4, rtol=1e-4)
        model.train()
        loss_of(compiled, batch).backward()
        assert any(one.grad is not None for one in model.parameters())
    finally:
        torch._dynamo.reset()


@every_model
def test_weights_survive_safetensors(name: str, config: dict[str, Any], tmp_path: Path) -> None:
    model, batch = tiny(name, config), clips(name, 2)
    loss_of(model.train(), batch).backward()  # moves running statistics
    model.eval()
    save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, str(tmp_path / "m.safetensors"))
    torch.manual_seed(99)
    other = create(name, "tiny", classes=CLASSES, **{**placeholders(name), **config}).eval()
    other.load_state_dict(load_file(str(tmp_path / "m.safetensors")))
    with torch.inference_mode():
        torch.testing.assert_close(other(batch).logits, model(batch).logits, atol=0, rtol=0)


@pytest.mark.parametrize("name", [name for name in names() if "frames" in reads(name, {})])
def test_differences_may_be_shown_as_further_channels(name: str) -> None:
    model = tiny(name, {}, channels=6).eval()
    with torch.inference_mode():
        assert model(clips(name, 2, channels=6)).logits.shape == (2, CLASSES)


@pytest.mark.parametrize("name", names())
def test_cards_say_what_a_reader_needs(name: str) -> None:
    known = card(name)
    assert isinstance(known, Card)
    assert known.title
    assert known.paper
    assert known.status in ("faithful", "reconstructed")
    assert takes(name, "channels") == ("frames" in reads(name, {}))
    assert takes(name, "classes")


def test_names_and_presets_that_are_unknown() -> None:
    with pytest.raises(ValueError, match="unknown model 'vgg'; expected one of c3d, cafer, dfer_clip"):
        create("vgg")
    with pytest.raises(ValueError, match="unknown preset 'huge'; there is 'tiny'"):
        create("c3d", "huge")


def test_what_is_given_goes_before_the_preset() -> None:
    assert create("c3d", "tiny", classes=3).state_dict().keys() == create("c3d", "tiny").state_dict().keys()
    assert create("cafer", "tiny", embedding_dim=5, **placeholders("cafer")).recalibration.embedding.weight.shape == (
        5,
        5,
    )
