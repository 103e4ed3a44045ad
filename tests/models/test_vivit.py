"""The factorised encoder against published numbers and an independent implementation."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from ray_fer.models.backbones.vivit import Block, Encoder, ViViT


def test_parameters_of_the_published_model() -> None:
    """ViViT-B/16x2 FE with 32 frames and 400 classes has 115.1 M parameters (ViViT paper, Table 1)."""
    with torch.device("meta"):
        backbone = ViViT(frames=32)
        head = nn.Linear(768, 400)
    count = sum(p.numel() for p in [*backbone.parameters(), *head.parameters()])
    assert count / 1e6 == pytest.approx(115.1, abs=0.1)


def test_token_counts_at_the_papers_size() -> None:
    with torch.device("meta"):
        backbone = ViViT()
    assert backbone.spatial.position.shape == (1, 197, 768)
    assert backbone.temporal.position.shape == (1, 9, 768)
    assert len(backbone.spatial.blocks) == 12
    assert len(backbone.temporal.blocks) == 4


def test_shapes_and_meaning_of_the_outputs() -> None:
    backbone = ViViT(frames=4, size=32, patch=8, dim=16, spatial_depth=1, temporal_depth=1, heads=2, mlp_dim=32).eval()
    cls, patches = backbone(torch.randn(3, 4, 3, 32, 32))
    assert cls.shape == (3, 16)
    assert patches.shape == (3, 16, 16)


def test_block_agrees_with_torchs_own() -> None:
    """The same weights in torch.nn.TransformerEncoderLayer (pre-norm, GELU) give the same numbers."""
    torch.manual_seed(0)
    ours = Block(dim=24, heads=3, mlp_dim=48, dropout=0.0).eval()
    theirs = nn.TransformerEncoderLayer(
        24, 3, 48, dropout=0.0, activation="gelu", batch_first=True, norm_first=True, layer_norm_eps=1e-6
    ).eval()
    pairs = {
        "self_attn.in_proj_weight": ours.qkv.weight, "self_attn.in_proj_bias": ours.qkv.bias,
        "self_attn.out_proj.weight": ours.proj.weight, "self_attn.out_proj.bias": ours.proj.bias,
        "linear1.weight": ours.mlp[0].weight, "linear1.bias": ours.mlp[0].bias,
        "linear2.weight": ours.mlp[3].weight, "linear2.bias": ours.mlp[3].bias,
        "norm1.weight": ours.norm1.weight, "norm1.bias": ours.norm1.bias,
        "norm2.weight": ours.norm2.weight, "norm2.bias": ours.norm2.bias,
    }  # fmt: skip
    theirs.load_state_dict({name: value.detach().clone() for name, value in pairs.items()})
    x = torch.randn(2, 7, 24)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)


def test_spatial_encoding_sees_one_temporal_index_at_a_time() -> None:
    """What the factorised encoder is: changing the last frames leaves earlier frame vectors as they were."""
    torch.manual_seed(0)
    backbone = ViViT(frames=4, size=16, patch=8, dim=16, spatial_depth=2, temporal_depth=1, heads=2, mlp_dim=32).eval()
    seen: list[torch.Tensor] = []
    backbone.temporal.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    frames = torch.randn(1, 4, 3, 16, 16)
    backbone(frames)
    changed = frames.clone()
    changed[:, 2:] += 1
    backbone(changed)
    torch.testing.assert_close(seen[0][:, 0], seen[1][:, 0])
    assert not torch.allclose(seen[0][:, 1], seen[1][:, 1])


@pytest.mark.parametrize("config", [{"frames": 15}, {"size": 100}, {"stem_dim": 8, "patch": 14}, {"heads": 5}])
def test_sizes_that_do_not_divide_are_refused(config: dict[str, int]) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=r"divide|multiple"):
        ViViT(**config)


def shaken(module: nn.Module) -> nn.Module:
    """No weight at its initial 0 or 1, so that one that is left out or exchanged shows."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module.eval()


def in_our_names(name: str) -> str:
    """timm's name of a weight of a transformer block as ours."""
    for theirs, ours in (("attn.", ""), ("mlp.fc1", "mlp.0"), ("mlp.fc2", "mlp.3")):
        name = name.replace(theirs, ours)
    return name


def test_block_agrees_with_timms() -> None:
    from timm.models.vision_transformer import Block as TimmBlock

    theirs = shaken(TimmBlock(24, num_heads=4, mlp_ratio=2, qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-6)))
    ours = Block(dim=24, heads=4, mlp_dim=48, dropout=0.0).eval()
    ours.load_state_dict({in_our_names(name): value for name, value in theirs.state_dict().items()})
    x = torch.randn(2, 7, 24)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-4, rtol=0)


def test_spatial_encoder_agrees_with_timms_vision_transformer() -> None:
    """ViT-B's 12 layers and 12 heads of a 64th of their width: the encoder is timm's behind the patch embedding."""
    from timm.models.vision_transformer import VisionTransformer

    theirs = shaken(VisionTransformer(img_size=32, patch_size=8, embed_dim=48, depth=12, num_heads=12, num_classes=0))
    state = {in_our_names(name): value for name, value in theirs.state_dict().items() if "patch_embed" not in name}
    state["cls"], state["position"] = state.pop("cls_token"), state.pop("pos_embed")
    ours = Encoder(tokens=16, dim=48, depth=12, heads=12, mlp_dim=192, dropout=0.0).eval()
    ours.load_state_dict(state)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours(theirs.patch_embed(images)), theirs.forward_features(images), atol=1e-4, rtol=0)
