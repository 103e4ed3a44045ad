"""CA-FER (Singh et al., equations 1-15), its culture-agnostic baseline, and the ways to tell culture that it compares.

A backbone's latent f of a clip is scaled and shifted by parameters that come from a culture embedding (equations 6 and
12), which is seeded from the culture's Action Unit profile (equations 3-5) and then trained.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ray_fer.models.backbones.classified import Classified
from ray_fer.models.backbones.scenic_weights import vivit_from_scenic
from ray_fer.models.backbones.timesformer import TimeSformer, timesformer_from_hub
from ray_fer.models.backbones.video_resnet import VideoResNet
from ray_fer.models.backbones.vit_weights import vivit_from_vit, weights_kind
from ray_fer.models.backbones.vivit import ViViT
from ray_fer.models.batch import ClipBatch, ModelOutput
from ray_fer.models.card import Card, Input, Model, Published
from ray_fer.models.culture import (
    Concatenation,
    CultureHeads,
    Recalibration,
    one_hot_vectors,
    profile_matrix,
    random_embeddings,
    seeded_embeddings,
)

Conditioning = Literal["none", "random", "onehot", "heads", "au_fixed", "global", "au"]
CONDITIONINGS: tuple[Conditioning, ...] = get_args(Conditioning)
_LABEL_FREE = ("none", "global")


class CaFer(Model):
    """CA-FER: ViViT factorised encoder recalibrated by culture priors (Singh et al. 2026).

    Parameters
    ----------
    classes, cultures: number of expression classes C and of culture groups K.
    channels: of the frames; 6 where the transform appends differences.
    profiles: K min-max normalised AU profiles of 20 numbers (equation 4), which "au" and "au_fixed" need.
    global_profile: the mean AU profile on the same scale, which "au", "au_fixed" and "global" need.
    conditioning: how culture is told.
        "none": not at all (the culture-agnostic baseline of section III.C).
        "random": recalibration with embeddings that start at random (Table III).
        "onehot": the culture as a unit vector beside f (Table III, Figure 6).
        "heads": one classifier per culture (Table III, Figure 6).
        "au_fixed": the culture's AU profile beside f, not trained ("AU-concat Fixed", Table III).
        "global": recalibration with one embedding for all, from the mean profile; reads no label (Figure 7).
        "au": recalibration with embeddings from AU profiles, the proposed system.
    embedding_dim: d_e (128 in the paper), of "random", "global" and "au".
    culture_dropout: share of training clips whose culture label is hidden, so that the answer to an unknown culture is
        trained, too (see `culture`).
    dropout: in the classifier.
    hidden: width of the classifier's hidden layer, which the paper does not give; half of f's when None.
    backbone: "vivit", "timesformer" or "r3d_18" (section V.C.2).
    vivit, timesformer, r3d_18: keyword arguments of that backbone; the defaults are the paper's size.

    Raises ValueError for an unknown conditioning or backbone, or profiles that are missing or of the wrong shape.
    """

    card = Card(
        title="CA-FER",
        paper="Singh et al., Beyond Universality: The GCC-FER Dataset and Culture-Aware Adaptation for DFER, 2026",
        status="faithful",
        input=Input(16, 224),
        tiny={
            "embedding_dim": 8, "dropout": 0.0,
            "vivit": {
                "frames": 4, "size": 16, "patch": 8, "dim": 32, "spatial_depth": 1, "temporal_depth": 1, "heads": 2,
                "mlp_dim": 64,
            },
            "timesformer": {"frames": 4, "size": 16, "patch": 8, "dim": 32, "depth": 1, "heads": 2, "mlp_dim": 64},
            "r3d_18": {"width": 4},
        },
        tiny_input=Input(4, 16),
        published=(
            Published(
                "ViViT-B/16x2 factorised encoder, 400 classes", "Arnab et al. 2021, Table 1", Input(32, 224),
                parameters=115.1, gmacs=284.4, build=lambda: Classified(ViViT(frames=32), 768, 400),
            ),
            Published(
                "TimeSformer-B, divided space-time, 400 classes", "Bertasius et al. 2021, Table 2", Input(8, 224),
                parameters=121.4, gmacs=196.7, build=lambda: Classified(TimeSformer(frames=8), 768, 400),
            ),
        ),
        weights=(
            "ViT-B/16 of ImageNet-21k, timm's vit_base_patch16_224.augreg_in21k or google/vit-base-patch16-224-in21k: "
            "tubelets (central frame) and spatial encoder",
            "Scenic's vivit_base_16x2_fe (its Flax file, or an .npz of its arrays); a file whose temporal encoder has "
            "12 layers, as readers report of the public one, needs --set model_config_.vivit.temporal_depth=12",
            "facebook/timesformer-base-finetuned-k400, with --set model_config_.backbone=timesformer",
            "torchvision's R3D_18_Weights.KINETICS400_V1, with --set model_config_.backbone=r3d_18",
        ),
    )  # fmt: skip

    def __init__(
        self,
        classes: int = 7,
        cultures: int = 4,
        channels: int = 3,
        profiles: list[list[float]] | None = None,
        global_profile: list[float] | None = None,
        conditioning: Conditioning = "au",
        embedding_dim: int = 128,
        culture_dropout: float = 0.0,
        dropout: float = 0.3,
        hidden: int | None = None,
        backbone: Literal["vivit", "timesformer", "r3d_18"] = "vivit",
        vivit: dict[str, Any] | None = None,
        timesformer: dict[str, Any] | None = None,
        r3d_18: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if conditioning not in CONDITIONINGS:
            raise ValueError(f"unknown conditioning {conditioning!r}; expected one of {', '.join(CONDITIONINGS)}")
        self.conditioning = conditioning
        self.culture_dropout = culture_dropout
        self.backbone: ViViT | TimeSformer | VideoResNet
        if backbone == "vivit":
            self.backbone = ViViT(channels=channels, **(vivit or {}))
        elif backbone == "timesformer":
            self.backbone = TimeSformer(channels=channels, **(timesformer or {}))
        elif backbone == "r3d_18":
            self.backbone = VideoResNet(channels=channels, **(r3d_18 or {}))
        else:
            raise ValueError(f"unknown backbone {backbone!r}; expected vivit, timesformer or r3d_18")
        dim = self.backbone.dim
        self.fuse = nn.Linear(2 * dim, dim)  # equation 10
        self.recalibration: Recalibration | None = None
        self.concatenation: Concatenation | None = None
        if conditioning == "random":
            self.recalibration = Recalibration(random_embeddings(cultures, embedding_dim), dim)
        elif conditioning == "onehot":
            self.concatenation = Concatenation(one_hot_vectors(cultures))
        elif conditioning == "au_fixed":
            self.concatenation = Concatenation(profile_matrix(profiles, global_profile, cultures))
        elif conditioning == "global":
            mean = profile_matrix([], global_profile, 0)
            self.recalibration = Recalibration(seeded_embeddings(mean, embedding_dim), dim)
        elif conditioning == "au":
            priors = profile_matrix(profiles, global_profile, cultures)
            self.recalibration = Recalibration(seeded_embeddings(priors, embedding_dim), dim)

        inputs = dim if self.concatenation is None else dim + self.concatenation.vectors.shape[1]

        width = hidden or dim // 2

        def classifier() -> nn.Sequential:  # equations 13 and 14
            return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, classes))

        self.classifier: nn.Module = (
            CultureHeads([classifier() for _ in range(cultures)]) if conditioning == "heads" else classifier()
        )

    def forward(self, batch: ClipBatch) -> ModelOutput:
        """`features` are f, or f' where it is recalibrated: what the paper draws in Figure 8."""
        cls, patches = self.backbone(batch.frames)
        latent = self.fuse(torch.cat([cls, patches.mean(dim=1)], dim=1))  # equations 9 and 10
        culture = self._cultures(batch)
        if self.recalibration is not None:
            latent = self.recalibration(latent, culture)
        seen = latent if self.concatenation is None else self.concatenation(latent, culture)
        told = (seen, culture) if isinstance(self.classifier, CultureHeads) else (seen,)
        return ModelOutput(logits=self.classifier(*told), features=latent)

    def adapted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """See `Model`: weights of the backbone, none of the head."""
        kind = weights_kind(state)
        if isinstance(self.backbone, VideoResNet):
            ours = self.backbone.adapted(state)
        elif isinstance(self.backbone, TimeSformer):
            ours = timesformer_from_hub(state, self.backbone)
        elif kind == "vit":
            ours = vivit_from_vit(state, self.backbone)
        else:
            ours = vivit_from_scenic(state, self.backbone)
        return {f"backbone.{name}": tensor for name, tensor in ours.items()}

    def _cultures(self, batch: ClipBatch) -> Tensor:
        unknown = torch.full((len(batch),), -1, dtype=torch.long, device=batch.frames.device)
        if self.conditioning in _LABEL_FREE or batch.culture is None:
            return unknown
        if self.training and self.culture_dropout > 0:
            hidden = torch.rand(len(batch), device=batch.frames.device) < self.culture_dropout
            return torch.where(hidden, unknown, batch.culture)
        return batch.culture
