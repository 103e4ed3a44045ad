"""Frame networks and what reads their vectors in order, against torchvision's networks and torch's own layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ray_fer.models.backbones.sequence import FrameSequence
from ray_fer.models.backbones.vivit import Encoder
from ray_fer.models.batch import ClipBatch
from ray_fer.models.describe import size_of
from ray_fer.models.pretrained import load_pretrained
from ray_fer.models.resnet18_gru import ResNet18Gru
from ray_fer.models.resnet18_lstm import ResNet18Lstm
from ray_fer.models.resnet18_vit import ResNet18Vit
from ray_fer.models.vgg13_lstm import Vgg13Lstm

SMALL: dict[type[FrameSequence], dict[str, Any]] = {
    ResNet18Lstm: {"hidden": 16},
    ResNet18Gru: {"hidden": 16, "layers": 2},
    ResNet18Vit: {"frames": 4, "depth": 1},
}
ALL = [ResNet18Lstm, ResNet18Gru, ResNet18Vit, Vgg13Lstm]


def tiny(kind: type[FrameSequence], **config: Any) -> FrameSequence:
    torch.manual_seed(0)
    return kind(**{**kind.card.tiny, **config})


def parameters(*modules: nn.Module) -> int:
    return sum(one.numel() for module in modules for one in module.parameters())


@pytest.fixture(scope="module")
def resnet18() -> nn.Module:
    torch.manual_seed(0)
    network = torchvision.models.resnet18()
    with torch.no_grad():
        network(torch.randn(8, 3, 64, 64))  # running statistics that are not 0 and 1
    return network.eval()


@pytest.mark.parametrize("kind", SMALL)
def test_agrees_with_torchvision_and_torch(kind: type[FrameSequence], resnet18: nn.Module, tmp_path: Path) -> None:
    """torchvision's checkpoint in the frame network; then torch's LSTM, GRU or transformer layer."""
    save_file(resnet18.state_dict(), tmp_path / "resnet18.safetensors")
    model = kind(**SMALL[kind])
    loaded = load_pretrained(model, tmp_path / "resnet18.safetensors")
    assert not [name for name in loaded.left if name.startswith("network.") and "num_batches" not in name]
    model.eval()
    frames = torch.randn(2, 4, 3, 64, 64)

    body = nn.Sequential(*list(resnet18.children())[:-1], nn.Flatten())
    vectors = torch.stack([body(clip) for clip in frames])
    expected = last_state(model, vectors) if kind is not ResNet18Vit else cls_token(model, vectors)
    with torch.no_grad():
        answer = model(ClipBatch(frames))
    torch.testing.assert_close(answer.features, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(answer.logits, model.head(expected), atol=1e-4, rtol=0)


def last_state(model: FrameSequence, vectors: Tensor) -> Tensor:
    """h_n of the last layer, which for one direction is the output at the last frame."""
    recurrent = model.sequence.recurrent
    theirs = type(recurrent)(recurrent.input_size, recurrent.hidden_size, recurrent.num_layers)
    theirs.load_state_dict(recurrent.state_dict())
    state = theirs(vectors.transpose(0, 1))[1]
    return (state[0] if isinstance(state, tuple) else state)[-1]


def cls_token(model: FrameSequence, vectors: Tensor) -> Tensor:
    """The same weights in torch.nn.TransformerEncoderLayer."""
    encoder = model.sequence.encoder
    block = encoder.blocks[0]
    theirs = nn.TransformerEncoderLayer(
        512, 8, 1024, dropout=0.0, activation="gelu", batch_first=True, norm_first=True, layer_norm_eps=1e-6
    )
    theirs.load_state_dict({
        "self_attn.in_proj_weight": block.qkv.weight, "self_attn.in_proj_bias": block.qkv.bias,
        "self_attn.out_proj.weight": block.proj.weight, "self_attn.out_proj.bias": block.proj.bias,
        "linear1.weight": block.mlp[0].weight, "linear1.bias": block.mlp[0].bias,
        "linear2.weight": block.mlp[3].weight, "linear2.bias": block.mlp[3].bias,
        "norm1.weight": block.norm1.weight, "norm1.bias": block.norm1.bias,
        "norm2.weight": block.norm2.weight, "norm2.bias": block.norm2.bias,
    })  # fmt: skip
    tokens = torch.cat([encoder.cls.expand(len(vectors), -1, -1), vectors], dim=1) + encoder.position
    return encoder.norm(theirs.eval()(tokens))[:, 0]


@pytest.mark.parametrize("batch_norm", [True, False])
def test_vgg_agrees_with_torchvision(batch_norm: bool) -> None:
    """All of VGG-13 at its width of 4096 units would take a second and 0.5 GB, so its classifier is narrowed."""
    torch.manual_seed(0)
    theirs = torchvision.models.vgg13_bn() if batch_norm else torchvision.models.vgg13()
    theirs.classifier[0] = nn.Linear(512 * 7 * 7, 16)
    theirs.classifier[3] = nn.Linear(16, 16)
    model = Vgg13Lstm(units=16, hidden=8, batch_norm=batch_norm).eval()
    ours = {**model.state_dict(), **model.adapted(theirs.state_dict())}
    model.load_state_dict(ours)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = theirs.classifier[:6].eval()(theirs.eval().avgpool(theirs.features(images)).flatten(1))
        torch.testing.assert_close(model.network(images), expected, atol=1e-4, rtol=0)


def test_further_channels_start_at_zero(resnet18: nn.Module) -> None:
    model = ResNet18Lstm(channels=6, hidden=8).eval()
    model.load_state_dict({**model.state_dict(), **model.adapted(resnet18.state_dict())})
    images = torch.randn(1, 6, 32, 32)
    others = torch.cat([images[:, :3], torch.randn(1, 3, 32, 32)], dim=1)
    torch.testing.assert_close(model.network(images), model.network(others))


def test_weights_of_another_network_are_refused(resnet18: nn.Module, tmp_path: Path) -> None:
    save_file(resnet18.state_dict(), tmp_path / "resnet18.safetensors")
    with pytest.raises(ValueError, match=r"resnet18\.safetensors does not hold weights for VGG13-LSTM"):
        load_pretrained(tiny(Vgg13Lstm), tmp_path / "resnet18.safetensors")
    with pytest.raises(ValueError, match="another size"):
        load_pretrained(tiny(ResNet18Gru), tmp_path / "resnet18.safetensors")


def test_parameters_that_ferv39k_prints() -> None:
    """133 M for VGG13-LSTM; 27 M for two streams of R18-LSTM and 57 M for R50-LSTM, from which its sizes are taken."""
    with torch.device("meta"):
        vgg = Vgg13Lstm()
        stream = ResNet18Lstm()
        resnet50 = torchvision.models.resnet50(num_classes=7)
        lstm = nn.LSTM(2048, 2048)
        vgg16 = torchvision.models.vgg16(num_classes=7)
    assert parameters(vgg) / 1e6 == pytest.approx(133, rel=0.005)
    assert 2 * parameters(stream) / 1e6 == pytest.approx(27, rel=0.02)
    assert parameters(resnet50, lstm) / 1e6 == pytest.approx(57, rel=0.005)
    assert parameters(vgg16, nn.LSTM(4096, 256)) / 1e6 == pytest.approx(138, rel=0.006)


def test_multiply_adds_are_those_of_the_frames() -> None:
    """16 frames through torchvision's ResNet-18 (0.485 G at 112 px) and little else."""
    with torch.device("meta"):
        model = ResNet18Lstm()
        resnet = torchvision.models.resnet18(num_classes=1)
    with FlopCounterMode(display=False) as counter:
        resnet(torch.empty(16, 3, 112, 112, device="meta"))
    frames = counter.get_total_flops() / 2
    lstm = 16 * 4 * 512 * (512 + 512)
    assert size_of(model, ResNet18Lstm.card.input).macs == pytest.approx(frames + lstm, rel=1e-4)


@pytest.mark.parametrize("kind", ALL)
def test_reads_frames_in_their_order(kind: type[FrameSequence]) -> None:
    """Frames in reverse give another answer, and clips of a batch do not see each other."""
    model = tiny(kind).eval()
    frames = torch.randn(3, 4, 3, 32, 32)
    with torch.no_grad():
        answer = model(ClipBatch(frames)).logits
        assert not torch.allclose(model(ClipBatch(frames.flip(1))).logits, answer, atol=1e-4)
        torch.testing.assert_close(model(ClipBatch(frames[1:2])).logits, answer[1:2], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [ResNet18Lstm, ResNet18Gru, Vgg13Lstm])
def test_recurrent_models_take_clips_of_any_length_and_size(kind: type[FrameSequence]) -> None:
    assert tiny(kind)(ClipBatch(torch.randn(1, 7, 3, 48, 48))).logits.shape == (1, 7)


def test_a_transformer_over_time_has_positions_for_its_frames_only() -> None:
    model = tiny(ResNet18Vit)
    assert isinstance(model.sequence.encoder, Encoder)
    with pytest.raises(ValueError, match="built for 4 frames and was given 5; build it with frames="):
        model(ClipBatch(torch.randn(1, 5, 3, 32, 32)))
