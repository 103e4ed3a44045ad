"""TimeSformer against transformers' implementation, published figures and what divided attention means."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import stochastic_depth

from ray_fer.models.backbones.timesformer import TimeSformer, drop_path, timesformer_from_hub

SMALL = {"size": 24, "patch": 8, "dim": 24, "depth": 3, "heads": 4, "mlp_dim": 40}


def reference(frames: int) -> nn.Module:
    """transformers' TimesformerModel with the sizes of SMALL and no weight at its initial 0 or 1."""
    from transformers import TimesformerConfig, TimesformerModel

    torch.manual_seed(0)
    config = TimesformerConfig(
        image_size=24, patch_size=8, num_frames=frames, hidden_size=24, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=40,
    )  # fmt: skip
    model = TimesformerModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def loaded(state: dict[str, Tensor], **config: int) -> TimeSformer:
    model = TimeSformer(**{**SMALL, **config}).eval()
    model.load_state_dict({**model.state_dict(), **timesformer_from_hub(state, model)})
    return model


def assert_agree(ours: TimeSformer, theirs: nn.Module, clips: Tensor) -> None:
    with torch.no_grad():
        cls, tokens = ours(clips)
        expected = theirs(clips).last_hidden_state
    frames = clips.shape[1]
    by_frame = expected[:, 1:].unflatten(1, (-1, frames)).transpose(1, 2).flatten(1, 2)  # theirs: patch after patch
    torch.testing.assert_close(cls, expected[:, 0], atol=1e-4, rtol=0)
    torch.testing.assert_close(tokens, by_frame, atol=1e-4, rtol=0)


def test_parameters_and_multiply_adds_of_the_published_model() -> None:
    """8 frames of 224 px, 400 classes: 121.4 M parameters (TimeSformer paper), 196 G multiply-adds (mmaction2)."""
    with torch.device("meta"):
        backbone, head = TimeSformer(frames=8).eval(), nn.Linear(768, 400)
        clip = torch.empty(1, 8, 3, 224, 224)
    count = sum(p.numel() for p in [*backbone.parameters(), *head.parameters()])
    assert count / 1e6 == pytest.approx(121.4, abs=0.2)
    with FlopCounterMode(display=False) as counter:
        backbone(clip)
    assert counter.get_total_flops() / 2e9 == pytest.approx(196, rel=0.005)


def test_public_weights_give_the_numbers_of_transformers() -> None:
    theirs = reference(frames=3)
    assert_agree(loaded(theirs.state_dict(), frames=3), theirs, torch.randn(2, 3, 3, 24, 24))


def test_time_embedding_for_another_number_of_frames() -> None:
    """transformers resizes it in the forward pass; we do when weights are read."""
    theirs = reference(frames=3)
    theirs.config.num_frames = 5
    assert_agree(loaded(theirs.state_dict(), frames=5), theirs, torch.randn(1, 5, 3, 24, 24))


def test_names_of_the_authors_files() -> None:
    state = {f"timesformer.{name}": value for name, value in reference(frames=3).state_dict().items()}
    authors = {
        "timesformer.embeddings.cls_token": "model.cls_token",
        "timesformer.embeddings.position_embeddings": "model.pos_embed",
        "timesformer.embeddings.time_embeddings": "model.time_embed",
        "timesformer.embeddings.patch_embeddings.projection": "model.patch_embed.proj",
        "timesformer.encoder.layer.1.temporal_layernorm": "model.blocks.1.temporal_norm1",
        "timesformer.encoder.layer.1.temporal_attention.attention.qkv": "model.blocks.1.temporal_attn.qkv",
        "timesformer.encoder.layer.1.temporal_attention.output.dense": "model.blocks.1.temporal_attn.proj",
        "timesformer.encoder.layer.1.temporal_dense": "model.blocks.1.temporal_fc",
        "timesformer.encoder.layer.1.layernorm_before": "model.blocks.1.norm1",
        "timesformer.encoder.layer.1.attention.attention.qkv": "model.blocks.1.attn.qkv",
        "timesformer.encoder.layer.1.attention.output.dense": "model.blocks.1.attn.proj",
        "timesformer.encoder.layer.1.layernorm_after": "model.blocks.1.norm2",
        "timesformer.encoder.layer.1.intermediate.dense": "model.blocks.1.mlp.fc1",
        "timesformer.encoder.layer.1.output.dense": "model.blocks.1.mlp.fc2",
        "timesformer.layernorm": "model.norm",
    }
    released = dict(state)
    for theirs, name in authors.items():
        for kind in ("", ".weight", ".bias"):
            if theirs + kind in released:
                released[name + kind] = released.pop(theirs + kind)
    model = TimeSformer(frames=3, **SMALL)
    expected, found = timesformer_from_hub(state, model), timesformer_from_hub(released, model)
    assert expected.keys() == found.keys() == model.state_dict().keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_names_and_shapes_of_the_public_checkpoint() -> None:
    """`facebook/timesformer-base-finetuned-k400`: 8 frames, read for 16; everything but its head is used."""
    from transformers import TimesformerConfig, TimesformerForVideoClassification

    with torch.device("meta"):
        state = TimesformerForVideoClassification(TimesformerConfig(num_labels=400)).state_dict()
        model = TimeSformer(frames=16)
    found = timesformer_from_hub(state, model)
    assert {name: value.shape for name, value in found.items()} == {
        name: value.shape for name, value in model.state_dict().items()
    }


def test_fresh_model_treats_frames_as_single_images() -> None:
    """Until the layer behind the temporal attention has learnt something, a frame's tokens do not see other frames."""
    torch.manual_seed(0)
    model = TimeSformer(frames=4, **{**SMALL, "depth": 1}).eval()
    clip = torch.randn(1, 4, 3, 24, 24)
    changed = clip.clone()
    changed[:, 3] += 1

    def first_frame(clip: Tensor) -> Tensor:
        return model(clip)[1].unflatten(1, (4, 9))[:, 0]

    torch.testing.assert_close(first_frame(clip), first_frame(changed))
    nn.init.eye_(model.blocks[0].temporal_fc.weight)
    assert not torch.allclose(first_frame(clip), first_frame(changed))


def test_drop_path_agrees_with_torchvisions() -> None:
    x = torch.randn(64, 3, 5)
    torch.manual_seed(1)
    ours = drop_path(x, 0.4)
    torch.manual_seed(1)
    torch.testing.assert_close(ours, stochastic_depth(x, 0.4, mode="row"))
    model = TimeSformer(frames=2, **SMALL, drop_path=0.2)
    assert [block.drop_path for block in model.blocks] == pytest.approx([0, 0.1, 0.2])
    clip = torch.randn(1, 2, 3, 24, 24)
    assert torch.equal(model.eval()(clip)[0], model(clip)[0])


def test_more_channels_than_the_weights_start_at_zero() -> None:
    theirs = reference(frames=3)
    ours = loaded(theirs.state_dict(), frames=3, channels=6)
    clip = torch.randn(1, 3, 3, 24, 24)
    with torch.no_grad():
        expected = theirs(clip).last_hidden_state[:, 0]
        cls, _ = ours(torch.cat([clip, torch.randn_like(clip)], dim=2))
    torch.testing.assert_close(cls, expected, atol=1e-4, rtol=0)


def test_every_parameter_gets_a_gradient() -> None:
    model = TimeSformer(frames=2, **SMALL).train()
    cls, tokens = model(torch.randn(1, 2, 3, 24, 24))
    (cls.sum() + tokens.square().sum()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_wrong_sizes_and_weights_are_refused() -> None:
    model = TimeSformer(frames=3, **SMALL)
    with pytest.raises(ValueError, match="build it with the frames"):
        model(torch.randn(1, 4, 3, 24, 24))
    with pytest.raises(ValueError, match="do not divide"):
        TimeSformer(size=100)
    with pytest.raises(ValueError, match="multiple of 5 heads"):
        TimeSformer(heads=5)
    state = reference(frames=3).state_dict()
    with pytest.raises(ValueError, match="build it with depth=3"):
        timesformer_from_hub(state, TimeSformer(frames=3, **{**SMALL, "depth": 2}))
    image = {name: value for name, value in state.items() if "temporal" not in name}
    with pytest.raises(ValueError, match="not the weights of a TimeSformer"):
        timesformer_from_hub(image, model)
