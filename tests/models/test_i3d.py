"""I3D against published figures and, on a clip in which nothing moves, torchvision's 2D Inception-v1."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models.googlenet import GoogLeNet

from ray_fer.models.batch import ClipBatch
from ray_fer.models.describe import size_of
from ray_fer.models.i3d import I3D, SamePad
from ray_fer.models.pretrained import load_pretrained


def tiny(**config: Any) -> I3D:
    """With batch normalisation that has seen a clip; without, so deep a random network gives next to nothing."""
    torch.manual_seed(0)
    model = I3D(**(dict(I3D.card.tiny) | config)).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.momentum = 1.0
    model(ClipBatch(torch.randn(2, 16, model.channels, 40, 40)))
    return model.eval()


def port(classes: int) -> dict[str, torch.Tensor]:
    """Weights under the names of the released rgb_imagenet.pt, whose last layer is a 1x1x1 convolution."""
    ours = tiny(classes=classes).state_dict()
    state = {name.removeprefix("features."): one for name, one in ours.items() if name.startswith("features.")}
    state["logits.conv3d.weight"] = ours["classifier.weight"][:, :, None, None, None]
    state["logits.conv3d.bias"] = ours["classifier.bias"]
    return state


@pytest.mark.parametrize("published", I3D.card.published, ids=lambda one: one.what)
def test_published_figures(published: Any) -> None:
    with torch.device("meta"):
        size = size_of(I3D(**published.config), published.input)
    assert size.parameters / 1e6 == pytest.approx(published.parameters, rel=0.03 if published.reason else 0.001)
    if published.gmacs:
        assert size.macs / 1e9 == pytest.approx(published.gmacs, rel=0.005)


def test_two_streams_have_the_papers_25_million_parameters() -> None:
    """Table 1 of the paper; the second stream reads the two channels of optical flow."""
    with torch.device("meta"):
        streams = [I3D(classes=400), I3D(classes=400, channels=2)]
    assert sum(p.numel() for stream in streams for p in stream.parameters()) / 1e6 == pytest.approx(25, abs=0.5)


def test_a_still_clip_gives_what_inception_makes_of_the_frame() -> None:
    """With 2D kernels at the centre of its own, I3D is GoogLeNet with batch normalisation.

    Of 63 px both pad the first convolution by three on each side, and no later size is odd before a pooling.
    """
    torch.manual_seed(0)
    image_network = GoogLeNet(num_classes=5, aux_logits=False, init_weights=False).eval()
    for module in image_network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.01, 0.1)
    model = I3D(classes=5).eval()
    flat = [module for module in image_network.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]
    deep = [module for module in model.modules() if isinstance(module, nn.Conv3d | nn.BatchNorm3d | nn.Linear)]
    for theirs, ours in zip(flat, deep, strict=True):
        state = theirs.state_dict()
        if isinstance(ours, nn.Conv3d):
            assert isinstance(theirs, nn.Conv2d)
            size = ours.kernel_size[0]
            state["weight"] = nn.functional.pad(theirs.weight[:, :, None], [0, 0] * 2 + [size // 2, size // 2])
        ours.load_state_dict(state)
    frame = torch.randn(2, 3, 63, 63)
    with torch.no_grad():
        logits = model(ClipBatch(frame[:, None].expand(-1, 5, -1, -1, -1))).logits
        torch.testing.assert_close(logits, image_network(frame), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "front", "back"),
    [(8, 7, 2, 2, 3), (7, 7, 2, 3, 3), (8, 3, 2, 0, 1), (7, 3, 2, 1, 1), (7, 2, 2, 0, 1), (8, 2, 2, 0, 0)],
)
def test_padding_is_tensorflows(size: int, kernel: int, stride: int, front: int, back: int) -> None:
    """(ceil(size / stride) - 1) * stride + kernel - size zeros, the odd one at the end (TensorFlow, "SAME")."""
    ones = torch.ones(1, 1, size, 4, 4)
    padded = SamePad((kernel, 1, 1), (stride, 1, 1))(ones)[0, 0, :, 0, 0]
    assert padded.tolist() == [0] * front + [1] * size + [0] * back


def test_time_is_halved_three_times_and_the_first_two_poolings_leave_it() -> None:
    with torch.device("meta"):
        shapes = {}
        x = torch.empty(1, 3, 64, 224, 224)
        for name, layer in I3D().features.named_children():
            x = layer(x)
            shapes[name] = tuple(x.shape[1:])
    assert shapes["Conv3d_1a_7x7"] == (64, 32, 112, 112)
    assert shapes["MaxPool3d_3a_3x3"] == (192, 32, 28, 28)
    assert shapes["Mixed_4f"] == (832, 16, 14, 14)
    assert shapes["Mixed_5c"] == (1024, 8, 7, 7)


def test_logits_are_averaged_over_windows_of_two_temporal_indices() -> None:
    """A linear layer in each window, then the mean: as DeepMind's code has it, and not a mean over all cells."""
    model = tiny()
    frames = torch.randn(1, 24, 3, 40, 40)
    maps = model.features(frames.transpose(1, 2))
    assert maps.shape[2:] == (3, 2, 2)
    windows = [maps[:, :, :2].mean(dim=(2, 3, 4)), maps[:, :, 1:].mean(dim=(2, 3, 4))]
    expected = torch.stack([model.classifier(window) for window in windows]).mean(dim=0)
    torch.testing.assert_close(model(ClipBatch(frames)).logits, expected)


def test_weights_of_the_pytorch_port_load(tmp_path: Any) -> None:
    torch.save(port(classes=400), tmp_path / "rgb_imagenet.pt")
    model = tiny(classes=7, channels=6)
    assert load_pretrained(model, tmp_path / "rgb_imagenet.pt").left == ["classifier.bias", "classifier.weight"]
    frames = torch.randn(1, 4, 6, 40, 40)
    expected = tiny(classes=400)(ClipBatch(frames[:, :, :3])).features
    torch.testing.assert_close(model(ClipBatch(frames)).features, expected)


def test_a_head_for_as_many_classes_is_loaded() -> None:
    torch.testing.assert_close(tiny().adapted(port(classes=7))["classifier.weight"], tiny().classifier.weight.detach())
    with pytest.raises(ValueError, match="not the weights of the PyTorch port of I3D"):
        tiny().adapted({"fc.weight": torch.zeros(1)})


def test_widths_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 8, not 12"):
        I3D(width=12)
