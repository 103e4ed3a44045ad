"""ResNet50V2 of Keras with the classifiers of the multi-dataset (EiLA) study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from torch import Tensor, nn

from ray_fer.models.backbones.convolution import widened
from ray_fer.models.backbones.resnet50v2 import ResNet50V2, initialise
from ray_fer.models.batch import ClipBatch, ModelOutput
from ray_fer.models.card import Card, Input, Model, Published
from ray_fer.models.keras_weights import fitted

Head = Literal["paper", "released"]
_UNITS = (512, 256, 128, 64)
_FIRST = "conv1_conv/kernel"
_TOP = ("predictions", "probs")
"""The 1000-class layer; "probs" is its older name."""


class ResNet50V2Classifier(Model):
    """Keras' ResNet50V2 on each frame, and a classifier (Chen, TScIT 41, University of Twente, 2024).

    Frames are standardised to -1..1 (mean 0.5, deviation 0.5 of 0..1), which is `preprocess_input` of Keras' V2 models.
    The paper classifies still images, T = 1. Of a clip of T frames the vectors of the frames are averaged: its features
    are their mean, and its logits are linear in it and so the mean of the frames' logits.

    Parameters
    ----------
    classes, channels: number of expression classes; of the frames' channels.
    width, blocks, momentum: of the `ResNet50V2`. Moving statistics of momentum 0.99 are those of some hundred batches
        ago; training from nothing for fewer batches than that needs a smaller one, as the tiny preset has.
    head: "paper", global average pooling, dropout and a linear layer; or "released", which the study's notebooks train:
        BatchNorm of the maps, global average pooling, 512, 256, 128 and 64 units, each with ReLU and dropout, and a
        linear layer.
    dropout: share of the values that are dropped.
    trainable_layers: of the base, counted as Keras counts layers, from the end. None trains all of them; 0 freezes the
        base, the study's first phase; 10 trains `model.layers[-10:]`, its second. See `freeze`.

    Raises ValueError for an unknown head, and where the backbone or `freeze` does.
    """

    card = Card(
        title="ResNet50V2",
        paper="Chen, Investigating Cross-cultural Generalizability of Facial Emotion Recognition with Multi-dataset "
        "Training, TScIT 41, 2024",
        status="faithful",
        input=Input(1, 224),
        tiny={"width": 8, "blocks": (2, 2, 2, 2), "momentum": 0.9},
        tiny_input=Input(1, 32),
        published=(
            Published(
                "ResNet50V2, ImageNet, and its moving statistics", "keras.applications", Input(1, 224),
                parameters=25.6138, config={"classes": 1000},
            ),
        ),
        weights=(
            "keras.applications resnet50v2_weights_tf_dim_ordering_tf_kernels.h5 and _notop.h5 (ImageNet): the base",
        ),
    )  # fmt: skip

    def __init__(
        self,
        classes: int = 7,
        channels: int = 3,
        width: int = 64,
        blocks: Sequence[int] = (3, 4, 6, 3),
        head: Head = "paper",
        dropout: float = 0.1,
        trainable_layers: int | None = None,
        momentum: float = 0.99,
    ) -> None:
        super().__init__()
        self.backbone = ResNet50V2(width, blocks, channels, momentum)
        self.neck, dim = _neck(head, self.backbone.dim, dropout, momentum)
        self.head = nn.Linear(dim, classes)
        initialise(self.neck)
        initialise(self.head)
        self._frozen: list[str] = []
        self.freeze(trainable_layers)

    def forward(self, batch: ClipBatch) -> ModelOutput:
        vectors = self.neck(self.backbone(batch.frames.flatten(0, 1)))
        features = vectors.unflatten(0, batch.frames.shape[:2]).mean(dim=1)
        return ModelOutput(logits=self.head(features), features=features)

    def freeze(self, trainable_layers: int | None) -> None:
        """Train the last `trainable_layers` of the base's layers from now on, all for None, and none of the others.

        As in Keras, a frozen BatchNorm normalises with its moving statistics in training, too, and does not move them.
        An optimiser that exists already knows nothing of it. Raises ValueError for more layers than the base has.
        """
        every = self.backbone.weighted()
        trained = every if trainable_layers is None else self.backbone.last_layers(trainable_layers)
        self._frozen = [name for name in every if name not in trained]
        for name in every:
            self.backbone.get_submodule(name).requires_grad_(name in trained)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As every module's, but what is frozen stays in inference mode."""
        super().train(mode)
        for name in self._frozen:
            self.backbone.get_submodule(name).eval()
        return self

    def adapted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Keras' ImageNet weights of the base, as `read_keras` gives them; those of its 1000 classes are left out."""
        arrays = {name: array for name, array in state.items() if name.split("/")[0] not in _TOP}
        kernel = arrays.get(_FIRST)
        if kernel is not None and kernel.ndim == 4 and kernel.shape[2] < self.backbone.channels:
            arrays[_FIRST] = widened(kernel.permute(3, 2, 0, 1), self.backbone.channels).permute(2, 3, 1, 0)
        return {f"backbone.{name}": tensor for name, tensor in fitted(self.backbone, arrays).items()}


def _neck(head: Head, dim: int, dropout: float, momentum: float) -> tuple[nn.Sequential, int]:
    """Maps [N,dim,H,W] -> vectors [N,D], and D."""
    pooling = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if head == "paper":
        return nn.Sequential(*pooling, nn.Dropout(dropout)), dim
    if head != "released":
        raise ValueError(f"unknown head {head!r}; there are 'paper' and 'released'")
    # Keras' own default of epsilon, which its ResNets do not use.
    layers: list[nn.Module] = [nn.BatchNorm2d(dim, eps=1e-3, momentum=1 - momentum), *pooling]
    for units in _UNITS:
        layers += [nn.Linear(dim, units), nn.ReLU(), nn.Dropout(dropout)]
        dim = units
    return nn.Sequential(*layers), dim
