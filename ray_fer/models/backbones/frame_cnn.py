"""ResNet-18 and VGG-13 as a vector for each frame, at any width, with torchvision's names of weights."""

from __future__ import annotations

from torch import Tensor, nn

from ray_fer.models.backbones.convolution import widened
from ray_fer.models.backbones.frame_resnet import FrameResNet, initialise


class ResNet18(FrameResNet):
    """ResNet-18 (He et al. 2016) up to its pooled features: images [N,C,H,W] -> [N,dim], dim = 8 x `width`."""

    def __init__(self, channels: int = 3, width: int = 64) -> None:
        super().__init__((2, 2, 2, 2), channels=channels, width=width)

    def forward(self, frames: Tensor) -> Tensor:
        return super().forward(frames).mean(dim=(2, 3))


class Vgg13(nn.Module):
    """VGG-13 (Simonyan and Zisserman 2015) up to its second layer of `hidden` units: images [N,C,H,W] -> [N,dim].

    `batch_norm` puts a normalisation after each convolution (torchvision's vgg13_bn). Maps of another size than 7 x 7
    are pooled or repeated to it, as in torchvision.
    """

    def __init__(
        self, channels: int = 3, width: int = 64, hidden: int = 4096, dropout: float = 0.5, batch_norm: bool = True
    ) -> None:
        super().__init__()
        self.dim = hidden
        layers: list[nn.Module] = []
        inputs = channels
        for outputs in (width, 2 * width, 4 * width, 8 * width, 8 * width):
            for _ in range(2):
                layers.append(nn.Conv2d(inputs, outputs, 3, padding=1))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(outputs))
                layers.append(nn.ReLU(inplace=True))
                inputs = outputs
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(inputs * 7 * 7, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout),
        )  # fmt: skip
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(images)).flatten(1))


def imagenet_weights(network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's weights of the same network, without its last layer; channels beyond three start at 0.

    Raises KeyError for weights of another network.
    """
    ours = network.state_dict()
    # torchvision's files are older than BatchNorm's counter, which nothing reads here.
    known = {name: state[name] for name in ours if not name.endswith("num_batches_tracked")}
    first = next(iter(ours))
    known[first] = widened(known[first], ours[first].shape[1])
    return known
