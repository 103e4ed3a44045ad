"""M3DFEL (Wang et al. 2023): a clip is a bag of short 3D instances, and the bag carries the label."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ray_fer.models.backbones.video_resnet import VideoResNet
from ray_fer.models.batch import ClipBatch, ModelOutput
from ray_fer.models.card import Card, Input, Model, Published


class M3dfel(Model):
    """M3DFEL: a bag of 3D instances through R3D-18, bi-LSTM and attention (Wang et al., CVPR 2023).

    The frames are cut into `instances` runs of neighbours, each of which torchvision's R3D-18 turns into one vector
    (512). A bi-LSTM of two layers reads the bag (1024 for each instance); multi-head attention without output
    projection, `Dmin` and a sigmoid make the gate that its output is multiplied with; a convolution of width 3 along
    the features merges the instances, and one linear layer answers.

    Parameters
    ----------
    classes, channels: of the answer, and of the frames.
    instances: in a bag, at least 2 (over one, `Dmin` has no variance). ValueError for clips whose frames they do not
        divide.
    width: of R3D-18's first stage.
    heads: of the attention.

    As the released code (Tencent/TFace, attribute/M3DFEL), which has no dropout and no loss beside cross-entropy with
    label smoothing. Two differences, neither of which changes a number that it gives: a batch of one clip works (its
    `squeeze()` loses the batch there), and `Dmin` computes the same variance so that rounding cannot make it negative.
    """

    card = Card(
        title="M3DFEL",
        paper="Wang et al., Rethinking the Learning Paradigm for Dynamic Facial Expression Recognition, CVPR 2023",
        status="faithful",
        input=Input(16, 112),
        tiny={"width": 4, "heads": 2},
        tiny_input=Input(8, 16),
        published=(
            Published(
                "M3DFEL, 16 frames of 112 px", "survey of Wang et al. (arXiv 2408.15777)", Input(16, 112), gmacs=1.66,
                reason="the released code has 43.2 G: it calls torchvision's R3D-18, which has 40.7 G for 16 frames of "
                "112 px by torchvision's own table, and cutting those into four instances saves nothing. How the 1.66 "
                "G were counted is not said",
            ),
        ),
        weights=("torchvision R3D_18_Weights.KINETICS400_V1, for the backbone: the torchvision model zoo",),
    )  # fmt: skip

    def __init__(
        self, classes: int = 7, channels: int = 3, instances: int = 4, width: int = 64, heads: int = 8
    ) -> None:
        super().__init__()
        if instances < 2:
            raise ValueError(f"a bag needs at least 2 instances, not {instances}")
        self.instances, self.heads = instances, heads
        self.backbone = VideoResNet("r3d_18", channels, width)
        inner, dim = self.backbone.dim, 2 * self.backbone.dim
        self.lstm = nn.LSTM(inner, inner, num_layers=2, batch_first=True, bidirectional=True)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.norm = Dmin(dim)
        self.merge = nn.Conv1d(instances, 1, 3, padding=1)
        self.head = nn.Linear(dim, classes)

    def forward(self, batch: ClipBatch) -> ModelOutput:
        """See the class."""
        if batch.frames.shape[1] % self.instances:
            raise ValueError(
                f"{batch.frames.shape[1]} frames do not divide into {self.instances} instances; build M3DFEL with "
                "instances= that divides them, or change the transform's frames"
            )
        instances = batch.frames.unflatten(1, (self.instances, -1)).flatten(0, 1)  # [B*I,T/I,C,H,W]
        vectors = self.backbone(instances)[0].unflatten(0, (len(batch), self.instances))
        bag, _ = self.lstm(vectors)  # [B,I,D]
        bag = bag * self.norm(self._attended(bag)).sigmoid()
        features = self.merge(bag)[:, 0]
        return ModelOutput(self.head(features), features)

    def _attended(self, bag: Tensor) -> Tensor:
        query, key, value = self.qkv(bag).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)

    def adapted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """torchvision's R3D-18."""
        if "stem.0.weight" not in state or "layer4.1.conv2.0.weight" not in state:
            raise ValueError("these are not the weights of torchvision's r3d_18")
        return {f"backbone.{name}": tensor for name, tensor in self.backbone.adapted(state).items()}


class Dmin(nn.Module):
    """Dynamic multi-instance normalisation: bags [B,I,D] -> [B,I,D].

    Each feature is centred and scaled with a learned mixture (softmax of two weights for the mean, of two for the
    variance) of two statistics: those of this feature over the bag's instances, and those over all features of the
    bag. Then a scale and a shift for each feature. Every bag is normalised by itself, so that a batch of one works. As
    in the released code the variance over instances is the unbiased one.
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(dim))
        self.shift = nn.Parameter(torch.zeros(dim))
        self.mean_weight = nn.Parameter(torch.ones(2))
        self.var_weight = nn.Parameter(torch.ones(2))

    def forward(self, bag: Tensor) -> Tensor:
        # Half precision would leave too little of a variance over a handful of instances.
        bag = bag.to(torch.promote_types(bag.dtype, torch.float32))
        var, mean = torch.var_mean(bag, dim=1, keepdim=True)  # [B,1,D]
        # Total variance: within the features, and between their means.
        bag_var = var.mean(dim=2, keepdim=True) + mean.var(dim=2, keepdim=True, correction=0)
        means = torch.stack([mean, mean.mean(dim=2, keepdim=True).expand_as(mean)])
        variances = torch.stack([var, bag_var.expand_as(var)])
        mixed_mean = torch.einsum("k,k...->...", self.mean_weight.softmax(0), means)
        mixed_var = torch.einsum("k,k...->...", self.var_weight.softmax(0), variances)
        return (bag - mixed_mean) * (mixed_var + self.eps).rsqrt() * self.scale + self.shift
