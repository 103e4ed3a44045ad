"""C3D against published figures and, on a clip in which nothing moves, torchvision's VGG-11 of the same widths."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import vgg11

from ray_fer.models.batch import ClipBatch
from ray_fer.models.c3d import C3D
from ray_fer.models.describe import size_of
from ray_fer.models.pretrained import load_pretrained
from ray_fer.models.transform import TransformConfig, normalise


def tiny(**config: Any) -> C3D:
    torch.manual_seed(0)
    return C3D(**(dict(C3D.card.tiny) | config)).eval()


def port(classes: int = 487, width: int = 4, hidden: int = 32, cells: int = 1) -> dict[str, torch.Tensor]:
    """Random weights under the names of the released c3d.pickle."""
    torch.manual_seed(1)
    sizes = {"conv1": 1, "conv2": 2, "conv3a": 4, "conv3b": 4, "conv4a": 8, "conv4b": 8, "conv5a": 8, "conv5b": 8}
    layers: dict[str, nn.Module] = {}
    inputs = 3
    for name, factor in sizes.items():
        layers[name] = nn.Conv3d(inputs, factor * width, 3, padding=1)
        inputs = factor * width
    layers["fc6"] = nn.Linear(inputs * cells, hidden)
    layers["fc7"] = nn.Linear(hidden, hidden)
    layers["fc8"] = nn.Linear(hidden, classes)
    return nn.ModuleDict(layers).state_dict()


@pytest.mark.parametrize("published", C3D.card.published, ids=lambda one: one.what)
def test_published_figures(published: Any) -> None:
    with torch.device("meta"):
        size = size_of(C3D(**published.config), published.input)
    assert size.parameters / 1e6 == pytest.approx(published.parameters, rel=0.001)
    if published.gmacs:
        assert size.macs / 1e9 == pytest.approx(published.gmacs, rel=0.002)


def test_eight_convolutions_five_poolings_and_two_hidden_layers() -> None:
    with torch.device("meta"):
        model = C3D()
    assert sum(isinstance(module, nn.Conv3d) for module in model.modules()) == 8
    assert sum(isinstance(module, nn.MaxPool3d) for module in model.modules()) == 5
    assert [module.in_features for module in model.modules() if isinstance(module, nn.Linear)] == [8192, 4096, 4096]
    assert [module.p for module in model.modules() if isinstance(module, nn.Dropout)] == [0.5, 0.5]


def test_a_still_clip_gives_what_a_2d_network_makes_of_the_frame() -> None:
    """With 2D kernels at the centre of its own, C3D is VGG-11 (configuration A), its pooling included."""
    torch.manual_seed(0)
    image_network = vgg11(weights=None, init_weights=False).features.eval()
    model = C3D(frames=4, size=32, hidden=8).eval()
    convolutions = [module for module in model.features if isinstance(module, nn.Conv3d)]
    flat = [module for module in image_network if isinstance(module, nn.Conv2d)]
    with torch.no_grad():
        for ours, theirs in zip(convolutions, flat, strict=True):
            ours.weight.zero_()
            ours.weight[:, :, 1] = theirs.weight
            ours.bias.copy_(theirs.bias)
        frame = torch.randn(1, 3, 32, 32)
        still = frame[:, :, None].expand(-1, -1, 4, -1, -1)
        torch.testing.assert_close(model.features(still)[:, :, 0], image_network(frame), atol=1e-5, rtol=1e-4)


def test_the_first_pooling_keeps_every_frame_and_the_last_rounds_up() -> None:
    with torch.device("meta"):
        model = C3D()
        first = model.features[:3](torch.empty(1, 3, 16, 112, 112))
        last = model.features(torch.empty(1, 3, 16, 112, 112))
    assert first.shape == (1, 64, 16, 56, 56)
    assert last.shape == (1, 512, 1, 4, 4)
    pooled = tiny().features.pool5(torch.arange(49.0).view(1, 1, 1, 7, 7))
    assert pooled[0, 0, 0, 0].tolist() == [8, 10, 12, 13]  # columns 0-1, 2-3, 4-5 and 6 of rows 0-1


def test_sports_1m_weights_load_and_read_our_standardised_frames(tmp_path: Any) -> None:
    """Their first convolution is made for pixels of 0 to 255 less a mean, which is what it still sees."""
    state = port()
    torch.save(state, tmp_path / "c3d.pickle")
    model = tiny(channels=6)
    assert load_pretrained(model, tmp_path / "c3d.pickle").left == ["classifier.bias", "classifier.weight"]
    pixels = torch.randint(0, 256, (1, 8, 3, 32, 32), dtype=torch.uint8)
    frames = normalise(pixels, TransformConfig(frames=8, canvas=32, size=32, difference=True))
    mean = 255 * torch.tensor(TransformConfig().mean).view(3, 1, 1)
    centred = (pixels - mean).transpose(1, 2)
    expected = nn.functional.conv3d(centred, state["conv1.weight"], state["conv1.bias"], padding=1)
    torch.testing.assert_close(model.features[0](frames.transpose(1, 2)), expected, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(model.hidden.fc7.weight, state["fc7.weight"])


def test_a_head_for_as_many_classes_is_loaded() -> None:
    adapted = tiny(classes=487).adapted(port())
    assert adapted["classifier.weight"].shape == (487, 32)
    with pytest.raises(ValueError, match="not the weights of a PyTorch port of C3D"):
        tiny().adapted({"features.0.weight": torch.zeros(1)})


def test_batch_normalisation_is_an_option() -> None:
    plain, normalised = tiny(), tiny(batch_norm=True)
    assert not any(isinstance(module, nn.BatchNorm3d) for module in plain.modules())
    assert sum(isinstance(module, nn.BatchNorm3d) for module in normalised.modules()) == 8
    assert normalised(ClipBatch(torch.randn(2, 8, 3, 32, 32))).logits.shape == (2, 7)


@pytest.mark.parametrize("shape", [(1, 16, 3, 32, 32), (1, 8, 3, 32, 40), (1, 8, 6, 32, 32)])
def test_other_clips_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"built for clips of 8 x 3 x 32 x 32 .*set the model's `frames`"):
        tiny()(ClipBatch(torch.zeros(shape)))
