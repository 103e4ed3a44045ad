"""Former-DFER: its parts against torch's own, its order of tokens, and released names."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ray_fer.models.backbones.lean_transformer import Layer
from ray_fer.models.batch import ClipBatch
from ray_fer.models.describe import size_of
from ray_fer.models.former_dfer import FormerDfer

CARD = FormerDfer.card


def tiny(**config: int) -> FormerDfer:
    torch.manual_seed(0)
    return FormerDfer(**{**CARD.tiny, **config}).eval()


def test_size_of_the_published_model() -> None:
    with torch.device("meta"):
        size = size_of(FormerDfer(), CARD.input)
    assert size.parameters / 1e6 == pytest.approx(18, rel=0.02)
    # By hand, 1e6 multiply-adds: a ResNet-18 on 16 frames of 112 px, the layer over 49 tokens of 256, 3 over 17 of 512.
    resnet = 16 * 484.848
    spatial = 16 * (49 * (4 * 256**2 + 2 * 256 * 512) + 2 * 49**2 * 256) / 1e6
    temporal = 3 * (17 * (4 * 512**2 + 2 * 512 * 1024) + 2 * 17**2 * 512) / 1e6
    assert size.macs / 1e6 == pytest.approx(resnet + spatial + temporal, rel=1e-3)


def test_three_spatial_layers_would_have_the_published_multiply_adds() -> None:
    """What the card says about the difference to 9.1 G."""
    with torch.device("meta"):
        size = size_of(FormerDfer(spatial_depth=3), CARD.input)
    assert size.macs / 1e9 == pytest.approx(9.1, rel=0.02)
    assert size.parameters / 1e6 == pytest.approx(19.1, abs=0.05)


def test_layer_agrees_with_torchs_own() -> None:
    """torch.nn.TransformerEncoderLayer, pre-norm, tanh-GELU, its query, key and value biases 0."""
    torch.manual_seed(0)
    ours = Layer(dim=24, heads=3, head_dim=8, mlp_dim=48).eval()
    theirs = nn.TransformerEncoderLayer(
        24, 3, 48, dropout=0.0, activation=partial(functional.gelu, approximate="tanh"), batch_first=True,
        norm_first=True,
    ).eval()  # fmt: skip
    pairs = {
        "self_attn.in_proj_weight": ours.qkv.weight, "self_attn.in_proj_bias": torch.zeros(72),
        "self_attn.out_proj.weight": ours.proj.weight, "self_attn.out_proj.bias": ours.proj.bias,
        "linear1.weight": ours.mlp[0].weight, "linear1.bias": ours.mlp[0].bias,
        "linear2.weight": ours.mlp[3].weight, "linear2.bias": ours.mlp[3].bias,
        "norm1.weight": ours.norm1.weight, "norm1.bias": ours.norm1.bias,
        "norm2.weight": ours.norm2.weight, "norm2.bias": ours.norm2.bias,
    }  # fmt: skip
    theirs.load_state_dict({name: value.detach().clone() for name, value in pairs.items()})
    x = torch.randn(2, 7, 24)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)


def test_heads_of_another_total_width() -> None:
    layer = Layer(dim=24, heads=2, head_dim=4, mlp_dim=8)
    assert layer(torch.randn(2, 5, 24)).shape == (2, 5, 24)


def test_spatial_tokens_go_back_where_they_came_from() -> None:
    """With a transformer that adds nothing and no positions, the model is a ResNet-18 under a temporal transformer."""
    model = tiny(size=64)
    with torch.no_grad():
        model.spatial_position.zero_()
        for layer in model.spatial:
            for last in (layer.proj, layer.mlp[3]):
                last.weight.zero_()
                last.bias.zero_()
    vectors: list[Tensor] = []
    model.temporal.register_forward_pre_hook(lambda module, args: vectors.append(args[0].detach()))
    frames = torch.randn(2, 4, 3, 64, 64)
    model(ClipBatch(frames))
    expected = model.layer4(model.cnn(frames.flatten(0, 1))).mean(dim=(2, 3)).view(2, 4, -1)
    torch.testing.assert_close(vectors[0][:, 1:], expected + model.temporal_position[:, 1:])
    torch.testing.assert_close(vectors[0][:, 0], (model.cls + model.temporal_position[:, :1])[0].expand(2, -1))


def test_frames_meet_only_in_the_temporal_transformer() -> None:
    model = tiny()
    vectors: list[Tensor] = []
    model.temporal.register_forward_pre_hook(lambda module, args: vectors.append(args[0].detach()))
    frames = torch.randn(1, 4, 3, 32, 32)
    changed = frames.clone()
    changed[:, 2] += 1
    first, second = model(ClipBatch(frames)), model(ClipBatch(changed))
    same = (vectors[0] - vectors[1]).abs().amax(dim=2)[0] < 1e-5  # of the class token and four frames
    assert same.tolist() == [True, True, True, False, True]
    assert not torch.allclose(first.logits, second.logits)


def test_order_of_frames_matters() -> None:
    model = tiny()
    frames = torch.randn(1, 4, 3, 32, 32)
    assert not torch.allclose(model(ClipBatch(frames)).logits, model(ClipBatch(frames.flip(1))).logits, atol=1e-4)


def released(model: FormerDfer) -> dict[str, Tensor]:
    """The model's weights as the released training script names them: written down from its modules, layer by layer."""
    ours = model.state_dict()
    state = {name.replace("cnn.", "s_former."): value for name, value in ours.items() if name.startswith("cnn.")}
    state |= {f"s_former.{name}": value for name, value in ours.items() if name.startswith("layer4.")}
    state["s_former.pos_embedding"] = ours["spatial_position"]
    state["t_former.pos_embedding"] = ours["temporal_position"]
    state["t_former.cls_token"] = ours["cls"]
    parts = {
        "norm1.weight": "0.fn.norm.weight", "norm1.bias": "0.fn.norm.bias", "qkv.weight": "0.fn.fn.to_qkv.weight",
        "proj.weight": "0.fn.fn.to_out.0.weight", "proj.bias": "0.fn.fn.to_out.0.bias",
        "norm2.weight": "1.fn.norm.weight", "norm2.bias": "1.fn.norm.bias",
        "mlp.0.weight": "1.fn.fn.net.0.weight", "mlp.0.bias": "1.fn.fn.net.0.bias",
        "mlp.3.weight": "1.fn.fn.net.3.weight", "mlp.3.bias": "1.fn.fn.net.3.bias",
    }  # fmt: skip
    for mine, theirs, depth in (("spatial", "s_former", model.spatial), ("temporal", "t_former", model.temporal)):
        for number in range(len(depth)):
            for name, released_name in parts.items():
                state[f"{theirs}.spatial_transformer.layers.{number}.{released_name}"] = ours[f"{mine}.{number}.{name}"]
    return state | {"fc.weight": torch.zeros(7, 64), "fc.bias": torch.zeros(7)}


def test_released_names() -> None:
    source, target = tiny(temporal_depth=3), tiny(temporal_depth=3)
    nn.init.normal_(target.cnn.conv1.weight)
    adapted = target.adapted(released(source))
    left = set(target.state_dict()) - set(adapted)
    assert left == {"head.weight", "head.bias"}  # its classes are in another order
    for name, value in adapted.items():
        torch.testing.assert_close(value, source.state_dict()[name])


def test_released_weights_for_frames_with_differences() -> None:
    """Six channels start as the released three, and the differences as nothing."""
    source, target = tiny(), tiny(channels=6)
    target.load_state_dict(target.state_dict() | target.adapted(released(source)))
    frames = torch.randn(1, 4, 3, 32, 32)
    expected = source(ClipBatch(frames)).features
    torch.testing.assert_close(target(ClipBatch(torch.cat([frames, torch.randn_like(frames)], 2))).features, expected)


def test_weights_of_something_else_are_refused() -> None:
    with pytest.raises(ValueError, match="not a name of the released Former-DFER"):
        tiny().adapted({"backbone.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="not weights of the released Former-DFER"):
        tiny().adapted({"fc.weight": torch.zeros(7, 512)})


def test_clips_it_has_no_positions_for() -> None:
    with pytest.raises(ValueError, match="Former-DFER was built for 4 frames of 32x32 px"):
        tiny()(ClipBatch(torch.randn(1, 8, 3, 32, 32)))
    with pytest.raises(ValueError, match="3 heads do not divide the 256 channels"), torch.device("meta"):
        FormerDfer(heads=3)
