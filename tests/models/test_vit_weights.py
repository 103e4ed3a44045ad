"""Image transformers' weights in a ViViT's spatial encoder, against timm and transformers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ray_fer.models.backbones.vit_weights import resized_grid, vivit_from_vit, weights_kind
from ray_fer.models.backbones.vivit import ViViT

SMALL = {
    "frames": 6, "size": 24, "patch": 8, "dim": 24, "spatial_depth": 2, "temporal_depth": 1, "heads": 3, "mlp_dim": 40,
}  # fmt: skip


def shaken(model: nn.Module) -> nn.Module:
    """No weight at its initial 0 or 1, so that one that is left out or exchanged shows."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def timm_model(size: int = 24) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return shaken(
        VisionTransformer(
            img_size=size, patch_size=8, num_classes=5, embed_dim=24, depth=2, num_heads=3, mlp_ratio=40 / 24
        )
    )


def hub_model() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        image_size=24, patch_size=8, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
        layer_norm_eps=1e-6,
    )  # fmt: skip
    return shaken(ViTForImageClassification(config))


def published_names(model: nn.Module, tmp_path: object) -> dict[str, Tensor]:
    """As they stand in a file of the hub; in memory newer versions of transformers use others."""
    from safetensors.torch import load_file

    model.save_pretrained(tmp_path)
    return load_file(f"{tmp_path}/model.safetensors")


def frame_vectors(state: dict[str, Tensor], clips: Tensor, **config: int) -> Tensor:
    """What the temporal encoder reads, [B,T',D], in a ViViT with these image weights."""
    vivit = ViViT(**{**SMALL, **config}).eval()
    vivit.load_state_dict({**vivit.state_dict(), **vivit_from_vit(state, vivit)})
    seen: list[Tensor] = []
    vivit.temporal.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        vivit(clips)
    return seen[0]


@pytest.mark.parametrize("tubelet", [1, 2, 3])
def test_each_temporal_index_sees_its_central_frame_as_timm_does(tubelet: int) -> None:
    image = timm_model()
    clips = torch.randn(2, 6, 3, 24, 24)
    vectors = frame_vectors(image.state_dict(), clips, tubelet=tubelet)
    central = clips[:, tubelet // 2 :: tubelet]
    with torch.no_grad():
        expected = image.forward_features(central.flatten(0, 1))[:, 0].unflatten(0, (2, 6 // tubelet))
    torch.testing.assert_close(vectors, expected, atol=1e-4, rtol=0)


def test_names_of_hugging_face(tmp_path: object) -> None:
    image = hub_model()
    clips = torch.randn(2, 6, 3, 24, 24)
    state = published_names(image, tmp_path)
    assert "vit.encoder.layer.1.attention.attention.query.weight" in state
    with torch.no_grad():
        expected = image.vit(clips[:, 1::2].flatten(0, 1)).last_hidden_state[:, 0].unflatten(0, (2, 3))
    torch.testing.assert_close(frame_vectors(state, clips), expected, atol=1e-4, rtol=0)
    without_head = {name.removeprefix("vit."): value for name, value in state.items() if name.startswith("vit.")}
    torch.testing.assert_close(frame_vectors(without_head, clips), expected, atol=1e-4, rtol=0)


def test_names_and_shapes_of_the_public_checkpoint() -> None:
    """`vit_base_patch16_224.augreg_in21k`: everything but its head is used, only the temporal encoder stays."""
    import timm

    with torch.device("meta"):
        state = timm.create_model("vit_base_patch16_224.augreg_in21k", pretrained=False).state_dict()
        vivit = ViViT()
    found = vivit_from_vit(state, vivit)
    ours = {name: value.shape for name, value in vivit.state_dict().items() if not name.startswith("temporal.")}
    assert {name: value.shape for name, value in found.items()} == ours


@pytest.mark.parametrize(("old", "new"), [(14, 7), (14, 20), (3, 4)])
def test_positions_are_resized_as_timm_does(old: int, new: int) -> None:
    from timm.layers import resample_abs_pos_embed

    position = torch.randn(1, 1 + old * old, 8)
    torch.testing.assert_close(resized_grid(position, new * new), resample_abs_pos_embed(position, [new, new]))
    half = resized_grid(position.half(), new * new)
    torch.testing.assert_close(half, resized_grid(position, new * new), atol=1e-2, rtol=0)


def test_another_image_size() -> None:
    image = timm_model()
    clips = torch.randn(1, 6, 3, 32, 32)
    vectors = frame_vectors(image.state_dict(), clips, size=32)
    image.set_input_size(img_size=32)
    with torch.no_grad():
        expected = image.forward_features(clips[0, 1::2])[:, 0]
    torch.testing.assert_close(vectors[0], expected, atol=1e-4, rtol=0)


def test_more_channels_than_the_weights_start_at_zero() -> None:
    state = timm_model().state_dict()
    clips = torch.randn(1, 6, 3, 24, 24)
    six = frame_vectors(state, torch.cat([clips, torch.randn_like(clips)], dim=2), channels=6)
    torch.testing.assert_close(six, frame_vectors(state, clips), atol=1e-5, rtol=0)


def test_other_weights_are_refused() -> None:
    state = timm_model().state_dict()
    with pytest.raises(ValueError, match="stem_dim=0"):
        vivit_from_vit(state, ViViT(**SMALL, stem_dim=8))
    with pytest.raises(ValueError, match="build it with spatial_depth=2"):
        vivit_from_vit(state, ViViT(**{**SMALL, "spatial_depth": 3}))
    with pytest.raises(ValueError, match=r"reads \(8, 8\), the model patches of \(4, 4\) px"):
        vivit_from_vit(state, ViViT(**{**SMALL, "patch": 4}))
    with pytest.raises(ValueError, match="cls_token is missing"):
        vivit_from_vit({"conv1.weight": torch.zeros(1)}, ViViT(**SMALL))
    distilled = {**state, "dist_token": torch.zeros(1, 1, 24)}
    with pytest.raises(ValueError, match="dist_token has no counterpart"):
        vivit_from_vit(distilled, ViViT(**SMALL))


def test_joint_space_time_weights_are_refused(tmp_path: object) -> None:
    """transformers' ViViT (`google/vivit-b-16x2`) is another model under almost the same names."""
    from transformers import VivitConfig, VivitModel

    config = VivitConfig(
        image_size=24, num_frames=6, tubelet_size=[2, 8, 8], hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
        intermediate_size=40,
    )  # fmt: skip
    state = published_names(VivitModel(config), tmp_path)
    with pytest.raises(ValueError, match=r"reads \(2, 8, 8\), the model patches of \(8, 8\) px"):
        vivit_from_vit(state, ViViT(**SMALL))


def test_kinds_of_weights(tmp_path: object) -> None:
    from transformers import TimesformerConfig, TimesformerForVideoClassification

    with torch.device("meta"):
        timesformer = TimesformerForVideoClassification(TimesformerConfig(num_hidden_layers=1)).state_dict()
    assert weights_kind(timesformer) == "timesformer"
    assert weights_kind(timm_model().state_dict()) == "vit"
    assert weights_kind(published_names(hub_model(), tmp_path)) == "vit"
    scenic = "optimizer/target/SpatialTransformer/encoderblock_0/LayerNorm_0/scale"
    assert weights_kind({scenic: torch.zeros(1)}) == "vivit"
    assert weights_kind(ViViT(**SMALL).state_dict()) is None
    assert weights_kind({}) is None
