"""NR-DFERNet (Li et al. 2022), reconstructed: differences between frames steer what is seen and what counts."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from ray_fer.labels import EXPRESSIONS
from ray_fer.models.backbones.frame_cnn import imagenet_weights
from ray_fer.models.backbones.frame_resnet import FrameResNet, check_clip, initialise, side_after, stage
from ray_fer.models.backbones.lean_transformer import Layer
from ray_fer.models.batch import ClipBatch, ModelOutput
from ray_fer.models.card import Card, Input, Model, Published

_HALVINGS = 4


class NrDfernet(Model):
    """NR-DFERNet: dynamic-static fusion, dynamic class token, snippet-based filter (Li et al., arXiv 2206.04975).

    Its code is not public and only its abstract could be read here, which names three parts: a dynamic-static fusion
    module at the spatial stage "introduces dynamic features to static features"; a dynamic class token for the
    transformer at the temporal stage suppresses "target irrelevant frames"; a snippet-based filter at the decision
    stage reduces "the effect of too many neutral frames on non-neutral sequence classification". What they are here:

    * The trunk is a ResNet-18 up to its third stage (256 x 7 x 7), as the survey of Wang et al. (arXiv 2408.15777)
      names a ResNet-18.
    * `DynamicStaticFusion` has the form of the released code of the same authors' next paper, GCA+IAL (AAAI 2023), with
      one residual block in its dynamic branch where that has three: with one, the whole has the multiply-adds that the
      survey gives. The fused maps of T - 1 frames are flattened into tokens (4096-d), which two transformer layers read
      (4 heads x 32, MLP 512), as there.
    * The dynamic class token is **ours**: the mean of the dynamic branch's features over the frames, plus a learned
      position. The token that asks the frames what the clip shows thus starts from what moves in it.
    * The filter's rule is **ours**. The tokens are cut into `snippets` runs of neighbours, and the temporal stage and
      the classifier answer each run alone. A clip that is called neutral is answered anew, by the mean logits of those
      snippets that name another class with a probability of at least `confidence`, if there are any. It works on
      finished answers: in training it does nothing, and it has no parameters. `features` are those of the whole clip.

    Parameters
    ----------
    classes, channels: of the answer, and of the frames.
    frames, size: of the clips; positions are learned for them, so that others are refused (ValueError).
    width: of the ResNet's stem; maps and spatial tokens have 4 times as many channels.
    depth, heads, head_dim: of both transformers.
    spatial_mlp, temporal_mlp: hidden widths of their MLPs.
    snippets: how many runs the filter looks at, at most one for each pair of neighbouring frames.
    neutral: index of the neutral class, which the class list decides; None, or an index beyond `classes`, for a list
        without one, which turns the filter off.
    confidence: of a snippet that may overrule.
    dropout: in both transformers.
    """

    card = Card(
        title="NR-DFERNet",
        paper="Li et al., NR-DFERNet: Noise-Robust Network for Dynamic Facial Expression Recognition, arXiv 2206.04975",
        status="reconstructed",
        input=Input(16, 112),
        tiny={
            "frames": 4, "size": 32, "width": 8, "depth": 1, "heads": 2, "head_dim": 8, "spatial_mlp": 32,
            "temporal_mlp": 32,
        },
        tiny_input=Input(4, 32),
        published=(
            Published(
                "NR-DFERNet, 16 frames of 112 px, without the filter", "survey of Wang et al. (arXiv 2408.15777)",
                Input(16, 112), gmacs=6.33, config={"neutral": None},
            ),
        ),
        weights=("torchvision ResNet18_Weights.IMAGENET1K_V1, for the trunk: the torchvision model zoo",),
    )  # fmt: skip

    def __init__(
        self,
        classes: int = 7,
        channels: int = 3,
        frames: int = 16,
        size: int = 112,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        head_dim: int = 32,
        spatial_mlp: int = 256,
        temporal_mlp: int = 512,
        snippets: int = 3,
        neutral: int | None = EXPRESSIONS.index("Neutral"),
        confidence: float = 0.8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 < snippets < frames:
            raise ValueError(
                f"{frames} frames have {frames - 1} differences, which are not cut into {snippets} snippets"
            )
        self.frames, self.size = frames, size
        self.neutral = neutral if neutral is not None and neutral < classes else None
        self.confidence = confidence
        self.bounds = [round(cut * (frames - 1) / snippets) for cut in range(snippets + 1)]
        self.cnn = FrameResNet((2, 2, 2), channels=channels, width=width)
        inner, side = 4 * width, side_after(size, _HALVINGS + 1)
        self.fusion = DynamicStaticFusion(inner, side, depth, heads, head_dim, spatial_mlp, dropout)
        dim = inner * side**2
        self.position = nn.Parameter(torch.randn(1, frames, dim))  # the class token's and those of T - 1 frames
        self.temporal = nn.Sequential(*(Layer(dim, heads, head_dim, temporal_mlp, dropout) for _ in range(depth)))
        self.head = nn.Linear(dim, classes)

    def forward(self, batch: ClipBatch) -> ModelOutput:
        """See the class."""
        check_clip(self.card.title, batch.frames, self.frames, self.size)
        maps = self.cnn(batch.frames.flatten(0, 1)).unflatten(0, (len(batch), self.frames))
        static, dynamic = self.fusion(maps)
        tokens, moves = (static + dynamic).flatten(2), dynamic.flatten(2)  # [B,T-1,D]
        features = self._summary(tokens, moves, 0, self.frames - 1)
        logits = self.head(features)
        if not self.training and self.neutral is not None:
            summaries = [self._summary(tokens, moves, start, end) for start, end in pairwise(self.bounds)]
            logits = filtered(logits, self.head(torch.stack(summaries, dim=1)), self.neutral, self.confidence)
        return ModelOutput(logits, features)

    def _summary(self, tokens: Tensor, moves: Tensor, start: int, end: int) -> Tensor:
        """The class token [B,D] after the temporal stage has read tokens `start` to `end` alone."""
        cls = moves[:, start:end].mean(dim=1, keepdim=True) + self.position[:, :1]
        seen = tokens[:, start:end] + self.position[:, 1 + start : 1 + end]
        return self.temporal(torch.cat([cls, seen], dim=1))[:, 0]

    def adapted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """torchvision's ResNet-18: its stem and first three stages."""
        if "layer1.0.conv3.weight" in state:
            raise ValueError("these are the weights of a larger ResNet than ResNet-18")
        return {f"cnn.{name}": tensor for name, tensor in imagenet_weights(self.cnn, state).items()}


class DynamicStaticFusion(nn.Module):
    """Two branches that halve the side: maps [B,T,C,H,W] -> (static, dynamic) features, each [B,T-1,C,side,side].

    Static: a strided convolution of every frame but the last, and a transformer over its positions. Dynamic: the
    difference of each frame to the next one, through a strided residual block. Their sum is the fused feature.
    """

    def __init__(
        self, channels: int, side: int, depth: int, heads: int, head_dim: int, mlp_dim: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Sequential(
            nn.Conv2d(channels, channels, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.position = nn.Parameter(torch.randn(1, side**2, channels))
        self.static = nn.Sequential(*(Layer(channels, heads, head_dim, mlp_dim, dropout) for _ in range(depth)))
        self.dynamic = stage(channels, channels, 1, stride=2)
        initialise(self)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        clips = maps.shape[0]
        embedded = self.embedding(maps[:, :-1].flatten(0, 1))
        tokens = self.static(embedded.flatten(2).transpose(1, 2) + self.position)
        static = tokens.transpose(1, 2).unflatten(2, embedded.shape[2:])
        dynamic = self.dynamic((maps[:, 1:] - maps[:, :-1]).flatten(0, 1))
        return static.unflatten(0, (clips, -1)), dynamic.unflatten(0, (clips, -1))


def filtered(logits: Tensor, snippets: Tensor, neutral: int, confidence: float) -> Tensor:
    """Logits [B,C] of whole clips, overruled by those of their snippets [B,S,C] as `NrDfernet` says."""
    top, named = snippets.softmax(dim=2).max(dim=2)
    telling = (named != neutral) & (top >= confidence)  # [B,S]
    mean = (snippets * telling[..., None]).sum(dim=1) / telling.sum(dim=1).clamp(min=1)[:, None]
    overruled = (logits.argmax(dim=1) == neutral) & telling.any(dim=1)
    return torch.where(overruled[:, None], mean, logits)
