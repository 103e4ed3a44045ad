"""Former-DFER (Zhao and Liu 2021): a ResNet-18 with a transformer between its stages, then one over the frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ray_fer.models.backbones.convolution import widened
from ray_fer.models.backbones.frame_resnet import FrameResNet, check_clip, initialise, side_after, stage
from ray_fer.models.backbones.lean_transformer import Layer
from ray_fer.models.batch import ClipBatch, ModelOutput
from ray_fer.models.card import Card, Input, Model, Published

_HALVINGS = 4
"""Strides of 2 up to the map that becomes tokens: stem, pooling, and two stages."""
_RELEASED = (
    ("layers.", ""),
    ("0.fn.norm.", "norm1."),
    ("0.fn.fn.to_qkv.", "qkv."),
    ("0.fn.fn.to_out.0.", "proj."),
    ("1.fn.norm.", "norm2."),
    ("1.fn.fn.net.", "mlp."),
)
"""The released code's names inside a transformer, and ours."""


class FormerDfer(Model):
    """Former-DFER: ResNet-18 and spatial transformer, then a temporal transformer (Zhao and Liu, ACM MM 2021).

    Convolutional spatial transformer: the map after the third stage of a ResNet-18 (256 x 7 x 7) is read as 49 tokens
    with learned positions by one transformer layer (8 heads x 32, MLP 512), becomes a map again, and goes through the
    fourth stage and global average pooling. Temporal transformer: class token and the frames' 512-d vectors with
    learned positions, 3 layers (8 heads x 64, MLP 1024); one linear layer reads the class token. There is no
    LayerNorm after the last layer of either.

    Parameters
    ----------
    classes, channels: of the answer, and of the frames.
    frames, size: of the clips; positions are learned for them, so that others are refused (ValueError).
    width: of the ResNet's stem; tokens have 4 and 8 times as many channels, their MLPs twice that again.
    spatial_depth, temporal_depth, heads: of the transformers.
    dropout: in the transformers; 0 in the released code.

    As the released code (github.com/zengqunzhao/Former-DFER), with one difference that changes no number: `adapted`
    leaves the released classifier out, because its classes are in DFEW's order (happy, sad, neutral, angry, surprise,
    disgust, fear), which no class list of this project has.
    """

    card = Card(
        title="Former-DFER",
        paper="Zhao and Liu, Former-DFER: Dynamic Facial Expression Recognition Transformer, ACM MM 2021",
        status="faithful",
        input=Input(16, 112),
        tiny={"frames": 4, "size": 32, "width": 8, "temporal_depth": 1, "heads": 2},
        tiny_input=Input(4, 32),
        published=(
            Published(
                "Former-DFER, 16 frames of 112 px", "SVFAP (Sun et al. 2024), Table 8: 18 M; survey of Wang et al. "
                "(arXiv 2408.15777): 9.1 G", Input(16, 112), parameters=18, gmacs=9.1,
                reason="8.3 G of the released code are 7.76 of the ResNet-18, 0.43 and 0.11 of the transformers; "
                "spatial_depth=3 would give 9.16 G, but 19.1 M parameters",
            ),
        ),
        weights=(
            "Former-DFER on DFEW, one file per fold: Google Drive folder linked from the README of "
            "zengqunzhao/Former-DFER. Its training script saves a Python object beside the weights, which a safe "
            "reader refuses: save `state_dict` alone, as safetensors, where you trust the file",
        ),
    )  # fmt: skip

    def __init__(
        self,
        classes: int = 7,
        channels: int = 3,
        frames: int = 16,
        size: int = 112,
        width: int = 64,
        spatial_depth: int = 1,
        temporal_depth: int = 3,
        heads: int = 8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if 4 * width % heads:
            raise ValueError(f"{heads} heads do not divide the {4 * width} channels of the spatial tokens")
        self.frames, self.size = frames, size
        self.cnn = FrameResNet((2, 2, 2), channels=channels, width=width)
        inner, dim = 4 * width, 8 * width
        self.spatial_position = nn.Parameter(torch.randn(1, side_after(size, _HALVINGS) ** 2, inner))
        self.spatial = nn.Sequential(
            *(Layer(inner, heads, inner // heads, 2 * inner, dropout) for _ in range(spatial_depth))
        )
        self.layer4 = stage(inner, dim, 2, stride=2)
        initialise(self.layer4)
        self.cls = nn.Parameter(torch.randn(1, 1, dim))
        self.temporal_position = nn.Parameter(torch.randn(1, frames + 1, dim))
        self.temporal = nn.Sequential(
            *(Layer(dim, heads, dim // heads, 2 * dim, dropout) for _ in range(temporal_depth))
        )
        self.head = nn.Linear(dim, classes)

    def forward(self, batch: ClipBatch) -> ModelOutput:
        """See the class."""
        check_clip(self.card.title, batch.frames, self.frames, self.size)
        maps = self.cnn(batch.frames.flatten(0, 1))  # [B*T,4W,h,w]
        tokens = self.spatial(maps.flatten(2).transpose(1, 2) + self.spatial_position)
        maps = tokens.transpose(1, 2).unflatten(2, maps.shape[2:])
        vectors = self.layer4(maps).mean(dim=(2, 3)).unflatten(0, (len(batch), self.frames))  # [B,T,8W]
        vectors = torch.cat([self.cls.expand(len(batch), -1, -1), vectors], dim=1) + self.temporal_position
        features = self.temporal(vectors)[:, 0]
        return ModelOutput(self.head(features), features)

    def adapted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The released checkpoints, without their classifier."""
        renamed = {name: tensor for name, tensor in _renamed(state).items() if not name.startswith("head.")}
        if not any(name.startswith("temporal.") for name in renamed):
            raise ValueError("these are not weights of the released Former-DFER: no s_former and t_former in them")
        first = "cnn.conv1.weight"
        return renamed | {first: widened(renamed[first], self.cnn.conv1.in_channels)}


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in state.items():
        former, _, rest = name.partition(".")
        kind = {"s_former": "spatial", "t_former": "temporal", "fc": "head"}.get(former)
        if kind is None:
            raise ValueError(f"{name} is not a name of the released Former-DFER")
        if rest == "pos_embedding":
            rest, kind = f"{kind}_position", ""
        elif rest == "cls_token":
            rest, kind = "cls", ""
        elif rest.startswith("spatial_transformer."):  # so called in both
            rest = rest.removeprefix("spatial_transformer.")
            for theirs, ours in _RELEASED:
                rest = rest.replace(theirs, ours)
        elif former == "s_former":
            kind = "" if rest.startswith("layer4.") else "cnn"
        renamed[f"{kind}.{rest}" if kind else rest] = tensor
    return renamed
