"""DPCNet (Wang et al. 2022), reconstructed: two ResNet-50 paths that read four key frames and have to agree."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ray_fer.models.backbones.convolution import Conv3d
from ray_fer.models.backbones.frame_cnn import imagenet_weights
from ray_fer.models.backbones.frame_resnet import Bottleneck, FrameResNet, initialise, stage
from ray_fer.models.batch import ClipBatch, ModelOutput
from ray_fer.models.card import Card, Input, Model, Published


class Dpcnet(Model):
    """DPCNet: spatial-frame and channel-temporal paths over four key frames (Wang et al., ACM MM 2022).

    Its code is not public and only its abstract could be read here: a tuple of four view-grouped key frames; a
    spatial-frame excitation module and a channel-temporal aggregation module, one after the other, give dual-path
    representations; a multi-frame regularisation loss makes the representations of the frames "in the dual view"
    semantically coherent; a dual-path loss minimises the divergence of the two paths' distributions. The survey of Wang
    et al. (arXiv 2408.15777) adds "GWS" (group-weighted sampling), ResNet-50 and 9.52 G multiply-adds, SVFAP's Table 8
    51 M parameters. It is inferred from those figures, not read, that the paths are two ResNet-50s (47.0 M) over four
    frames of 112 px (8.6 G). Everything else is **ours**, and sized so that it makes up the rest:

    * `key_frames` takes one frame out of each of four groups of neighbours.
    * Each path is a ResNet-50. After the third stages (1024 x 7 x 7) `SpatialFrameExcitation` weighs positions and
      frames of the first path; `ChannelTemporalAggregation` reads the sum of those excited maps and the second path's
      own. Each path goes on through a fourth stage of its own to global average pooling, and to the mean over the
      frames. One linear classifier for each path; the answer is the mean of their logits.
    * `coherence` is the multi-frame loss, `divergence` the dual-path loss.

    Parameters
    ----------
    classes, channels: of the answer, and of the frames.
    groups: G, of neighbouring frames, one key frame from each. ValueError for clips whose frames they do not divide.
    blocks: of each ResNet's four stages, bottlenecks.
    width: of the ResNets' stems.
    coherence_weight, divergence_weight: of the losses "multi_frame" and "dual_path" (no published values).
    dropout: on the features.
    """

    card = Card(
        title="DPCNet",
        paper="Wang et al., DPCNet: Dual Path Multi-Excitation Collaborative Network for Facial Expression "
        "Representation Learning in Videos, ACM MM 2022",
        status="reconstructed",
        input=Input(16, 112),
        tiny={"width": 4, "blocks": (1, 1, 1, 1)},
        tiny_input=Input(4, 32),
        published=(
            Published(
                "DPCNet, four frames", "SVFAP (Sun et al. 2024), Table 8: 51 M; survey of Wang et al. "
                "(arXiv 2408.15777): 9.52 G", Input(16, 112), parameters=51, gmacs=9.52,
                reason="two ResNet-50s have 8.6 G over four frames of 112 px; the modules between their stages, "
                "whose sizes in the paper could not be read, are ours",
            ),
        ),
        weights=("torchvision ResNet50_Weights.IMAGENET1K_V1 or V2, for both paths: the torchvision model zoo",),
    )  # fmt: skip

    def __init__(
        self,
        classes: int = 7,
        channels: int = 3,
        groups: int = 4,
        blocks: tuple[int, int, int, int] = (3, 4, 6, 3),
        width: int = 64,
        coherence_weight: float = 0.1,
        divergence_weight: float = 0.1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.groups = groups
        self.coherence_weight, self.divergence_weight = coherence_weight, divergence_weight
        self.spatial_path = Path(channels, blocks, width)
        self.temporal_path = Path(channels, blocks, width)
        self.excitation = SpatialFrameExcitation(self.spatial_path.inner)
        self.aggregation = ChannelTemporalAggregation(self.spatial_path.inner)
        self.dropout = nn.Dropout(dropout)
        self.spatial_head = nn.Linear(self.spatial_path.dim, classes)
        self.temporal_head = nn.Linear(self.temporal_path.dim, classes)

    def forward(self, batch: ClipBatch) -> ModelOutput:
        """Features are both paths' vectors, side by side. See the class."""
        if batch.frames.shape[1] % self.groups:
            raise ValueError(
                f"{batch.frames.shape[1]} frames do not divide into {self.groups} groups; build DPCNet with groups= "
                "that divides them, or change the transform's frames"
            )
        frames = key_frames(batch.frames, self.groups, draw=self.training)
        excited = self.excitation(self.spatial_path.maps(frames))
        aggregated = self.aggregation(self.temporal_path.maps(frames) + excited)
        vectors = torch.stack([self.spatial_path.vectors(excited), self.temporal_path.vectors(aggregated)], dim=1)
        spatial, temporal = self.dropout(vectors.mean(dim=2)).unbind(dim=1)  # [B,D] each
        answers = self.spatial_head(spatial), self.temporal_head(temporal)
        losses = {}
        if self.training:
            losses["multi_frame"] = self.coherence_weight * coherence(vectors.flatten(1, 2))
            losses["dual_path"] = self.divergence_weight * divergence(*answers)
        return ModelOutput((answers[0] + answers[1]) / 2, torch.cat([spatial, temporal], dim=1), losses)

    def adapted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """torchvision's ResNet-50 without its classifier, into both paths."""
        if "layer1.0.conv3.weight" not in state:
            raise ValueError("these are not weights of a torchvision ResNet-50")
        known = {f"cnn.{name}": tensor for name, tensor in imagenet_weights(self.spatial_path.cnn, state).items()}
        known |= {name: tensor for name, tensor in state.items() if name.startswith("layer4.")}
        return {
            f"{path}.{name}": tensor for path in ("spatial_path", "temporal_path") for name, tensor in known.items()
        }


class Path(nn.Module):
    """A ResNet of bottlenecks in two halves, between which an excitation has its place."""

    def __init__(self, channels: int, blocks: tuple[int, int, int, int], width: int) -> None:
        super().__init__()
        self.cnn = FrameResNet(blocks[:3], Bottleneck, channels, width)
        self.inner = self.cnn.dim
        self.layer4 = stage(self.inner, 8 * width, blocks[3], stride=2, block=Bottleneck)
        self.dim = 2 * self.inner
        initialise(self.layer4)

    def maps(self, frames: Tensor) -> Tensor:
        """[B,G,C,H,W] -> [B,inner,G,h,w]."""
        return self.cnn(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).transpose(1, 2)

    def vectors(self, maps: Tensor) -> Tensor:
        """[B,inner,G,h,w] -> [B,G,dim]."""
        frames = maps.transpose(1, 2)
        return self.layer4(frames.flatten(0, 1)).mean(dim=(2, 3)).unflatten(0, frames.shape[:2])


class SpatialFrameExcitation(nn.Module):
    """x * (1 + gate): one number in 0..1 for each position of each frame, from its neighbours in both. [B,C,G,h,w]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = Conv3d(channels, channels // 2, 1, bias=False)
        self.norm = nn.BatchNorm3d(channels // 2)
        self.gate = Conv3d(channels // 2, 1, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        return maps * (1 + self.gate(self.norm(self.squeeze(maps)).relu()).sigmoid())


class ChannelTemporalAggregation(nn.Module):
    """x + relu(BN(conv over frames of x * gate)), the gate one number for each channel of a frame. [B,C,G,h,w]."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // reduction)
        self.expand = nn.Linear(channels // reduction, channels)
        self.aggregate = Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0), bias=False)
        self.norm = nn.BatchNorm3d(channels)

    def forward(self, maps: Tensor) -> Tensor:
        gate = self.expand(self.squeeze(maps.mean(dim=(3, 4)).transpose(1, 2)).relu()).sigmoid()  # [B,G,C]
        return maps + self.norm(self.aggregate(maps * gate.transpose(1, 2)[..., None, None])).relu()


def key_frames(frames: Tensor, groups: int, draw: bool) -> Tensor:
    """One frame of each group of neighbours: [B,T,C,H,W] -> [B,G,C,H,W].

    A frame weighs as much as it differs from the clip's mean frame (mean absolute difference), because an expression
    departs from what the face does most of the time. With `draw` the frame is drawn by these weights, otherwise the
    heaviest is taken.
    """
    weights = (frames - frames.mean(dim=1, keepdim=True)).float().abs().mean(dim=(2, 3, 4)).unflatten(1, (groups, -1))
    if draw:  # a clip that stands still has weights of 0, which cannot be drawn by
        chosen = torch.multinomial(weights.flatten(0, 1) + 1e-6, 1).unflatten(0, weights.shape[:2])
    else:
        chosen = weights.argmax(dim=2, keepdim=True)
    grouped = frames.unflatten(1, (groups, -1))
    return torch.take_along_dim(grouped, chosen[..., None, None, None], dim=2)[:, :, 0]


def coherence(vectors: Tensor) -> Tensor:
    """Mean of 1 - cosine between each of a clip's vectors [B,N,D] and their mean: 0 where all point the same way."""
    return 1 - functional.cosine_similarity(vectors, vectors.mean(dim=1, keepdim=True), dim=2).mean()


def divergence(first: Tensor, second: Tensor) -> Tensor:
    """Symmetric Kullback-Leibler divergence of the softmax of two sets of logits [B,C], mean over clips."""
    one, other = first.log_softmax(dim=1), second.log_softmax(dim=1)
    return ((one.exp() - other.exp()) * (one - other)).sum(dim=1).mean() / 2
