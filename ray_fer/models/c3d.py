"""C3D: the plain 3D convolutional network of DFER's comparison tables."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from ray_fer.models.backbones.convolution import Conv3d, widened
from ray_fer.models.batch import ClipBatch, ModelOutput
from ray_fer.models.card import Card, Input, Model, Published
from ray_fer.models.transform import IMAGENET_STD

_CONVOLUTIONS = {
    "conv1": 1, "conv2": 2, "conv3a": 4, "conv3b": 4, "conv4a": 8, "conv4b": 8, "conv5a": 8, "conv5b": 8,
}  # fmt: skip
"""Names, as in the released weights, and channels in units of `width`."""
_LAST_OF_GROUP = ("conv1", "conv2", "conv3b", "conv4b", "conv5b")


class C3D(Model):
    """C3D: eight 3x3x3 convolutions, five poolings, two hidden layers (Tran et al., ICCV 2015).

    Parameters
    ----------
    classes: number of expression classes.
    channels: of the frames.
    frames, size: of the clips, which the first hidden layer is made for.
    width: channels of the first convolution; those of the others are in proportion.
    hidden: width of the two hidden layers.
    dropout: after each hidden layer.
    batch_norm: normalise after each convolution. Not in the paper; the C3D in the code released with DFEW does, and is
        trained from nothing.

    Raises ValueError for clips of another length or size. Poolings round up, as the authors' Caffe does: 7x7 cells
    become 4x4, the last row and column alone; PyTorch ports pad both sides instead. Weights start as He normal: the
    Gaussians of the authors' files suit pixels of 0 to 255.
    """

    card = Card(
        title="C3D",
        paper="Tran et al., Learning Spatiotemporal Features with 3D Convolutional Networks, ICCV 2015",
        status="faithful",
        input=Input(16, 112),
        tiny={"frames": 8, "size": 32, "width": 4, "hidden": 32, "dropout": 0.0},
        tiny_input=Input(8, 32),
        published=(
            Published(
                "C3D, UCF101", "MMAction2, configs/recognition/c3d/metafile.yml", Input(16, 112),
                parameters=78.409573, gmacs=38.6154752, config={"classes": 101},
            ),
            Published("C3D, FERV39k", "FERV39k, README of its repository", Input(16, 112), parameters=78),
        ),
        weights=("c3d.pickle of the PyTorch port DavideA/c3d-pytorch: Sports-1M, converted from the authors' Caffe",),
    )  # fmt: skip

    def __init__(
        self,
        classes: int = 7,
        channels: int = 3,
        frames: int = 16,
        size: int = 112,
        width: int = 64,
        hidden: int = 4096,
        dropout: float = 0.5,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.channels, self.frames, self.size = channels, frames, size
        self.features = nn.Sequential(_convolutions(channels, width, batch_norm))
        # Four poolings halve time and five halve space, each rounded up.
        cells = -(-frames // 16) * (-(-size // 32)) ** 2
        layers: list[tuple[str, nn.Module]] = [
            ("fc6", nn.Linear(8 * width * cells, hidden)), ("relu6", nn.ReLU()), ("drop6", nn.Dropout(dropout)),
            ("fc7", nn.Linear(hidden, hidden)), ("relu7", nn.ReLU()), ("drop7", nn.Dropout(dropout)),
        ]  # fmt: skip
        self.hidden = nn.Sequential(OrderedDict(layers))
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
        self.classifier = nn.Linear(hidden, classes)  # fc8

    def forward(self, batch: ClipBatch) -> ModelOutput:
        """`features` are those of the second hidden layer, fc7."""
        expected = (self.frames, self.channels, self.size, self.size)
        if batch.frames.shape[1:] != expected:
            raise ValueError(
                f"C3D was built for clips of {' x '.join(map(str, expected))} (frames, channels, height, width), these "
                f"are {' x '.join(map(str, batch.frames.shape[1:]))}; set the model's `frames`, `channels` and `size`"
            )
        cells = self.features(batch.frames.transpose(1, 2))
        features = self.hidden(cells.flatten(1))
        return ModelOutput(logits=self.classifier(features), features=features)

    def adapted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """See `Model`; the head only where it is for as many classes.

        The public network reads pixels of 0 to 255 less their mean. Its first convolution is scaled to read what
        `transform.normalise` makes with ImageNet's deviation. Which order of colours it learned the port does not say.
        """
        if "conv1.weight" not in state or "fc8.weight" not in state:
            raise ValueError("these are not the weights of a PyTorch port of C3D with its layers conv1 to fc8")
        scale = 255 * torch.tensor(IMAGENET_STD, dtype=state["conv1.weight"].dtype).view(1, 3, 1, 1, 1)
        state = {**state, "conv1.weight": widened(state["conv1.weight"] * scale, self.channels)}
        part = {"conv": "features.", "fc6": "hidden.", "fc7": "hidden."}
        ours = {part[kind] + name: tensor for name, tensor in state.items() for kind in part if name.startswith(kind)}
        if len(state["fc8.weight"]) == self.classifier.out_features:
            ours |= {f"classifier.{name}": state[f"fc8.{name}"] for name in ("weight", "bias")}
        return ours


def _convolutions(channels: int, width: int, batch_norm: bool) -> OrderedDict[str, nn.Module]:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    inputs = channels
    for name, factor in _CONVOLUTIONS.items():
        place = name.removeprefix("conv")
        layers[name] = Conv3d(inputs, factor * width, 3, padding=1)
        if batch_norm:
            layers[f"bn{place}"] = nn.BatchNorm3d(factor * width)
        layers[f"relu{place}"] = nn.ReLU()
        if name in _LAST_OF_GROUP:
            # The first pooling leaves time alone, so that what the frames show is not merged too early.
            layers[f"pool{place[0]}"] = nn.MaxPool3d((1, 2, 2) if name == "conv1" else 2, ceil_mode=True)
        inputs = factor * width
    return layers
